"""What `scalarize` knows of indexing and sorting.

With indices that are known, which element goes where is settled while tracing. With others, and for sorting, few
elements are written out as choices; more are left to JAX.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.elementwise import MAX_ELEMENTS, object_array, promote_to_objects

MAX_SORTED = 32  # elements along a sorted axis, or one that is indexed by what is not known

# Indexing with indices that are known: which element goes where is asked of JAX itself, with numbers for names.


def _number_elements(eqn: Equation) -> np.ndarray:
    shape = eqn.invars[0].aval.shape
    return np.arange(prod(shape), dtype=np.int32).reshape(shape)


def _are_all_known(values: Sequence[Any]) -> bool:
    return all(isinstance(x, np.ndarray) and x.dtype != object for x in values)


def _clamp_slices(eqn: Equation, starts: Sequence[Any], sizes: Sequence[int]) -> tuple[slice, ...]:
    """Of a dynamic slice, clamped to fit as JAX does."""
    shape = eqn.invars[0].aval.shape
    clamped = [min(max(int(i), 0), n - size) for i, n, size in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(i, i + size) for i, size in zip(clamped, sizes, strict=True))


def _dynamic_slice(scalars: Any, eqn: Equation, x: Any, *starts: Any) -> Any:
    if prod(eqn.invars[0].aval.shape) > MAX_ELEMENTS or not _are_all_known(starts):
        return NotImplemented
    return [scalars.elements(x)[..., *_clamp_slices(eqn, starts, eqn.params["slice_sizes"])]]


def _dynamic_update_slice(scalars: Any, eqn: Equation, x: Any, update: Any, *starts: Any) -> Any:
    if prod(eqn.invars[0].aval.shape) > MAX_ELEMENTS or not _are_all_known(starts):
        return NotImplemented
    x, update = promote_to_objects(scalars.elements(x), scalars.elements(update))
    if not x.ndim:
        return [update]
    result = x.copy()
    result[_clamp_slices(eqn, starts, update.shape)] = update
    return [result]


def _gather(scalars: Any, eqn: Equation, x: Any, indices: Any) -> Any:
    sizes = prod(eqn.invars[0].aval.shape), prod(eqn.outvars[0].aval.shape)
    if max(sizes) > MAX_ELEMENTS or not sizes[0]:
        return NotImplemented
    if not _are_all_known([indices]):
        return _gather_rows(scalars, eqn, x, indices)
    with jax.ensure_compile_time_eval():
        which = np.asarray(eqn.primitive.bind(_number_elements(eqn), indices, **{**eqn.params, "fill_value": -1}))
    if (which < 0).any():
        return NotImplemented
    return [scalars.elements(x).reshape(-1)[which.reshape(-1)].reshape(which.shape)]


# Sorting, and indexing with indices that are not known: written out for few elements.


def sort_by_exchanges(
    rows: Sequence[Sequence[Any]], less: Callable[..., Any], choose: Callable[..., Any]
) -> list[list[Any]]:
    """Rows put in order, stably, by exchanges of neighbours; `less(a, b)` of two rows, `choose(c, yes, no)`."""
    rows = [list(row) for row in rows]
    for end in range(len(rows) - 1, 0, -1):
        for i in range(end):
            exchange = less(rows[i + 1], rows[i])
            pairs = list(zip(rows[i], rows[i + 1], strict=True))
            rows[i] = [choose(exchange, b, a) for a, b in pairs]
            rows[i + 1] = [choose(exchange, a, b) for a, b in pairs]
    return rows


def make_row_less(operate: Callable[..., Any], n_keys: int) -> Callable[..., Any]:
    """Whether a row comes before another, by its first `n_keys` elements; NaN is the largest number."""

    def first_less(a: Any, b: Any) -> Any:
        is_less = operate("lt", lax.lt, a, b)
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return is_less
        only_b = operate("and", lax.bitwise_and, operate("ne", lax.ne, b, b), operate("eq", lax.eq, a, a))
        return operate("or", lax.bitwise_or, is_less, only_b)

    def less(a: Sequence[Any], b: Sequence[Any]) -> Any:
        result = first_less(a[n_keys - 1], b[n_keys - 1])
        for x, y in reversed(list(zip(a[: n_keys - 1], b[: n_keys - 1], strict=True))):
            not_greater = operate("not", lax.bitwise_not, first_less(y, x))
            decided = operate("and", lax.bitwise_and, not_greater, result)
            result = operate("or", lax.bitwise_or, first_less(x, y), decided)
        return result

    return less


def is_sortable(eqn: Equation) -> bool:
    aval = eqn.invars[0].aval
    keys = [v.aval.dtype for v in eqn.invars[: eqn.params["num_keys"]]]
    return aval.shape[eqn.params["dimension"]] <= MAX_SORTED and not any(
        jnp.issubdtype(dtype, jnp.complexfloating) or jnp.issubdtype(dtype, jax.dtypes.extended) for dtype in keys
    )


def _sort(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    aval, axis = eqn.invars[0].aval, eqn.params["dimension"]
    if not 0 < prod(aval.shape) <= MAX_ELEMENTS or not is_sortable(eqn):
        return NotImplemented
    less = make_row_less(scalars.emit, eqn.params["num_keys"])

    arrays = [np.moveaxis(a, axis, -1) for a in promote_to_objects(*map(scalars.elements, operands))]
    runs = [a.reshape(-1, aval.shape[axis]) for a in arrays]
    if runs[0].dtype != object:
        return NotImplemented
    done = [
        sort_by_exchanges(list(zip(*run, strict=True)), less, scalars.choose) for run in zip(*runs, strict=True)
    ]
    return [
        np.moveaxis(object_array([row[i] for rows in done for row in rows], arrays[i].shape), -1, axis)
        for i in range(len(arrays))
    ]


class RowGather(NamedTuple):
    """A gather that takes whole slices along one axis, as `x[indices]` does."""

    axis: int
    out_order: tuple[int, ...]  # from (indices, rest of the operand) to the order of the result
    fill: bool  # NaN where an index is outside, instead of the nearest row


def match_row_gather(eqn: Equation) -> RowGather | None:
    """How an indexing operation can be written out, if it is one of few rows along one axis."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    operand, out = eqn.invars[0].aval, eqn.outvars[0].aval
    mode, fill_value = eqn.params["mode"], eqn.params["fill_value"]
    if numbers.operand_batching_dims or len(numbers.start_index_map) != 1:
        return None
    (axis,) = numbers.start_index_map
    rest = tuple(size for i, size in enumerate(operand.shape) if i != axis)
    fill = mode == lax.GatherScatterMode.FILL_OR_DROP
    whole_rows = numbers.collapsed_slice_dims == (axis,) and sizes[axis] == 1
    if not whole_rows or tuple(size for i, size in enumerate(sizes) if i != axis) != rest:
        return None
    if not 0 < operand.shape[axis] <= MAX_SORTED or (fill and fill_value is not None):
        return None
    if fill and not jnp.issubdtype(operand.dtype, jnp.floating):
        return None
    batch = [i for i in range(len(out.shape)) if i not in numbers.offset_dims]
    position = {dim: i for i, dim in enumerate([*batch, *numbers.offset_dims])}
    return RowGather(axis, tuple(position[dim] for dim in range(len(out.shape))), fill)


