"""What `lane_vmap` knows of array operations at its second depth: arrays stay arrays, with the lanes last.

A mapped array of shape `shape` is held as (*shape, lanes). Elementwise operations then run along the lanes,
and moving elements about needs no more than another axis; only what is contracted is written out, as a sum of
slices from the first to the last, since a product of matrices or a reduction in this layout is slow. A rule is
called as `rule(lanes, eqn, *operands)`; NotImplemented asks for `jax.vmap` of that one operation.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.elementwise import ELEMENTWISE, has_known_base, power
from xorjax.lanes.scalar.indexing import is_sortable, make_row_less, match_row_gather, pick_row, sort_by_exchanges
from xorjax.lanes.scalar.reductions import REDUCTIONS, is_half_precision

MAX_TERMS = 256  # of a written-out sum


class Mapped(NamedTuple):
    """A mapped value: its array has the lanes as one more axis, the last."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one member."""
        return self.array.shape[:-1]


def broadcast_lanes(n_lanes: int, x: Any, shape: Sequence[int]) -> Any:
    """A value as an array (*shape, lanes), scalars repeated for every element."""
    target = (*shape, n_lanes)
    if not isinstance(x, Mapped):
        x = jnp.asarray(x)
        return lax.broadcast_in_dim(x, target, range(len(shape) - x.ndim, len(shape)))
    if x.array.shape == target:
        return x.array
    axes = range(len(shape) - len(x.shape), len(shape))
    return lax.broadcast_in_dim(x.array, target, (*axes, len(shape)))


def _elementwise(lanes: Any, eqn: Equation, *operands: Any) -> list[Mapped]:
    shape = eqn.outvars[0].aval.shape
    arrays = [broadcast_lanes(lanes.n, x, shape) for x in operands]
    return [Mapped(eqn.primitive.bind(*arrays, **eqn.params))]


def _apply_to_arrays(name: str, operation: Callable[..., Any], *operands: Any) -> Any:
    """What `Scalars.scalar` is for scalars; known numbers are repeated."""
    shape = next(x.shape for x in operands if not isinstance(x, np.generic))
    arrays = [lax.broadcast(np.asarray(x), shape) if isinstance(x, np.generic) else x for x in operands]
    return operation(*arrays)


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    if isinstance(condition, np.bool_):
        return yes if condition else no
    return _apply_to_arrays("select_n", lax.select_n, condition, no, yes)


def _pow(lanes: Any, eqn: Equation, x: Any, y: Any) -> list[Mapped]:
    known = isinstance(x, np.ndarray) and not x.ndim
    if known and has_known_base(x[()], y.array):
        return [Mapped(power(_apply_to_arrays, _choose, x[()], y.array))]
    return _elementwise(lanes, eqn, x, y)


def _optimization_barrier(lanes: Any, eqn: Equation, *operands: Any) -> list[Any]:
    arrays = lax.optimization_barrier([x.array if isinstance(x, Mapped) else x for x in operands])
    return [Mapped(a) if isinstance(x, Mapped) else a for x, a in zip(operands, arrays, strict=True)]


# Structure: one more axis.


def _broadcast_in_dim(lanes: Any, eqn: Equation, x: Mapped, *dynamic: Any) -> Any:
    shape = eqn.params["shape"]
    return [
        Mapped(lax.broadcast_in_dim(x.array, (*shape, lanes.n), (*eqn.params["broadcast_dimensions"], len(shape))))
    ]


def _reshape(lanes: Any, eqn: Equation, x: Mapped) -> list[Mapped]:
    order = eqn.params["dimensions"]
    array = x.array if order is None else lax.transpose(x.array, (*order, len(order)))
    return [Mapped(lax.reshape(array, (*eqn.params["new_sizes"], lanes.n)))]


def _concatenate(lanes: Any, eqn: Equation, *operands: Any) -> list[Mapped]:
    arrays = [broadcast_lanes(lanes.n, x, v.aval.shape) for x, v in zip(operands, eqn.invars, strict=True)]
    return [Mapped(lax.concatenate(arrays, eqn.params["dimension"]))]


def _stack(lanes: Any, eqn: Equation, *operands: Any) -> list[Mapped]:
    arrays = [broadcast_lanes(lanes.n, x, v.aval.shape) for x, v in zip(operands, eqn.invars, strict=True)]
    return [Mapped(jnp.stack(arrays, eqn.params["axis"]))]


def _tile(lanes: Any, eqn: Equation, x: Mapped) -> list[Mapped]:
    return [Mapped(lax.tile(x.array, (*eqn.params["reps"], 1)))]


def _bitcast_convert_type(lanes: Any, eqn: Equation, x: Mapped) -> Any:
    lanes_first = lax.bitcast_convert_type(jnp.moveaxis(x.array, -1, 0), eqn.params["new_dtype"])
    return [Mapped(jnp.moveaxis(lanes_first, 0, -1))]  # the axis that it may add or take away is the last


