"""What `scalarize` knows of array operations: how each is done element by element.

A rule is called as `rule(scalars, eqn, *operands)`, with operands as values of the interpreter, and gives the
list of results, or NotImplemented where the operation is better done whole. Sums run from the first term to the
last: a product and a sum are then one fused operation, and nothing depends on how many members there are.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

Equation = Any  # jax.extend.core.JaxprEqn, for whose abstract values checkers know no shape
MAX_APART = 4_096  # elements; what works on larger arrays is done whole
MAX_SORTED = 32  # elements along a sorted axis, or one that is indexed by what is not known


def is_known(element: Any) -> bool:
    return isinstance(element, np.generic)


def objects(elements: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    """An array of these elements, which NumPy is not to look into."""
    flat = np.empty(len(elements), object)
    for i, element in enumerate(elements):
        flat[i] = element
    return flat.reshape(shape)


def alike(*arrays: np.ndarray) -> list[np.ndarray]:
    """All as they are if all are numbers, else all as objects."""
    if all(a.dtype != object for a in arrays):
        return list(arrays)
    return [a if a.dtype == object else objects(list(a.flat), a.shape) for a in arrays]


# Single scalars: what can be computed while tracing, exactly as it would be later, and what vanishes.


def _quotient(a: Any, b: Any) -> Any:
    """As XLA has it: of integers towards zero, and −1 for a division by zero."""
    if jnp.issubdtype(a.dtype, jnp.floating):
        return np.divide(a, b)
    return np.where(b == 0, ~np.zeros_like(b), (a - np.fmod(a, b)) // b)[()]


def _remainder(a: Any, b: Any) -> Any:
    """Of integers, with the sign of the dividend, which it is for a division by zero."""
    return np.where(b == 0, a, np.fmod(a, b))[()]


FOLDED: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _quotient,
    "rem": _remainder,
    "neg": np.negative,
    "abs": np.abs,
    "square": np.square,
    "max": np.maximum,
    "min": np.minimum,
    "floor": np.floor,
    "ceil": np.ceil,
    "is_finite": np.isfinite,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.bitwise_not,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def is_foldable(name: str, operands: Sequence[Any]) -> bool:
    """Whether NumPy's result is the compiled one, to the bit."""
    dtypes = [x.dtype for x in operands]
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return False
    return name != "rem" or not any(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


def _is(element: Any, number: float) -> bool:
    """Whether it is this constant, sign of zero included."""
    return is_known(element) and element == number and bool(np.signbit(element)) == bool(np.signbit(number))


def _is_zero(element: Any) -> bool:
    return is_known(element) and element == 0


def simplified(name: str, operands: Sequence[Any], assume_finite: bool) -> Any:
    """The result where no operation is needed, else None."""
    if len(operands) != 2 or not any(map(is_known, operands)):
        return None
    a, b = operands
    known = a if is_known(a) else b
    if known.dtype == np.bool_:
        if name in ("and", "or"):
            other = b if known is a else a
            return (other if known else known) if name == "and" else (known if known else other)
        return None
    whole = jnp.issubdtype(known.dtype, jnp.integer)
    if jnp.issubdtype(known.dtype, jnp.complexfloating):
        return None
    if name == "mul":
        for x, y in ((a, b), (b, a)):
            if is_known(x) and x == 1:
                return y
            if (whole or assume_finite) and _is_zero(x):
                return x
    elif name in ("add", "add_any"):
        for x, y in ((a, b), (b, a)):
            if _is_zero(x) and (whole or assume_finite or np.signbit(x)):
                return y
    elif (name == "sub" and _is_zero(b) and (whole or assume_finite or not np.signbit(b))) or (
        name == "div" and is_known(b) and b == 1
    ):
        return a
    return None


# Elementwise operations.

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
    complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1
    floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic
    lt lt_to max min mul name ne neg nextafter not one_minus_square or polygamma polynomial population_count
    pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square sub tan tanh xor zeta""".split()
)


# Results that XLA:CPU computes again for every use, rather than keep them.
CHEAP = frozenset(
    "abs add clamp convert_element_type integer_pow max min mul neg select_n sign square sub".split()
)


def _elementwise(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    name, (out,) = eqn.primitive.name, eqn.outvars
    if prod(out.aval.shape) > MAX_APART:
        return NotImplemented
    arrays = np.broadcast_arrays(*map(scalars.apart, operands))
    if all(a.dtype != object for a in arrays):
        if name not in FOLDED or not is_foldable(name, arrays):
            return _converted(eqn, *operands) if name == "convert_element_type" else NotImplemented
        with np.errstate(all="ignore"):
            return [np.asarray(FOLDED[name](*arrays), out.aval.dtype)]
    if name in ("copy", "copy_p"):
        return [arrays[0]]
    bind = eqn.primitive.bind
    each = [scalars.scalar(name, bind, *xs, **eqn.params) for xs in zip(*(a.flat for a in arrays), strict=True)]
    return [objects(each, out.aval.shape)]


def _converted(eqn: Equation, x: np.ndarray) -> Any:
    """Known numbers in another dtype; not where the two libraries could differ (floats to integers)."""
    new = np.dtype(eqn.params["new_dtype"])
    if jnp.issubdtype(new, jnp.inexact) or not jnp.issubdtype(x.dtype, jnp.inexact) or new == np.bool_:
        with np.errstate(all="ignore"):
            return [x.astype(new)]
    return NotImplemented


def _convert_element_type(scalars: Any, eqn: Equation, x: Any) -> Any:
    if eqn.params["new_dtype"] == eqn.invars[0].aval.dtype:
        return [x]
    return _elementwise(scalars, eqn, x)


def _select_n(scalars: Any, eqn: Equation, which: Any, *cases: Any) -> Any:
    (out,) = eqn.outvars
    if prod(out.aval.shape) > MAX_APART:
        return NotImplemented
    arrays = np.broadcast_arrays(scalars.apart(which), *map(scalars.apart, cases))
    if all(a.dtype != object for a in arrays) and len(arrays) == 3 and arrays[0].dtype == np.bool_:
        return [np.where(arrays[0], arrays[2], arrays[1])]
    chosen = [_selected(scalars, *each) for each in zip(*(a.flat for a in arrays), strict=True)]
    return [objects(chosen, out.aval.shape)]


def _selected(scalars: Any, index: Any, *elements: Any) -> Any:
    if is_known(index):
        return elements[int(index)]
    if all(e is elements[0] for e in elements):
        return elements[0]
    return scalars.scalar("select_n", lax.select_n, index, *elements)


def called(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)` as a call that XLA keeps one, so that neither side is compiled with the other in view."""
    with set_xla_metadata(inlineable="false"):
        return jax.jit(fn)(*args)


def computed_once(values: Sequence[Any]) -> Sequence[Any]:
    """The same values, through a call, for native loops of XLA:CPU: before it, XLA computes each of them once.

    It otherwise repeats cheap arithmetic for every use of its result.
    """
    return called(lax.optimization_barrier, list(values))


def _optimization_barrier(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    arrays = [scalars.apart(x) for x in operands]
    unknown = {id(e): e for a in arrays if a.dtype == object for e in a.flat if not is_known(e)}
    passed = dict(zip(unknown, lax.optimization_barrier(list(unknown.values())), strict=True))
    return [replaced(a, passed) for a in arrays]


def replaced(array: np.ndarray, by_id: dict[int, Any]) -> np.ndarray:
    """An array with other elements in the place of some."""
    if array.dtype != object:
        return array
    return objects([by_id.get(id(e), e) for e in array.flat], array.shape)


# Structure: which element goes where. NumPy's indexing, at no cost.


def _broadcast_in_dim(params: Any, x: np.ndarray) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for size, axis in zip(x.shape, params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _reshape(params: Any, x: np.ndarray) -> np.ndarray:
    order = params["dimensions"]
    return (x if order is None else np.transpose(x, order)).reshape(params["new_sizes"])


def _slice(params: Any, x: np.ndarray) -> np.ndarray:
    strides = params["strides"] or (1,) * x.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[..., *(slice(*bound) for bound in bounds)]  # without the ellipsis, rank 0 would not be an array


def padded(x: np.ndarray, padding: np.ndarray, config: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """With `padding` between the elements and at the ends; what is negative at the ends is cut off."""
    if not x.ndim:
        return x
    x, padding = alike(x, padding)

    def filled(shape: Sequence[int]) -> np.ndarray:
        return np.broadcast_to(padding, shape).copy()

    gapped = filled([size + max(size - 1, 0) * inner for size, (_, _, inner) in zip(x.shape, config, strict=True)])
    gapped[tuple(slice(None, None, inner + 1) for _, _, inner in config)] = x
    ends = [(max(low, 0), max(high, 0)) for low, high, _ in config]
    result = filled([size + low + high for size, (low, high) in zip(gapped.shape, ends, strict=True)])
    result[tuple(slice(low, low + size) for size, (low, _) in zip(gapped.shape, ends, strict=True))] = gapped
    return result[
        tuple(
            slice(max(-low, 0), s - max(-high, 0)) for s, (low, high, _) in zip(result.shape, config, strict=True)
        )
    ]


def _split(params: Any, x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, np.cumsum(params["sizes"])[:-1], axis=params["axis"])


STRUCTURE: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda params, *xs: np.concatenate(alike(*xs), params["dimension"]),
    "expand_dims": lambda params, x: np.expand_dims(x, params["dimensions"]),
    "pad": lambda params, x, padding: padded(x, padding, params["padding_config"]),
    "reshape": _reshape,
    "rev": lambda params, x: np.flip(x, params["dimensions"]) if x.ndim else x,
    "slice": _slice,
    "split": _split,
    "squeeze": lambda params, x: np.squeeze(x, tuple(params["dimensions"])),
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
}


def _structural(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    sizes = [prod(v.aval.shape) for v in [*eqn.invars, *eqn.outvars]]
    if max(sizes) > MAX_APART:
        return NotImplemented
    result = STRUCTURE[eqn.primitive.name](eqn.params, *map(scalars.apart, operands))
    return result if eqn.primitive.multiple_results else [result]


def _iota(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    if operands or prod(shape) > MAX_APART:
        return NotImplemented
    along = np.arange(shape[axis]).astype(eqn.params["dtype"])
    return [np.broadcast_to(along.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)]


# Indexing with indices that are known: which element goes where is asked of JAX itself, with numbers for names.


def _numbered(eqn: Equation) -> np.ndarray:
    shape = eqn.invars[0].aval.shape
    return np.arange(prod(shape), dtype=np.int32).reshape(shape)


def _all_known(values: Sequence[Any]) -> bool:
    return all(isinstance(x, np.ndarray) and x.dtype != object for x in values)


def _starts(eqn: Equation, starts: Sequence[Any], sizes: Sequence[int]) -> tuple[slice, ...]:
    """Of a dynamic slice, clamped to fit as JAX does."""
    shape = eqn.invars[0].aval.shape
    clamped = [min(max(int(i), 0), n - size) for i, n, size in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(i, i + size) for i, size in zip(clamped, sizes, strict=True))


def _dynamic_slice(scalars: Any, eqn: Equation, x: Any, *starts: Any) -> Any:
    if prod(eqn.invars[0].aval.shape) > MAX_APART or not _all_known(starts):
        return NotImplemented
    return [scalars.apart(x)[..., *_starts(eqn, starts, eqn.params["slice_sizes"])]]


def _dynamic_update_slice(scalars: Any, eqn: Equation, x: Any, update: Any, *starts: Any) -> Any:
    if prod(eqn.invars[0].aval.shape) > MAX_APART or not _all_known(starts):
        return NotImplemented
    x, update = alike(scalars.apart(x), scalars.apart(update))
    if not x.ndim:
        return [update]
    result = x.copy()
    result[_starts(eqn, starts, update.shape)] = update
    return [result]


def _gather(scalars: Any, eqn: Equation, x: Any, indices: Any) -> Any:
    sizes = prod(eqn.invars[0].aval.shape), prod(eqn.outvars[0].aval.shape)
    if max(sizes) > MAX_APART or not sizes[0]:
        return NotImplemented
    if not _all_known([indices]):
        return _gather_rows(scalars, eqn, x, indices)
    with jax.ensure_compile_time_eval():
        which = np.asarray(eqn.primitive.bind(_numbered(eqn), indices, **{**eqn.params, "fill_value": -1}))
    if (which < 0).any():
        return NotImplemented
    return [scalars.apart(x).reshape(-1)[which.reshape(-1)].reshape(which.shape)]


# Sorting, and indexing with indices that are not known: written out for few elements.


def sorted_by_exchanges(
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


def row_less(operate: Callable[..., Any], n_keys: int) -> Callable[..., Any]:
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


def can_be_sorted(eqn: Equation) -> bool:
    aval = eqn.invars[0].aval
    keys = [v.aval.dtype for v in eqn.invars[: eqn.params["num_keys"]]]
    return aval.shape[eqn.params["dimension"]] <= MAX_SORTED and not any(
        jnp.issubdtype(dtype, jnp.complexfloating) or jnp.issubdtype(dtype, jax.dtypes.extended) for dtype in keys
    )


def _sort(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    aval, axis = eqn.invars[0].aval, eqn.params["dimension"]
    if not 0 < prod(aval.shape) <= MAX_APART or not can_be_sorted(eqn):
        return NotImplemented
    less = row_less(scalars.scalar, eqn.params["num_keys"])

    def choose(condition: Any, yes: Any, no: Any) -> Any:
        return _selected(scalars, condition, no, yes)

    arrays = [np.moveaxis(a, axis, -1) for a in alike(*map(scalars.apart, operands))]
    runs = [a.reshape(-1, aval.shape[axis]) for a in arrays]
    if runs[0].dtype != object:
        return NotImplemented
    done = [sorted_by_exchanges(list(zip(*run, strict=True)), less, choose) for run in zip(*runs, strict=True)]
    return [
        np.moveaxis(objects([row[i] for rows in done for row in rows], arrays[i].shape), -1, axis)
        for i in range(len(arrays))
    ]


class RowGather(NamedTuple):
    """A gather that takes whole slices along one axis, as `x[indices]` does."""

    axis: int
    out_order: tuple[int, ...]  # from (indices, rest of the operand) to the order of the result
    fill: bool  # NaN where an index is outside, instead of the nearest row


def row_gather(eqn: Equation) -> RowGather | None:
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


def picked(
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
    how = row_gather(eqn)
    if how is None:
        return NotImplemented
    x, indices = scalars.apart(x), scalars.apart(indices)
    rows = np.moveaxis(x, how.axis, 0)
    cells = list(rows.reshape(len(rows), -1))
    fill = eqn.invars[0].aval.dtype.type(np.nan) if how.fill else None

    def choose(condition: Any, yes: Any, no: Any) -> Any:
        return _selected(scalars, condition, no, yes)

    found = [
        picked(scalars.scalar, choose, index, [cell[j] for cell in cells], fill)
        for index in indices.flat
        for j in range(len(cells[0]))
    ]
    shape = (*indices.shape[:-1], *rows.shape[1:])
    return [np.transpose(objects(found, shape), how.out_order)]


# Products and reductions, written out.


def summed(scalars: Any, terms: Sequence[Any]) -> Any:
    """From the first to the last."""
    total = terms[0]
    for term in terms[1:]:
        total = scalars.scalar("add", lax.add, total, term)
    return total


def product_of(scalars: Any, a: Any, b: Any) -> Any:
    if a.dtype == np.bool_:
        return scalars.scalar("and", lax.bitwise_and, a, b)
    return scalars.scalar("mul", lax.mul, a, b)


def is_half(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def _in_dtype(scalars: Any, x: np.ndarray, dtype: Any) -> np.ndarray:
    """Every element in this dtype."""
    if x.dtype != object:
        return x.astype(dtype)

    def converted(element: Any) -> Any:
        if element.dtype == dtype:
            return element
        if is_known(element):
            return np.asarray(element).astype(dtype)[()]
        return scalars.scalar("convert_element_type", lax.convert_element_type, element, new_dtype=dtype)

    return objects([converted(e) for e in x.flat], x.shape)


def _dot_general(scalars: Any, eqn: Equation, lhs: Any, rhs: Any) -> Any:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    (out,) = eqn.outvars
    if max(prod(v.aval.shape) for v in [*eqn.invars, out]) > MAX_APART:
        return NotImplemented
    # Half precision is summed in float32, as compilers do.
    dtype = np.dtype(np.float32) if is_half(out.aval.dtype) else out.aval.dtype
    if out.aval.dtype == np.bool_:
        return NotImplemented

    def arranged(x: Any, batch: Sequence[int], contract: Sequence[int]) -> np.ndarray:
        """(batch, free, contracted), each flat."""
        x = _in_dtype(scalars, scalars.apart(x), dtype)
        free = [axis for axis in range(x.ndim) if axis not in (*batch, *contract)]
        x = np.transpose(x, (*batch, *free, *contract))
        sizes = [prod(x.shape[: len(batch)]), prod(x.shape[len(batch) : len(batch) + len(free)])]
        return x.reshape(*sizes, prod(x.shape[len(batch) + len(free) :]))

    lhs, rhs = scalars.materialized(lhs, rhs)
    lhs, rhs = arranged(lhs, lhs_batch, lhs_contract), arranged(rhs, rhs_batch, rhs_contract)
    if not lhs.shape[-1]:
        return [np.zeros(out.aval.shape, out.aval.dtype)]
    cells = [
        summed(scalars, [product_of(scalars, a, b) for a, b in zip(row, column, strict=True)])
        for rows, columns in zip(lhs, rhs, strict=True)
        for row in rows
        for column in columns
    ]
    return [_in_dtype(scalars, objects(cells, out.aval.shape), out.aval.dtype)]


REDUCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "reduce_sum": ("add", lax.add),
    "reduce_prod": ("mul", lax.mul),
    "reduce_max": ("max", lax.max),
    "reduce_min": ("min", lax.min),
    "reduce_and": ("and", lax.bitwise_and),
    "reduce_or": ("or", lax.bitwise_or),
    "reduce_xor": ("xor", lax.bitwise_xor),
}


def _runs(x: np.ndarray, axes: Sequence[int]) -> list[np.ndarray]:
    """What each result of a reduction is made of, in order."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = np.transpose(x, (*kept, *axes))
    return list(moved.reshape(prod(x.shape[axis] for axis in kept), prod(x.shape[axis] for axis in axes)))


def _reduction(scalars: Any, eqn: Equation, x: Any) -> Any:
    axes, aval = eqn.params["axes"], eqn.invars[0].aval
    if not 0 < prod(aval.shape) <= MAX_APART:
        return NotImplemented
    x = scalars.apart(x)
    half = is_half(aval.dtype) and eqn.primitive.name in ("reduce_sum", "reduce_prod")
    if half:
        x = _in_dtype(scalars, x, np.dtype(np.float32))
    operation = REDUCTIONS[eqn.primitive.name]
    totals = []
    for run in _runs(x, axes):
        total, *rest = run
        for term in rest:
            total = scalars.scalar(*operation, total, term)
        totals.append(total)
    result = objects(totals, eqn.outvars[0].aval.shape)
    return [_in_dtype(scalars, result, aval.dtype) if half else result]


def _argument(scalars: Any, eqn: Equation, x: Any) -> Any:
    """argmax and argmin: the first of the best, and NaN is best of all."""
    axes, aval = eqn.params["axes"], eqn.invars[0].aval
    if not 0 < prod(aval.shape) <= MAX_APART:
        return NotImplemented
    index_dtype = np.dtype(eqn.params["index_dtype"]).type
    better = ("gt", lax.gt) if eqn.primitive.name == "argmax" else ("lt", lax.lt)
    found = []
    for run in _runs(scalars.apart(x), axes):
        best, index = run[0], index_dtype(0)
        for i, candidate in enumerate(run[1:], 1):
            wins = scalars.scalar(*better, candidate, best)
            if jnp.issubdtype(aval.dtype, jnp.floating):
                is_nan = scalars.scalar("ne", lax.ne, candidate, candidate)
                best_is_not = scalars.scalar("eq", lax.eq, best, best)
                first_nan = scalars.scalar("and", lax.bitwise_and, is_nan, best_is_not)
                wins = scalars.scalar("or", lax.bitwise_or, wins, first_nan)
            best, index = (
                _selected(scalars, wins, best, candidate),
                _selected(scalars, wins, index, index_dtype(i)),
            )
        found.append(index)
    return [objects(found, eqn.outvars[0].aval.shape)]


CUMULATIVE: dict[str, tuple[str, Callable[..., Any]]] = {
    "cumsum": ("add", lax.add),
    "cumprod": ("mul", lax.mul),
    "cummax": ("max", lax.max),
    "cummin": ("min", lax.min),
}


def _cumulative(scalars: Any, eqn: Equation, x: Any) -> Any:
    axis, aval = eqn.params["axis"], eqn.invars[0].aval
    if not 0 < prod(aval.shape) <= MAX_APART:
        return NotImplemented
    moved = np.moveaxis(scalars.apart(x), axis, 0)
    moved = moved[::-1] if eqn.params["reverse"] else moved
    operation = CUMULATIVE[eqn.primitive.name]
    first, *rest = moved.reshape(len(moved), -1)
    rows = [list(first)]
    for row in rest:
        rows.append([scalars.scalar(*operation, a, b) for a, b in zip(rows[-1], row, strict=True)])
    result = objects([e for row in rows for e in row], moved.shape)
    return [np.moveaxis(result[::-1] if eqn.params["reverse"] else result, 0, axis)]


ARRAY_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(STRUCTURE, _structural),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(CUMULATIVE, _cumulative),
    "argmax": _argument,
    "argmin": _argument,
    "convert_element_type": _convert_element_type,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "iota": _iota,
    "optimization_barrier": _optimization_barrier,
    "select_n": _select_n,
    "sort": _sort,
}
