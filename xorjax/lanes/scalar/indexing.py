"""Rules for indexing and sorting.

Indices that are known while tracing only decide which element goes where. With other indices, and for sorting, up
to `MAX_SORTED` elements are written out as selections; longer axes have no rule.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.objects import are_known, is_small, object_array, promote_to_objects
from xorjax.lanes.scalar.values import Choose, Emit, Interpreter, Results, Rule, Value

MAX_SORTED = 32  # elements along a sorted axis, or along one that is indexed by unknown indices

Row = Sequence[Any]  # scalars or arrays, which are sorted together
Less = Callable[[Row, Row], Any]


def _clamp_slices(eqn: Equation, starts: Sequence[Any], sizes: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices of a dynamic slice, moved inside the array as JAX does."""
    shape = eqn.invars[0].aval.shape
    clamped = [min(max(int(i), 0), n - size) for i, n, size in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(i, i + size) for i, size in zip(clamped, sizes, strict=True))


def _dynamic_slice(scalars: Interpreter, eqn: Equation, x: Value, *starts: Value) -> Results:
    if not is_small(eqn.invars[0]) or not all(map(are_known, starts)):
        return NotImplemented
    return [scalars.elements(x)[..., *_clamp_slices(eqn, starts, eqn.params["slice_sizes"])]]


def _dynamic_update_slice(scalars: Interpreter, eqn: Equation, x: Value, update: Value, *starts: Value) -> Results:
    if not is_small(eqn.invars[0]) or not all(map(are_known, starts)):
        return NotImplemented
    array, part = promote_to_objects(scalars.elements(x), scalars.elements(update))
    if not array.ndim:
        return [part]
    result = array.copy()
    result[_clamp_slices(eqn, starts, part.shape)] = part
    return [result]


def _gather(scalars: Interpreter, eqn: Equation, x: Value, indices: Value) -> Results:
    shape = eqn.invars[0].aval.shape
    if not is_small(eqn.invars[0], eqn.outvars[0]) or not prod(shape):
        return NotImplemented
    if not are_known(indices):
        return _gather_rows(scalars, eqn, x, indices)
    numbers = np.arange(prod(shape), dtype=np.int32).reshape(shape)
    with jax.ensure_compile_time_eval():  # JAX gathers the elements' numbers
        which = np.asarray(eqn.primitive.bind(numbers, indices, **{**eqn.params, "fill_value": -1}))
    if (which < 0).any():
        return NotImplemented
    return [scalars.elements(x).reshape(-1)[which.reshape(-1)].reshape(which.shape)]


def sort_by_exchanges(rows: Sequence[Row], less: Less, choose: Choose) -> list[list[Any]]:
    """Sort rows by exchanges of neighbours (bubble sort, stable); `less(a, b)` compares two rows."""
    rows = [list(row) for row in rows]
    for end in range(len(rows) - 1, 0, -1):
        for i in range(end):
            exchange = less(rows[i + 1], rows[i])
            pairs = list(zip(rows[i], rows[i + 1], strict=True))
            rows[i] = [choose(exchange, b, a) for a, b in pairs]
            rows[i + 1] = [choose(exchange, a, b) for a, b in pairs]
    return rows


def make_row_less(emit: Emit, n_keys: int) -> Less:
    """Return the lexicographic comparison of rows by their first `n_keys` elements; NaN is the largest number."""

    def is_less(a: Any, b: Any) -> Any:
        result = emit("lt", lax.lt, a, b)
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return result
        only_b_is_nan = emit("and", lax.bitwise_and, emit("ne", lax.ne, b, b), emit("eq", lax.eq, a, a))
        return emit("or", lax.bitwise_or, result, only_b_is_nan)

    def row_less(a: Row, b: Row) -> Any:
        result = is_less(a[n_keys - 1], b[n_keys - 1])
        for x, y in reversed(list(zip(a[: n_keys - 1], b[: n_keys - 1], strict=True))):
            not_greater = emit("not", lax.bitwise_not, is_less(y, x))
            decided_later = emit("and", lax.bitwise_and, not_greater, result)
            result = emit("or", lax.bitwise_or, is_less(x, y), decided_later)
        return result

    return row_less