def _pad(lanes: Any, eqn: Equation, x: Any, padding: Any) -> Any:
    if isinstance(padding, Mapped):
        return NotImplemented
    return [Mapped(lax.pad(x.array, padding, (*eqn.params["padding_config"], (0, 0, 0))))]


def _slice(lanes: Any, eqn: Equation, x: Mapped) -> list[Mapped]:
    strides = eqn.params["strides"] or (1,) * len(x.shape)
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    return [Mapped(lax.slice(x.array, (*starts, 0), (*limits, lanes.n), (*strides, 1)))]


def _dynamic_slice(lanes: Any, eqn: Equation, x: Any, *starts: Any) -> Any:
    if any(isinstance(start, Mapped) for start in starts):
        return NotImplemented
    sizes = (*eqn.params["slice_sizes"], lanes.n)
    return [Mapped(lax.dynamic_slice(x.array, [*starts, _lane_start(starts)], sizes))]


def _dynamic_update_slice(lanes: Any, eqn: Equation, x: Any, update: Any, *starts: Any) -> Any:
    if any(isinstance(start, Mapped) for start in starts):
        return NotImplemented
    arrays = [broadcast_lanes(lanes.n, a, v.aval.shape) for a, v in zip((x, update), eqn.invars, strict=False)]
    whole, part = arrays
    return [Mapped(lax.dynamic_update_slice(whole, part, [*starts, _lane_start(starts)]))]


def _lane_start(starts: Sequence[Any]) -> Any:
    """Where all lanes begin, in the dtype of the other starts, which must be one."""
    return np.zeros((), jnp.result_type(starts[0]) if starts else np.int32)


def _gather(lanes: Any, eqn: Equation, x: Any, indices: Any) -> Any:
    if isinstance(indices, Mapped):
        return _gather_rows(lanes, eqn, x, indices)
    numbers = eqn.params["dimension_numbers"]
    numbers = numbers._replace(offset_dims=(*numbers.offset_dims, len(eqn.outvars[0].aval.shape)))
    sizes = (*eqn.params["slice_sizes"], lanes.n)
    params = {**eqn.params, "dimension_numbers": numbers, "slice_sizes": sizes}
    return [Mapped(eqn.primitive.bind(x.array, indices, **params))]


def _gather_rows(lanes: Any, eqn: Equation, x: Any, indices: Mapped) -> Any:
    how = match_row_gather(eqn)
    if how is None:
        return NotImplemented
    *index_shape, _ = indices.shape
    rest = [size for i, size in enumerate(eqn.invars[0].aval.shape) if i != how.axis]
    full = (*index_shape, *rest, lanes.n)
    index = lax.reshape(indices.array, (*index_shape, lanes.n))
    index = lax.broadcast_in_dim(index, full, (*range(len(index_shape)), len(full) - 1))

    def spread_row(i: int) -> Any:
        array = x.array if isinstance(x, Mapped) else jnp.asarray(x)
        row = lax.index_in_dim(array, i, how.axis, keepdims=False)
        return lax.broadcast_in_dim(row, full, range(len(index_shape), len(index_shape) + row.ndim))

    rows = [spread_row(i) for i in range(eqn.invars[0].aval.shape[how.axis])]
    fill = jnp.full_like(rows[0], jnp.nan) if how.fill else None
    result = pick_row(_apply_to_arrays, lax.select, index, rows, fill)
    return [Mapped(lax.transpose(result, (*how.out_order, len(full) - 1)))]


def _sort(lanes: Any, eqn: Equation, *operands: Any) -> list[Mapped]:
    arrays = [broadcast_lanes(lanes.n, x, v.aval.shape) for x, v in zip(operands, eqn.invars, strict=True)]
    axis = eqn.params["dimension"]
    if not is_sortable(eqn) or not arrays[0].size:
        return [Mapped(a) for a in eqn.primitive.bind(*arrays, **eqn.params)]
    columns = [[lax.index_in_dim(a, i, axis) for a in arrays] for i in range(arrays[0].shape[axis])]
    rows = sort_by_exchanges(columns, make_row_less(_apply_to_arrays, eqn.params["num_keys"]), lax.select)
    return [Mapped(lax.concatenate(list(parts), axis)) for parts in zip(*rows, strict=True)]


def _keep_axes(lanes: Any, eqn: Equation, x: Mapped) -> list[Mapped]:
    outs = eqn.primitive.bind(x.array, **eqn.params)
    return [Mapped(out) for out in (outs if eqn.primitive.multiple_results else [outs])]


# Products and reductions, written out.


