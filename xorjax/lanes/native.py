"""A loop of arithmetic as one native function of a CPU, where XLA:CPU would dispatch its operations one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero

from xorjax.lanes.jaxprs import as_function, outlined_call, platform, primitive_names
from xorjax.lanes.scalar.elementwise import ELEMENTWISE

Depth = Literal["scalar", "array", "vmap"]
LOOPS = frozenset(("scan", "while"))
# What XLA:CPU can put into one native function. Random bits are arithmetic too, by the default generator.
ARITHMETIC = ELEMENTWISE | set(
    """bitcast_convert_type broadcast_in_dim concatenate cond copy custom_jvp_call custom_vjp_call dynamic_slice
    dynamic_update_slice iota jit optimization_barrier pad pjit random_bits random_fold_in random_seed
    random_split random_unwrap random_wrap reshape rev scan slice split squeeze stack threefry2x32 tile transpose
    unstack while""".split()
)


def run_native(run: Callable[..., list[Any]], depth: Depth, *leaves: Any) -> list[Any]:
    """`run(True, *leaves)` in one native function where a CPU's can hold it, else `run(False, *leaves)`.

    XLA:CPU otherwise dispatches every operation of a loop's body by itself, some fifty nanoseconds each, unless
    the body is small by its own measure, which differs between versions. Derivatives are of `run(False, …)`.
    """
    plain = partial(run, False)
    if platform() != "cpu" or depth == "vmap":
        return plain(*leaves)
    closed = jax.make_jaxpr(partial(run, True))(*leaves)
    names = primitive_names(closed)
    if not names <= ARITHMETIC or names.isdisjoint(LOOPS):
        return plain(*leaves)
    native = jax.custom_jvp(lambda *leaves: _call_native(as_function(closed), leaves))
    native.defjvp(partial(_differentiate_plain, plain), symbolic_zeros=True)
    return native(*leaves)


def _call_native(run: Callable[..., list[Any]], leaves: Sequence[Any]) -> list[Any]:
    # A parameter of which nothing is left after simplification makes XLA abort the process: give one element of
    # each back, and leave out what has none.
    full = [leaf.size > 0 for leaf in leaves]

    def run_and_return(*present: Any) -> Any:
        given = iter(present)
        whole = [next(given) if is_full else leaf for leaf, is_full in zip(leaves, full, strict=True)]
        return run(*whole), [leaf.reshape(-1)[:1] for leaf in present]

    present = [leaf for leaf, is_full in zip(leaves, full, strict=True) if is_full]
    both = outlined_call(run_and_return, *present, native=True)
    return lax.optimization_barrier(both)[0]


def _differentiate_plain(plain: Callable[..., list[Any]], primals: Any, tangents: Any) -> Any:
    moves = [not isinstance(t, SymbolicZero) for t in tangents]

    def moving(*moved: Any) -> list[Any]:
        given = iter(moved)
        return plain(*(next(given) if m else primal for primal, m in zip(primals, moves, strict=True)))

    moved, along = ([x for x, m in zip(xs, moves, strict=True) if m] for xs in (primals, tangents))
    return jax.jvp(moving, moved, along)
