"""What `scalarize` knows of products of matrices, reductions and cumulative operations: they are written out.

Sums run from the first term to the last: a product and a sum are then one fused operation, and nothing depends on
how many members there are.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.elementwise import MAX_ELEMENTS, is_known, object_array


def sum_terms(scalars: Any, terms: Sequence[Any]) -> Any:
    """From the first to the last."""
    total = terms[0]
    for term in terms[1:]:
        total = scalars.emit("add", lax.add, total, term)
    return total


def multiply(scalars: Any, a: Any, b: Any) -> Any:
    if a.dtype == np.bool_:
        return scalars.emit("and", lax.bitwise_and, a, b)
    return scalars.emit("mul", lax.mul, a, b)


def is_half_precision(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def _cast(scalars: Any, x: np.ndarray, dtype: Any) -> np.ndarray:
    """Every element in this dtype."""
    if x.dtype != object:
        return x.astype(dtype)

    def converted(element: Any) -> Any:
        if element.dtype == dtype:
            return element
        if is_known(element):
            return np.asarray(element).astype(dtype)[()]
        return scalars.emit("convert_element_type", lax.convert_element_type, element, new_dtype=dtype)

    return object_array([converted(e) for e in x.flat], x.shape)


def _dot_general(scalars: Any, eqn: Equation, lhs: Any, rhs: Any) -> Any:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    (out,) = eqn.outvars
    if max(prod(v.aval.shape) for v in [*eqn.invars, out]) > MAX_ELEMENTS:
        return NotImplemented
    # Half precision is summed in float32, as compilers do.
    dtype = np.dtype(np.float32) if is_half_precision(out.aval.dtype) else out.aval.dtype
    if out.aval.dtype == np.bool_:
        return NotImplemented

    def arranged(x: Any, batch: Sequence[int], contract: Sequence[int]) -> np.ndarray:
        """(batch, free, contracted), each flat."""
        x = _cast(scalars, scalars.elements(x), dtype)
        free = [axis for axis in range(x.ndim) if axis not in (*batch, *contract)]
        x = np.transpose(x, (*batch, *free, *contract))
        sizes = [prod(x.shape[: len(batch)]), prod(x.shape[len(batch) : len(batch) + len(free)])]
        return x.reshape(*sizes, prod(x.shape[len(batch) + len(free) :]))

    lhs, rhs = arranged(lhs, lhs_batch, lhs_contract), arranged(rhs, rhs_batch, rhs_contract)
    if not lhs.shape[-1]:
        return [np.zeros(out.aval.shape, out.aval.dtype)]
    cells = [
        sum_terms(scalars, [multiply(scalars, a, b) for a, b in zip(row, column, strict=True)])
        for rows, columns in zip(lhs, rhs, strict=True)
        for row in rows
        for column in columns
    ]
    return [_cast(scalars, object_array(cells, out.aval.shape), out.aval.dtype)]


REDUCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "reduce_sum": ("add", lax.add),
    "reduce_prod": ("mul", lax.mul),
    "reduce_max": ("max", lax.max),
    "reduce_min": ("min", lax.min),
    "reduce_and": ("and", lax.bitwise_and),
    "reduce_or": ("or", lax.bitwise_or),
    "reduce_xor": ("xor", lax.bitwise_xor),
}


def _collect_terms(x: np.ndarray, axes: Sequence[int]) -> list[np.ndarray]:
    """What each result of a reduction is made of, in order."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = np.transpose(x, (*kept, *axes))
    return list(moved.reshape(prod(x.shape[axis] for axis in kept), prod(x.shape[axis] for axis in axes)))


def _reduction(scalars: Any, eqn: Equation, x: Any) -> Any:
    axes, aval = eqn.params["axes"], eqn.invars[0].aval
    if not 0 < prod(aval.shape) <= MAX_ELEMENTS:
        return NotImplemented
    x = scalars.elements(x)
    half = is_half_precision(aval.dtype) and eqn.primitive.name in ("reduce_sum", "reduce_prod")
    if half:
        x = _cast(scalars, x, np.dtype(np.float32))
    operation = REDUCTIONS[eqn.primitive.name]
    totals = []
    for run in _collect_terms(x, axes):
        total, *rest = run
        for term in rest:
            total = scalars.emit(*operation, total, term)
        totals.append(total)
    result = object_array(totals, eqn.outvars[0].aval.shape)
    return [_cast(scalars, result, aval.dtype) if half else result]


def _argmax_or_argmin(scalars: Any, eqn: Equation, x: Any) -> Any:
    """argmax and argmin: the first of the best, and NaN is best of all."""
    axes, aval = eqn.params["axes"], eqn.invars[0].aval
    if not 0 < prod(aval.shape) <= MAX_ELEMENTS:
        return NotImplemented
    index_dtype = np.dtype(eqn.params["index_dtype"]).type
    better = ("gt", lax.gt) if eqn.primitive.name == "argmax" else ("lt", lax.lt)
    found = []
    for run in _collect_terms(scalars.elements(x), axes):
        best, index = run[0], index_dtype(0)
        for i, candidate in enumerate(run[1:], 1):
            wins = scalars.emit(*better, candidate, best)
            if jnp.issubdtype(aval.dtype, jnp.floating):
                is_nan = scalars.emit("ne", lax.ne, candidate, candidate)
                best_is_not = scalars.emit("eq", lax.eq, best, best)
                first_nan = scalars.emit("and", lax.bitwise_and, is_nan, best_is_not)
                wins = scalars.emit("or", lax.bitwise_or, wins, first_nan)
            best, index = (
                scalars.choose(wins, candidate, best),
                scalars.choose(wins, index_dtype(i), index),
            )
        found.append(index)
    return [object_array(found, eqn.outvars[0].aval.shape)]


CUMULATIVE: dict[str, tuple[str, Callable[..., Any]]] = {
    "cumsum": ("add", lax.add),
    "cumprod": ("mul", lax.mul),
    "cummax": ("max", lax.max),
    "cummin": ("min", lax.min),
}


def _cumulative(scalars: Any, eqn: Equation, x: Any) -> Any:
    axis, aval = eqn.params["axis"], eqn.invars[0].aval
    if not 0 < prod(aval.shape) <= MAX_ELEMENTS:
        return NotImplemented
    moved = np.moveaxis(scalars.elements(x), axis, 0)
    moved = moved[::-1] if eqn.params["reverse"] else moved
    operation = CUMULATIVE[eqn.primitive.name]
    first, *rest = moved.reshape(len(moved), -1)
    rows = [list(first)]
    for row in rest:
        rows.append([scalars.emit(*operation, a, b) for a, b in zip(rows[-1], row, strict=True)])
    result = object_array([e for row in rows for e in row], moved.shape)
    return [np.moveaxis(result[::-1] if eqn.params["reverse"] else result, 0, axis)]


REDUCTION_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(CUMULATIVE, _cumulative),
    "argmax": _argmax_or_argmin,
    "argmin": _argmax_or_argmin,
    "dot_general": _dot_general,
}
