"""Rules for elementwise primitives, for structure, indexing and sorting: each has the lanes as one more axis."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from xorjax.lanes.arrays.values import Interpreter, Mapped, Results, Rule, Value, broadcast_lanes, to_array
from xorjax.lanes.jaxprs import Equation, Params
from xorjax.lanes.scalar.elementwise import ELEMENTWISE, has_known_base, power
from xorjax.lanes.scalar.indexing import is_sortable, make_row_less, match_row_gather, pick_row, sort_by_exchanges


def emit_array(name: str, operation: Callable[..., Any], *operands: Any) -> Any:
    """Apply an operation to arrays of one shape, as the scalar interpreter's `emit` does to scalars."""
    shape = next(x.shape for x in operands if not isinstance(x, np.generic))
    return operation(*(lax.broadcast(np.asarray(x), shape) if isinstance(x, np.generic) else x for x in operands))


def choose_array(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, else `no`."""
    if isinstance(condition, np.bool_):
        return yes if condition else no
    return emit_array("select_n", lax.select_n, condition, no, yes)


def _elementwise(lanes: Interpreter, eqn: Equation, *operands: Value) -> Results:
    shape = eqn.outvars[0].aval.shape
    arrays = [broadcast_lanes(lanes.n, x, shape) for x in operands]
    return [Mapped(eqn.primitive.bind(*arrays, **eqn.params))]


def _pow(lanes: Interpreter, eqn: Equation, x: Value, y: Value) -> Results:
    if isinstance(x, np.ndarray) and not x.ndim and isinstance(y, Mapped):
        base = x[()]
        if has_known_base(base, y.array):
            return [Mapped(power(emit_array, choose_array, base, y.array))]
    return _elementwise(lanes, eqn, x, y)


def _optimization_barrier(lanes: Interpreter, eqn: Equation, *operands: Value) -> Results:
    arrays = lax.optimization_barrier(list(map(to_array, operands)))
    return [Mapped(a) if isinstance(x, Mapped) else a for x, a in zip(operands, arrays, strict=True)]


def keep_axes(lanes: Interpreter, eqn: Equation, x: Mapped) -> Results:
    """Apply a primitive that names its axes, which another last axis does not change."""
    outs = eqn.primitive.bind(x.array, **eqn.params)
    return [Mapped(out) for out in (outs if eqn.primitive.multiple_results else [outs])]


def _broadcast_operands(lanes: Interpreter, eqn: Equation, operands: Sequence[Value]) -> list[Array]:
    return [broadcast_lanes(lanes.n, x, v.aval.shape) for x, v in zip(operands, eqn.invars, strict=False)]


def _broadcast_in_dim(params: Params, x: Array) -> Array:
    shape, axes = params["shape"], params["broadcast_dimensions"]
    return lax.broadcast_in_dim(x, (*shape, x.shape[-1]), (*axes, len(shape)))


def _reshape(params: Params, x: Array) -> Array:
    order = params["dimensions"]
    x = x if order is None else lax.transpose(x, (*order, len(order)))
    return lax.reshape(x, (*params["new_sizes"], x.shape[-1]))


def _slice(params: Params, x: Array) -> Array:
    strides = params["strides"] or (1,) * (x.ndim - 1)
    starts, limits = params["start_indices"], params["limit_indices"]
    return lax.slice(x, (*starts, 0), (*limits, x.shape[-1]), (*strides, 1))


def _bitcast_convert_type(params: Params, x: Array) -> Array:
    # The primitive may add or remove the last axis, so the lanes go first.
    lanes_first = lax.bitcast_convert_type(jnp.moveaxis(x, -1, 0), params["new_dtype"])
    return jnp.moveaxis(lanes_first, 0, -1)


STRUCTURE: dict[str, Callable[..., Array]] = {  # functions of arrays with lanes
    "bitcast_convert_type": _bitcast_convert_type,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda params, *xs: lax.concatenate(xs, params["dimension"]),
    "reshape": _reshape,
    "slice": _slice,
    "stack": lambda params, *xs: jnp.stack(xs, params["axis"]),
    "tile": lambda params, x: lax.tile(x, (*params["reps"], 1)),
    "transpose": lambda params, x: lax.transpose(x, (*params["permutation"], x.ndim - 1)),
}


def _structural(lanes: Interpreter, eqn: Equation, *operands: Value) -> Results:
    arrays = _broadcast_operands(lanes, eqn, operands)
    return [Mapped(STRUCTURE[eqn.primitive.name](eqn.params, *arrays))]


def _pad(lanes: Interpreter, eqn: Equation, x: Value, padding: Value) -> Results:
    if isinstance(padding, Mapped):
        return NotImplemented
    return [Mapped(lax.pad(to_array(x), padding, (*eqn.params["padding_config"], (0, 0, 0))))]


def _lane_start(starts: Sequence[Value]) -> np.ndarray:
    """Return 0 in the dtype of the other starts, which must all be of one dtype."""
    return np.zeros((), jnp.result_type(to_array(starts[0])) if starts else np.int32)


def _dynamic_slice(lanes: Interpreter, eqn: Equation, x: Value, *starts: Value) -> Results:
    if any(isinstance(start, Mapped) for start in starts):
        return NotImplemented
    sizes = (*eqn.params["slice_sizes"], lanes.n)
    return [Mapped(lax.dynamic_slice(to_array(x), [*map(to_array, starts), _lane_start(starts)], sizes))]


def _dynamic_update_slice(lanes: Interpreter, eqn: Equation, x: Value, update: Value, *starts: Value) -> Results:
    if any(isinstance(start, Mapped) for start in starts):
        return NotImplemented
    array, part = _broadcast_operands(lanes, eqn, (x, update))
    return [Mapped(lax.dynamic_update_slice(array, part, [*map(to_array, starts), _lane_start(starts)]))]


def _gather(lanes: Interpreter, eqn: Equation, x: Value, indices: Value) -> Results:
    if isinstance(indices, Mapped):
        return _gather_rows(lanes, eqn, x, indices)
    numbers = eqn.params["dimension_numbers"]
    numbers = numbers._replace(offset_dims=(*numbers.offset_dims, len(eqn.outvars[0].aval.shape)))
    sizes = (*eqn.params["slice_sizes"], lanes.n)
    params = {**eqn.params, "dimension_numbers": numbers, "slice_sizes": sizes}
    return [Mapped(eqn.primitive.bind(to_array(x), indices, **params))]


def _gather_rows(lanes: Interpreter, eqn: Equation, x: Value, indices: Mapped) -> Results:
    match = match_row_gather(eqn)
    if match is None:
        return NotImplemented
    shape = eqn.invars[0].aval.shape
    *index_shape, _ = indices.shape
    n_axes = len(index_shape)
    full = (*index_shape, *(size for i, size in enumerate(shape) if i != match.axis), lanes.n)
    index = lax.reshape(indices.array, (*index_shape, lanes.n))
    index = lax.broadcast_in_dim(index, full, (*range(n_axes), len(full) - 1))
    array = jnp.asarray(to_array(x))

    def spread_row(i: int) -> Array:
        row = lax.index_in_dim(array, i, match.axis, keepdims=False)
        return lax.broadcast_in_dim(row, full, range(n_axes, n_axes + row.ndim))

    rows = list(map(spread_row, range(shape[match.axis])))
    fill = jnp.full_like(rows[0], jnp.nan) if match.fill else None
    result = pick_row(emit_array, lax.select, index, rows, fill)
    return [Mapped(lax.transpose(result, (*match.out_order, len(full) - 1)))]


def _sort(lanes: Interpreter, eqn: Equation, *operands: Value) -> Results:
    arrays = _broadcast_operands(lanes, eqn, operands)
    axis = eqn.params["dimension"]
    if not is_sortable(eqn) or not arrays[0].size:
        return [Mapped(a) for a in eqn.primitive.bind(*arrays, **eqn.params)]
    columns = [[lax.index_in_dim(a, i, axis) for a in arrays] for i in range(arrays[0].shape[axis])]
    rows = sort_by_exchanges(columns, make_row_less(emit_array, eqn.params["num_keys"]), lax.select)
    return [Mapped(lax.concatenate(list(parts), axis)) for parts in zip(*rows, strict=True)]


KEEP_AXES = "cumsum cumprod cummax cummin cumlogsumexp rev split squeeze unstack".split()

ARRAY_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(KEEP_AXES, keep_axes),
    **dict.fromkeys(STRUCTURE, _structural),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "optimization_barrier": _optimization_barrier,
    "pad": _pad,
    "pow": _pow,
    "sort": _sort,
}
