"""The ways from a loop of scalars to an accelerator: what each can hold, and how it is launched.

Pallas has two for GPUs. Triton's knows nearly all operations and every GPU from the Ampere generation on; Mosaic's
knows Hopper and later alone, and lacks square roots and powers, which most optimizers want, and more.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import lax

# Primitives that every route lowers on float32, 32-bit integers and Booleans, by JAX's version 0.10 and 0.12; and
# what some lower besides.
COMMON = frozenset(
    """abs add and bitcast_convert_type broadcast_in_dim clamp convert_element_type cos div eq exp exp2 ge gt
    jit le log logistic lt max min mul ne neg not or pjit rsqrt scan select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin square sub tanh while xor""".split()
)
LARGER = frozenset(
    """atan2 ceil clz erf_inv floor integer_pow is_finite log1p nextafter population_count pow rem sqrt
    tan""".split()
)
TRITON = frozenset("acos acosh asin asinh atan atanh cbrt cosh expm1 sinh".split())
TPU = frozenset("erf round".split())

WORDS = frozenset(("bool", "float32", "int32", "uint32"))
LONG = frozenset(("float64", "int64", "uint64"))


class Route(NamedTuple):
    """A way from a loop to an accelerator.

    Attributes:
      name: what it is called.
      platform: that it is for, as JAX names it.
      lanes: the shape of a vector of members.
      primitives: that it lowers.
      dtypes: that it lowers, by name.
      registers: of 32 bits, for a member; what needs more would go to memory and back.
      launch: `launch(kernel, n_blocks, arrays, outs, n_carried) -> outs`, for arrays of (numbers, members), the
        first of them one of counts; the next `n_carried` come back first.
      reports: whether its kernels can report something at the end of each time.
      substitutes: functions of float32 scalars to use for these primitives.
    """

    name: str
    platform: str
    lanes: tuple[int, ...]
    primitives: frozenset[str]
    dtypes: frozenset[str]
    registers: int
    launch: Callable[..., list[Any]]
    reports: bool = True
    substitutes: Mapping[str, Callable[..., Any]] = MappingProxyType({})

    def __hash__(self) -> int:
        return hash(self.name)


def _by_grid(
    lanes: tuple[int, ...],
    options: Callable[[], dict[str, Any]],
    kernel: Callable[..., None],
    n_blocks: int,
    arrays: Sequence[Any],
    outs: Sequence[jax.ShapeDtypeStruct],
    n_carried: int,
) -> list[Any]:
    """As a grid of blocks; what is carried comes back in the memory that it came in."""
    from jax.experimental import pallas as pl

    given = options()
    counts = pl.BlockSpec(memory_space=given.pop("counts_in", None))

    def laid_out(shape: Sequence[int]) -> tuple[int, ...]:
        rows, members = shape
        return (rows, members // prod(lanes[1:]), *lanes[1:])

    def block_of(rows: int) -> Any:
        return pl.BlockSpec((rows, *lanes), lambda block: (0, block, *(0 for _ in lanes[1:])))

    def of_block(*refs: Any) -> None:
        kernel(pl.program_id(0), lambda i: i, *refs)

    results = pl.pallas_call(
        of_block,
        grid=(n_blocks,),
        in_specs=[counts, *(block_of(a.shape[0]) for a in arrays[1:])],
        out_specs=[block_of(out.shape[0]) for out in outs],
        out_shape=[jax.ShapeDtypeStruct(laid_out(out.shape), out.dtype) for out in outs],
        input_output_aliases={i + 1: i for i in range(n_carried)},
        **given,
    )(arrays[0], *(a.reshape(laid_out(a.shape)) for a in arrays[1:]))
    return [result.reshape(out.shape) for result, out in zip(results, outs, strict=True)]


def _triton() -> dict[str, Any]:
    from jax.experimental.pallas import triton

    return {"compiler_params": triton.CompilerParams(num_warps=4, num_stages=1)}


def _tpu() -> dict[str, Any]:
    from jax.experimental.pallas import tpu

    return {"counts_in": tpu.SMEM}


def _by_mosaic_gpu(
    kernel: Callable[..., None],
    n_blocks: int,
    arrays: Sequence[Any],
    outs: Sequence[jax.ShapeDtypeStruct],
    n_carried: int,
) -> list[Any]:
    """By warp groups of 128 threads that read and write the GPU's memory themselves."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu

    def of_block(*refs: Any) -> None:
        block = lax.axis_index("block")
        kernel(block, lambda i: (i, pl.ds(block * WARP_GROUP, WARP_GROUP)), *refs)

    call = mosaic_gpu.kernel(of_block, out_type=tuple(outs), grid=(n_blocks,), grid_names=("block",))
    return list(call(*arrays))


