"""Rules for matrix products and reductions: written out as sums of slices, from the first term to the last.

With the lanes last, XLA's own products and reductions are slow, while sums of slices vectorize over the lanes.
"""

from collections.abc import Sequence
from functools import reduce
from math import prod

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from xorjax.lanes.arrays.rules import keep_axes
from xorjax.lanes.arrays.values import Interpreter, Mapped, Results, Rule, Value, to_array
from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.reductions import REDUCTIONS, is_half_precision

MAX_TERMS = 256  # of a sum that is written out


def _dot_general(lanes: Interpreter, eqn: Equation, lhs: Value, rhs: Value) -> Results:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    (out,) = eqn.outvars
    lhs_shape, rhs_shape = (v.aval.shape for v in eqn.invars)
    n_terms = prod(lhs_shape[axis] for axis in lhs_contract)
    if not 0 < n_terms <= MAX_TERMS or out.aval.dtype == np.bool_:
        return NotImplemented
    dtype = jnp.float32 if is_half_precision(out.aval.dtype) else out.aval.dtype

    def arrange(x: Value, shape: Sequence[int], batch: Sequence[int], contract: Sequence[int]) -> Array:
        """Return (contracted, batch, free[, lanes]), each of them flat."""
        free = [axis for axis in range(len(shape)) if axis not in (*batch, *contract)]
        order = (*contract, *batch, *free)
        sizes = [prod(shape[axis] for axis in axes) for axes in (contract, batch, free)]
        array = jnp.asarray(to_array(x)).astype(dtype)
        ends = (lanes.n,) if isinstance(x, Mapped) else ()
        array = lax.transpose(array, (*order, len(shape)) if ends else order)
        return lax.reshape(array, (*sizes, *ends))

    lhs, rhs = lanes.materialize(lhs), lanes.materialize(rhs)
    left = arrange(lhs, lhs_shape, lhs_batch, lhs_contract)
    right = arrange(rhs, rhs_shape, rhs_batch, rhs_contract)
    full = (*left.shape[1:3], right.shape[2], lanes.n)

    def factor(x: Array, k: int, axes: tuple[int, int]) -> Array:
        part = lax.index_in_dim(x, k, axis=0, keepdims=False)
        return lax.broadcast_in_dim(part, full, (*axes, 3)[: part.ndim])

    total = reduce(lax.add, (factor(left, k, (0, 1)) * factor(right, k, (0, 2)) for k in range(n_terms)))
    return [Mapped(lax.reshape(total, (*out.aval.shape, lanes.n)).astype(out.aval.dtype))]


def _collect_terms(lanes: Interpreter, x: Mapped, axes: Sequence[int]) -> list[Array]:
    """Return the slices that a reduction combines, in order."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    moved = lax.transpose(x.array, (*axes, *kept, len(x.shape)))
    n_terms = prod(x.shape[axis] for axis in axes)
    flat = lax.reshape(moved, (n_terms, *(x.shape[axis] for axis in kept), lanes.n))
    return [lax.index_in_dim(flat, k, axis=0, keepdims=False) for k in range(n_terms)]


def _reduction(lanes: Interpreter, eqn: Equation, x: Mapped) -> Results:
    axes, dtype = eqn.params["axes"], x.dtype
    if not 0 < prod(x.shape[axis] for axis in axes) <= MAX_TERMS:
        return keep_axes(lanes, eqn, x)
    is_half = is_half_precision(dtype) and eqn.primitive.name in ("reduce_sum", "reduce_prod")
    _, operation = REDUCTIONS[eqn.primitive.name]
    terms = _collect_terms(lanes, Mapped(x.array.astype(jnp.float32)) if is_half else x, axes)
    return [Mapped(reduce(operation, terms).astype(dtype))]


def _argmax_or_argmin(lanes: Interpreter, eqn: Equation, x: Mapped) -> Results:
    """Return the index of the first best element; NaN is better than every number."""
    axes, index_dtype = eqn.params["axes"], eqn.params["index_dtype"]
    if not 0 < prod(x.shape[axis] for axis in axes) <= MAX_TERMS:
        return keep_axes(lanes, eqn, x)
    better = lax.gt if eqn.primitive.name == "argmax" else lax.lt
    best, *rest = _collect_terms(lanes, x, axes)
    index = jnp.zeros(best.shape, index_dtype)
    for i, candidate in enumerate(rest, 1):
        wins = better(candidate, best) | ((candidate != candidate) & (best == best))
        best, index = lax.select(wins, candidate, best), lax.select(wins, jnp.full_like(index, i), index)
    return [Mapped(index)]


PRODUCT_RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(("argmax", "argmin"), _argmax_or_argmin),
    "dot_general": _dot_general,
}