def _dot_general(lanes: Any, eqn: Equation, lhs: Any, rhs: Any) -> Any:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    (out,) = eqn.outvars
    lhs_shape, rhs_shape = (v.aval.shape for v in eqn.invars)
    n_terms = prod(lhs_shape[axis] for axis in lhs_contract)
    if not 0 < n_terms <= MAX_TERMS or out.aval.dtype == np.bool_:
        return NotImplemented
    dtype = jnp.float32 if is_half_precision(out.aval.dtype) else out.aval.dtype

    def arranged(x: Any, shape: Any, batch: Any, contract: Any) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
        """(contracted, batch, free[, lanes]), each flat but the contracted, and the sizes of batch and free."""
        free = [axis for axis in range(len(shape)) if axis not in (*batch, *contract)]
        order = (*contract, *batch, *free)
        sizes = tuple(shape[axis] for axis in batch), tuple(shape[axis] for axis in free)
        array = jnp.asarray(x.array if isinstance(x, Mapped) else x).astype(dtype)
        ends = (lanes.n,) if isinstance(x, Mapped) else ()
        array = lax.transpose(array, (*order, len(shape)) if ends else order)
        return lax.reshape(array, (n_terms, prod(sizes[0]), prod(sizes[1]), *ends)), *sizes

    lhs, rhs = lanes.materialize(lhs), lanes.materialize(rhs)
    left, batch_shape, rows = arranged(lhs, lhs_shape, lhs_batch, lhs_contract)
    right, _, columns = arranged(rhs, rhs_shape, rhs_batch, rhs_contract)
    full = (prod(batch_shape), prod(rows), prod(columns), lanes.n)

    def factor(x: Any, k: int, axes: tuple[int, int]) -> Any:
        part = lax.index_in_dim(x, k, axis=0, keepdims=False)
        return lax.broadcast_in_dim(part, full, (*axes, 3)[: part.ndim])

    total = factor(left, 0, (0, 1)) * factor(right, 0, (0, 2))
    for k in range(1, n_terms):
        total = total + factor(left, k, (0, 1)) * factor(right, k, (0, 2))
    return [Mapped(lax.reshape(total, (*out.aval.shape, lanes.n)).astype(out.aval.dtype))]


def _collect_terms(lanes: Any, x: Mapped, axes: Sequence[int]) -> list[Any]:
    """The slices that a reduction puts together, in order."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    moved = lax.transpose(x.array, (*axes, *kept, len(x.shape)))
    n_terms = prod(x.shape[axis] for axis in axes)
    flat = lax.reshape(moved, (n_terms, *(x.shape[axis] for axis in kept), lanes.n))
    return [lax.index_in_dim(flat, k, axis=0, keepdims=False) for k in range(n_terms)]


def _reduction(lanes: Any, eqn: Equation, x: Mapped) -> Any:
    axes, dtype = eqn.params["axes"], x.array.dtype
    if not 0 < prod(x.shape[axis] for axis in axes) <= MAX_TERMS:
        return _keep_axes(lanes, eqn, x)
    half = is_half_precision(dtype) and eqn.primitive.name in ("reduce_sum", "reduce_prod")
    _, operation = REDUCTIONS[eqn.primitive.name]
    total, *rest = _collect_terms(lanes, Mapped(x.array.astype(jnp.float32)) if half else x, axes)
    for term in rest:
        total = operation(total, term)
    return [Mapped(total.astype(dtype))]


def _argmax_or_argmin(lanes: Any, eqn: Equation, x: Mapped) -> Any:
    """argmax and argmin: the first of the best, and NaN is best of all."""
    axes, index_dtype = eqn.params["axes"], eqn.params["index_dtype"]
    if not 0 < prod(x.shape[axis] for axis in axes) <= MAX_TERMS:
        return _keep_axes(lanes, eqn, x)
    better = lax.gt if eqn.primitive.name == "argmax" else lax.lt
    best, *rest = _collect_terms(lanes, x, axes)
    index = jnp.zeros(best.shape, index_dtype)
    for i, candidate in enumerate(rest, 1):
        wins = better(candidate, best) | ((candidate != candidate) & (best == best))
        best, index = lax.select(wins, candidate, best), lax.select(wins, jnp.full_like(index, i), index)
    return [Mapped(index)]


ARRAY_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _keep_axes),
    **dict.fromkeys(("rev", "split", "squeeze", "unstack"), _keep_axes),
    "argmax": _argmax_or_argmin,
    "argmin": _argmax_or_argmin,
    "bitcast_convert_type": _bitcast_convert_type,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "optimization_barrier": _optimization_barrier,
    "pad": _pad,
    "pow": _pow,
    "reshape": _reshape,
    "slice": _slice,
    "sort": _sort,
    "stack": _stack,
    "tile": _tile,
    "transpose": lambda lanes, eqn, x: [
        Mapped(lax.transpose(x.array, (*eqn.params["permutation"], len(x.shape))))
    ],
}
