"""A loop of arithmetic as one native function; in other loops, XLA:CPU dispatches the operations one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress
from typing import Any, Literal

import jax
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from xorjax.lanes.jaxprs import as_function, outlined_call, platform, primitive_names, replace_where
from xorjax.lanes.scalar.elementwise import ELEMENTWISE

Depth = Literal["scalar", "array", "vmap"]
Run = Callable[..., list[Array]]  # of arrays

LOOPS = frozenset(("scan", "while"))
# Primitives that XLA:CPU compiles into one native function; the default generator's bits are arithmetic too.
ARITHMETIC = ELEMENTWISE | set(
    """bitcast_convert_type broadcast_in_dim concatenate cond copy custom_jvp_call custom_vjp_call dynamic_slice
    dynamic_update_slice iota jit optimization_barrier pad pjit random_bits random_fold_in random_seed
    random_split random_unwrap random_wrap reshape rev scan slice split squeeze stack threefry2x32 tile transpose
    unstack while""".split()
)


def run_native(run: Run, depth: Depth, *leaves: Array) -> list[Array]:
    """Return `run(True, *leaves)` from one native function if XLA:CPU can make one, else `run(False, *leaves)`.

    XLA:CPU dispatches each operation of a loop's body on its own, for some fifty nanoseconds each, unless the body
    is small by a measure that differs between versions. A program whose operations are all in `ARITHMETIC`, with a
    loop, becomes a native function. Derivatives are those of `run(False, …)`.

    Args:
      run: `run(is_native, *leaves)`.
      depth: at "vmap", nothing is native.
      leaves: arrays.
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


def _call_native(run: Run, leaves: Sequence[Array]) -> list[Array]:
    # XLA aborts if simplification removes a parameter entirely, so return one element of each, and leave out those
    # that have none.
    are_full = [leaf.size > 0 for leaf in leaves]

    def run_and_return(*present: Array) -> tuple[list[Array], list[Array]]:
        return run(*replace_where(are_full, present, leaves)), [leaf.reshape(-1)[:1] for leaf in present]

    both = outlined_call(run_and_return, *compress(leaves, are_full), native=True)
    return lax.optimization_barrier(both)[0]


def _differentiate_plain(plain: Run, primals: Sequence[Array], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return results and tangents of `plain`; arguments whose tangent is a symbolic zero are constants."""
    are_moving = [not isinstance(t, SymbolicZero) for t in tangents]

    def run_moving(*moving: Array) -> list[Array]:
        return plain(*replace_where(are_moving, moving, primals))

    return jax.jvp(run_moving, list(compress(primals, are_moving)), list(compress(tangents, are_moving)))