def pick_row(
    operate: Callable[..., Any], choose: Callable[..., Any], index: Any, rows: Sequence[Any], fill: Any
) -> Any:
    """`rows[index]`; outside, the nearest row, or `fill` where there is one."""

    def number(i: int) -> Any:
        return index.dtype.type(i)

    result = rows[-1]
    for i in range(len(rows) - 2, -1, -1):
        result = choose(operate("le", lax.le, index, number(i)), rows[i], result)
    if fill is not None:
        result = choose(operate("lt", lax.lt, index, number(0)), fill, result)
        result = choose(operate("ge", lax.ge, index, number(len(rows))), fill, result)
    return result


def _gather_rows(scalars: Any, eqn: Equation, x: Any, indices: Any) -> Any:
    how = match_row_gather(eqn)
    if how is None:
        return NotImplemented
    x, indices = scalars.elements(x), scalars.elements(indices)
    rows = np.moveaxis(x, how.axis, 0)
    cells = list(rows.reshape(len(rows), -1))
    fill = eqn.invars[0].aval.dtype.type(np.nan) if how.fill else None

    found = [
        pick_row(scalars.emit, scalars.choose, index, [cell[j] for cell in cells], fill)
        for index in indices.flat
        for j in range(len(cells[0]))
    ]
    shape = (*indices.shape[:-1], *rows.shape[1:])
    return [np.transpose(object_array(found, shape), how.out_order)]


INDEXING_RULES: dict[str, Callable[..., Any]] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "sort": _sort,
}
