"""`scalarize`, and the number of scalar operations of a program."""

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any

import jax

from xorjax.lanes.jaxprs import AnyJaxpr, open_jaxpr, sub_jaxprs
from xorjax.lanes.scalar.control_flow import CONTROL_FLOW
from xorjax.lanes.scalar.interpreter import ScalarInterpreter
from xorjax.lanes.scalar.objects import MAX_ELEMENTS
from xorjax.lanes.scalar.structure import STRUCTURE

MAX_OPERATIONS = 20_000


def scalarize(
    fn: Callable[..., Any], *, assume_finite: bool = False, max_operations: int = MAX_OPERATIONS
) -> Callable[..., Any]:
    """Return `fn` with every array element as a scalar; `jax.jit(jax.vmap(scalarize(fn)))` equals `vmap(fn)`.

    For programs of tens to thousands of scalar operations, for which it is often several times faster. Every
    function is accepted. Primitives that only move elements cost nothing. Elementwise primitives are applied
    element by element. Products and reductions are written out as sums **from the first term to the last**, for
    any number of members. Loops, branches, `jax.checkpoint` and custom derivatives stay what they are, with
    scalarized bodies. A primitive without a rule (random bits, linear algebra, callbacks) is applied to the
    assembled array. The result composes with jit, vmap, grad and the other transformations of JAX. (If the last
    bit must not depend on the number of members, use `lane_vmap`, which runs blocks of one size.)

    Values that are known while tracing are computed then, and equal operations are written once. If the base of an
    integer power is known, the power is a product of stored powers of the base, with an error of at most one ulp
    for every bit of the exponent. Multiplying or dividing by 1, and adding a zero that changes nothing (−0.0, or a
    subtracted 0.0), are removed.

    Args:
      fn: a function of pytrees of arrays to pytrees of arrays.
      assume_finite: whether a product with a constant 0 is 0 (although it is NaN if the other factor is infinite
        or NaN), and a sum with a constant 0.0 is its other term (although −0.0 + 0.0 is 0.0). This saves
        operations if the data are constants with zeros, such as the truth table of XOR. It is not assumed of
        results of a logarithm, a quotient or another operation that may be infinite for finite operands.
      max_operations: the largest upper bound on the number of scalar operations; compiling more takes minutes.

    Returns:
      A function of the same arguments, with the same results to rounding.

    Raises:
      TypeError: if `fn` is not a function.
      ValueError: when called, if `fn` may need more than `max_operations`; the message says how many.

    >>> import jax.numpy as jnp
    >>> layer = lambda w, x: jnp.tanh(x @ w)
    >>> float(scalarize(layer)(jnp.zeros((2, 1)), jnp.ones((1, 2)))[0, 0])
    0.0
    """
    if not callable(fn):
        raise TypeError(f"{fn=} must be a function.")

    @wraps(fn)
    def scalarized(*args: Any, **kwargs: Any) -> Any:
        closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        operations = bound_operations(closed)
        if operations > max_operations:
            raise ValueError(
                f"{getattr(fn, '__name__', fn)} may need up to {operations:,} scalar operations, more than "
                f"{max_operations=:,}; use jax.vmap or lane_vmap, or allow more."
            )
        outs = ScalarInterpreter(assume_finite).apply_jaxpr(*open_jaxpr(closed), jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(out_shapes), outs)

    return scalarized


def count_operations(fn: Callable[..., Any], *args: Any, assume_finite: bool = False, **kwargs: Any) -> int:
    """Return the number of scalar operations of `scalarize(fn)`; a loop's body counts once.

    Traces `fn`, and compiles nothing.

    Args:
      fn: as for `scalarize`.
      args: the arguments of `fn`: pytrees of arrays or of `jax.ShapeDtypeStruct`s.
      assume_finite: as for `scalarize`.
      kwargs: keyword arguments of `fn`.

    >>> import jax.numpy as jnp
    >>> count_operations(lambda x, y: jnp.sum(x * y), jnp.ones(3), jnp.ones(3))  # 3 products, 2 sums
    5
    """
    scalars = ScalarInterpreter(assume_finite)
    jax.eval_shape(lambda *args, **kwargs: scalars.apply(fn, *args, **kwargs), *args, **kwargs)
    return scalars.count[0]


def bound_operations(jaxpr: AnyJaxpr, largest: float = MAX_ELEMENTS) -> int:
    """Return an upper bound on the number of scalar operations of a jaxpr, from shapes alone.

    Arrays larger than `largest` do not count; by default, they are those that are not split into elements.
    """
    total = 0
    for eqn in open_jaxpr(jaxpr)[0].eqns:
        name, inner = eqn.primitive.name, sub_jaxprs(eqn)
        if inner and name in CONTROL_FLOW:
            total += sum(bound_operations(body, largest) for body in inner)
        elif name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            lhs = eqn.invars[0].aval.shape
            total += 2 * prod(eqn.outvars[0].aval.shape) * prod(lhs[axis] for axis in contracted)
        elif name not in STRUCTURE:
            sizes = [prod(getattr(v.aval, "shape", ())) for v in [*eqn.invars, *eqn.outvars]]
            total += max((size for size in sizes if size <= largest), default=0)
    return total