def is_sortable(eqn: Equation) -> bool:
    """Return True if a sort can be written out: few elements, and keys that `lt` compares."""
    aval = eqn.invars[0].aval
    keys = [v.aval.dtype for v in eqn.invars[: eqn.params["num_keys"]]]
    return aval.shape[eqn.params["dimension"]] <= MAX_SORTED and not any(
        jnp.issubdtype(dtype, jnp.complexfloating) or jnp.issubdtype(dtype, jax.dtypes.extended) for dtype in keys
    )


def _sort(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    shape, axis = eqn.invars[0].aval.shape, eqn.params["dimension"]
    if not prod(shape) or not is_small(eqn.invars[0]) or not is_sortable(eqn):
        return NotImplemented
    arrays = [np.moveaxis(a, axis, -1) for a in promote_to_objects(*map(scalars.elements, operands))]
    columns = [a.reshape(-1, shape[axis]) for a in arrays]
    if all(map(are_known, columns)):
        return NotImplemented
    less = make_row_less(scalars.emit, eqn.params["num_keys"])
    done = [
        sort_by_exchanges(list(zip(*column, strict=True)), less, scalars.choose)
        for column in zip(*columns, strict=True)
    ]
    return [
        np.moveaxis(object_array([row[i] for rows in done for row in rows], array.shape), -1, axis)
        for i, array in enumerate(arrays)
    ]


class RowGather(NamedTuple):
    """A gather of whole slices along one axis, such as `x[indices]`."""

    axis: int
    out_order: tuple[int, ...]  # transposes (indices, rest of the operand) to the result
    fill: bool  # True for NaN where an index is outside, False for the nearest row


def match_row_gather(eqn: Equation) -> RowGather | None:
    """Return how to write out a gather as selections of rows, or None if it is of another kind or too large."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    operand, out = eqn.invars[0].aval, eqn.outvars[0].aval
    mode, fill_value = eqn.params["mode"], eqn.params["fill_value"]
    if numbers.operand_batching_dims or len(numbers.start_index_map) != 1:
        return None
    (axis,) = numbers.start_index_map
    rest = tuple(size for i, size in enumerate(operand.shape) if i != axis)
    fill = mode == lax.GatherScatterMode.FILL_OR_DROP
    takes_rows = numbers.collapsed_slice_dims == (axis,) and sizes[axis] == 1
    if not takes_rows or tuple(size for i, size in enumerate(sizes) if i != axis) != rest:
        return None
    if not 0 < operand.shape[axis] <= MAX_SORTED or (fill and fill_value is not None):
        return None
    if fill and not jnp.issubdtype(operand.dtype, jnp.floating):
        return None
    batch = [i for i in range(len(out.shape)) if i not in numbers.offset_dims]
    position = {dim: i for i, dim in enumerate([*batch, *numbers.offset_dims])}
    return RowGather(axis, tuple(position[dim] for dim in range(len(out.shape))), fill)


def pick_row(emit: Emit, choose: Choose, index: Any, rows: Row, fill: Any) -> Any:
    """Return `rows[index]`; for an index outside, `fill`, or the nearest row if `fill` is None."""

    def number(i: int) -> np.generic:
        return index.dtype.type(i)

    result = rows[-1]
    for i in range(len(rows) - 2, -1, -1):
        result = choose(emit("le", lax.le, index, number(i)), rows[i], result)
    if fill is not None:
        result = choose(emit("lt", lax.lt, index, number(0)), fill, result)
        result = choose(emit("ge", lax.ge, index, number(len(rows))), fill, result)
    return result


def _gather_rows(scalars: Interpreter, eqn: Equation, x: Value, indices: Value) -> Results:
    match = match_row_gather(eqn)
    if match is None:
        return NotImplemented
    array, which = scalars.elements(x), scalars.elements(indices)
    rows = np.moveaxis(array, match.axis, 0)
    cells = list(rows.reshape(len(rows), -1))
    fill = eqn.invars[0].aval.dtype.type(np.nan) if match.fill else None
    picked = [
        pick_row(scalars.emit, scalars.choose, index, [cell[j] for cell in cells], fill)
        for index in which.flat
        for j in range(len(cells[0]))
    ]
    shape = (*which.shape[:-1], *rows.shape[1:])
    return [np.transpose(object_array(picked, shape), match.out_order)]


INDEXING_RULES: dict[str, Rule] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "sort": _sort,
}