# Approximate instructions of NVIDIA's GPUs, of an error of some units in the last place and without subnormal
# numbers (PTX ISA, "floating-point instructions"). 0f3FB8AA3B is the logarithm of e to the base 2.
INSTRUCTIONS = {
    "div": "div.full.ftz.f32 $0, $1, $2;",
    "exp": "{ .reg .f32 t; mul.f32 t, $1, 0f3FB8AA3B; ex2.approx.ftz.f32 $0, t; }",
    "log": "{ .reg .f32 t; lg2.approx.ftz.f32 t, $1; mul.f32 $0, t, 0f3F317218; }",
    "logistic": "{ .reg .f32 t; mul.f32 t, $1, 0fBFB8AA3B; ex2.approx.ftz.f32 t, t; add.f32 t, t, 0f3F800000; "
    "rcp.approx.ftz.f32 $0, t; }",
    "rsqrt": "rsqrt.approx.ftz.f32 $0, $1;",
    "sqrt": "sqrt.approx.ftz.f32 $0, $1;",
    "tanh": "{ .reg .f32 t; mul.f32 t, $1, 0f4038AA3B; ex2.approx.ftz.f32 t, t; add.f32 t, t, 0f3F800000; "
    "rcp.approx.ftz.f32 t, t; fma.rn.f32 $0, t, 0fC0000000, 0f3F800000; }",
}


def _approximate(name: str) -> Callable[..., Any]:
    """An operation on scalars that the vector of a kernel does by such instructions."""

    def of_lanes(size: int, are_vectors: Sequence[bool], *xs: Any) -> tuple[Any, bool]:
        from jax.experimental.pallas import triton

        (out,) = triton.elementwise_inline_asm(
            INSTRUCTIONS[name],
            args=[jnp.broadcast_to(x, (size,)) for x in xs],
            constraints=",".join(["=f", *("f" for _ in xs)]),
            pack=1,
            result_shape_dtypes=[jax.ShapeDtypeStruct((size,), jnp.float32)],
        )
        return out, True

    operation = jax.custom_batching.custom_vmap(getattr(lax, name))
    operation.def_vmap(of_lanes)
    return operation


WARP_GROUP = 128
GPU_WORDS = WORDS | LONG

_TRITON = Route(
    "triton",
    "cuda",
    (WARP_GROUP,),
    COMMON | LARGER | TRITON,
    GPU_WORDS,
    224,
    partial(_by_grid, (WARP_GROUP,), _triton),
)
_FAST = _TRITON._replace(
    name="triton, fast",
    primitives=_TRITON.primitives | {"elementwise_inline_asm", "elementwise_inline_asm_p"},
    substitutes=MappingProxyType({name: _approximate(name) for name in INSTRUCTIONS}),
)
_MOSAIC_GPU = Route("mosaic_gpu", "cuda", (WARP_GROUP,), COMMON, GPU_WORDS, 224, _by_mosaic_gpu, reports=False)
_TPU = Route("tpu", "tpu", (8, 128), COMMON | LARGER | TPU, WORDS, 1_000, partial(_by_grid, (8, 128), _tpu))
_INTERPRET = Route(
    "interpret",
    "cpu",
    (WARP_GROUP,),
    COMMON | LARGER | TRITON | TPU,
    GPU_WORDS,
    1_000,
    partial(_by_grid, (WARP_GROUP,), lambda: {"interpret": True}),
)
ROUTES = {route.name: route for route in (_TRITON, _FAST, _MOSAIC_GPU, _TPU, _INTERPRET)}
