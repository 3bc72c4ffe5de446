"""The backends of Pallas that a loop of scalars can go to: what each can lower, and how its kernel is launched.

Triton is for NVIDIA's GPUs from the Ampere generation on, Mosaic for TPUs; a CPU interprets the kernel, for tests.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import Array, lax

# Primitives that every backend lowers on float32, 32-bit integers and Booleans, in the versions 0.10 and 0.12 of
# JAX; then those that only some lower.
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


class KernelBackend(NamedTuple):
    """A compiler of kernels for one platform.

    Attributes:
      name: the name in `BACKENDS`.
      platform: the platform, as JAX names it.
      lanes: the shape of a vector of members.
      primitives: the primitives that it lowers.
      dtypes: the names of the dtypes that it lowers.
      registers: registers of 32 bits for a member; a program that needs more would spill to memory.
      launch_options: `launch_options()`, the arguments of `pallas_call` for this platform.
      counts_space: `counts_space()`, the memory in which a kernel reads its counts; None is the usual one.
      substitutes: functions of float32 scalars to use in place of these primitives.
    """

    name: str
    platform: str
    lanes: tuple[int, ...]
    primitives: frozenset[str]
    dtypes: frozenset[str]
    registers: int
    launch_options: Callable[[], dict[str, Any]]
    counts_space: Callable[[], Any] = lambda: None
    substitutes: Mapping[str, Callable[..., Any]] = MappingProxyType({})

    def __hash__(self) -> int:
        return hash(self.name)


def launch_grid(
    backend: KernelBackend,
    kernel: Callable[..., None],
    n_blocks: int,
    counts: Array,
    arrays: Sequence[Array],
    outs: Sequence[jax.ShapeDtypeStruct],
    n_carried: int,
) -> list[Array]:
    """Launch a kernel over a grid of blocks, one vector of members each.

    Args:
      backend: the compiler.
      kernel: `kernel(block, counts, *ins, *outs)`, with the number of the block, and references to memory.
      n_blocks: number of vectors.
      counts: int32, the same for all blocks.
      arrays: (elements, members) each; the first `n_carried` return, in the same memory.
      outs: shapes of the results, (elements, members) each, first those that are carried.
      n_carried: number of arrays that are carried.
    """
    from jax.experimental import pallas as pl

    lanes = backend.lanes

    def lane_shape(shape: Sequence[int]) -> tuple[int, ...]:
        rows, members = shape
        return (rows, members // prod(lanes[1:]), *lanes[1:])

    def block_spec(rows: int) -> pl.BlockSpec:
        return pl.BlockSpec((rows, *lanes), lambda block: (0, block, *(0 for _ in lanes[1:])))

    results = pl.pallas_call(
        lambda *refs: kernel(pl.program_id(0), *refs),
        grid=(n_blocks,),
        in_specs=[pl.BlockSpec(memory_space=backend.counts_space()), *(block_spec(a.shape[0]) for a in arrays)],
        out_specs=[block_spec(out.shape[0]) for out in outs],
        out_shape=[jax.ShapeDtypeStruct(lane_shape(out.shape), out.dtype) for out in outs],
        input_output_aliases={i + 1: i for i in range(n_carried)},
        **backend.launch_options(),
    )(counts, *(a.reshape(lane_shape(a.shape)) for a in arrays))
    return [result.reshape(out.shape) for result, out in zip(results, outs, strict=True)]


def _triton_options() -> dict[str, Any]:
    from jax.experimental.pallas import triton

    return {"compiler_params": triton.CompilerParams(num_warps=4, num_stages=1)}


def _scalar_memory() -> Any:
    from jax.experimental.pallas import tpu

    return tpu.SMEM


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
    """Return an operation on scalars that a kernel does by such instructions, on a vector at once."""

    def map_lanes(size: int, are_vectors: Sequence[bool], *xs: Array) -> tuple[Array, bool]:
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
    operation.def_vmap(map_lanes)
    return operation


WARP_GROUP = 128
GPU_WORDS = WORDS | LONG

_TRITON = KernelBackend("triton", "cuda", (WARP_GROUP,), COMMON | LARGER | TRITON, GPU_WORDS, 224, _triton_options)
_FAST = _TRITON._replace(
    name="triton, fast",
    primitives=_TRITON.primitives | {"elementwise_inline_asm", "elementwise_inline_asm_p"},
    substitutes=MappingProxyType({name: _approximate(name) for name in INSTRUCTIONS}),
)
_TPU = KernelBackend("tpu", "tpu", (8, 128), COMMON | LARGER | TPU, WORDS, 1_000, dict, _scalar_memory)
_INTERPRET = KernelBackend(
    "interpret",
    "cpu",
    (WARP_GROUP,),
    COMMON | LARGER | TRITON | TPU,
    GPU_WORDS,
    1_000,
    lambda: {"interpret": True},
)
BACKENDS = {backend.name: backend for backend in (_TRITON, _FAST, _TPU, _INTERPRET)}
