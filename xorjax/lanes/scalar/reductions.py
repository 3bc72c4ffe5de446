"""Rules for matrix products, reductions and cumulative operations: written out, from the first term to the last.

In this order a product and the sum that takes it become one fused operation, and no bit depends on the number of
members.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import accumulate
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.objects import are_known, is_known, is_small, map_elements, object_array
from xorjax.lanes.scalar.values import Interpreter, Results, Rule, Value

Operation = tuple[str, Callable[..., Any]]  # a primitive's name and function

REDUCTIONS: dict[str, Operation] = {
    "reduce_sum": ("add", lax.add),
    "reduce_prod": ("mul", lax.mul),
    "reduce_max": ("max", lax.max),
    "reduce_min": ("min", lax.min),
    "reduce_and": ("and", lax.bitwise_and),
    "reduce_or": ("or", lax.bitwise_or),
    "reduce_xor": ("xor", lax.bitwise_xor),
}
CUMULATIVE = {f"cum{name}": REDUCTIONS[f"reduce_{name}"] for name in ("sum", "prod", "max", "min")}


def is_half_precision(dtype: Any) -> bool:
    """Return True for floats of 16 bits or fewer, whose sums are computed in float32, as compilers do."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def _cast(scalars: Interpreter, x: np.ndarray, dtype: Any) -> np.ndarray:
    """Convert every element to a dtype."""
    if are_known(x):
        return x.astype(dtype)

    def convert(element: Any) -> Any:
        if element.dtype == dtype:
            return element
        if is_known(element):
            return np.asarray(element).astype(dtype)[()]
        return scalars.emit("convert_element_type", lax.convert_element_type, element, new_dtype=dtype)

    return map_elements(convert, x)


def _dot_general(scalars: Interpreter, eqn: Equation, lhs: Value, rhs: Value) -> Results:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    (out,) = eqn.outvars
    if not is_small(*eqn.invars, out) or out.aval.dtype == np.bool_:
        return NotImplemented
    dtype = np.dtype(np.float32) if is_half_precision(out.aval.dtype) else out.aval.dtype

    def to_matrices(x: Value, batch: Sequence[int], contract: Sequence[int]) -> np.ndarray:
        """Return (batch, free, contracted), each of them flat."""
        array = _cast(scalars, scalars.elements(x), dtype)
        free = [axis for axis in range(array.ndim) if axis not in (*batch, *contract)]
        array = np.transpose(array, (*batch, *free, *contract))
        n_batch, n_free = len(batch), len(batch) + len(free)
        shape = array.shape
        return array.reshape(prod(shape[:n_batch]), prod(shape[n_batch:n_free]), prod(shape[n_free:]))

    left, right = to_matrices(lhs, lhs_batch, lhs_contract), to_matrices(rhs, rhs_batch, rhs_contract)
    if not left.shape[-1]:
        return [np.zeros(out.aval.shape, out.aval.dtype)]
    add, multiply = partial(scalars.emit, "add", lax.add), partial(scalars.emit, "mul", lax.mul)
    cells = [
        reduce(add, [multiply(a, b) for a, b in zip(row, column, strict=True)])
        for rows, columns in zip(left, right, strict=True)
        for row in rows
        for column in columns
    ]
    return [_cast(scalars, object_array(cells, out.aval.shape), out.aval.dtype)]


def _collect_terms(x: np.ndarray, axes: Sequence[int]) -> list[np.ndarray]:
    """Return the terms of each result of a reduction, in order."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = np.transpose(x, (*kept, *axes))
    return list(moved.reshape(prod(x.shape[axis] for axis in kept), prod(x.shape[axis] for axis in axes)))


def _can_split(eqn: Equation) -> bool:
    return prod(eqn.invars[0].aval.shape) > 0 and is_small(eqn.invars[0])


def _reduction(scalars: Interpreter, eqn: Equation, x: Value) -> Results:
    dtype = eqn.invars[0].aval.dtype
    if not _can_split(eqn):
        return NotImplemented
    array = scalars.elements(x)
    is_half = is_half_precision(dtype) and eqn.primitive.name in ("reduce_sum", "reduce_prod")
    if is_half:
        array = _cast(scalars, array, np.dtype(np.float32))
    operation = partial(scalars.emit, *REDUCTIONS[eqn.primitive.name])
    totals = [reduce(operation, terms) for terms in _collect_terms(array, eqn.params["axes"])]
    result = object_array(totals, eqn.outvars[0].aval.shape)
    return [_cast(scalars, result, dtype) if is_half else result]


def _argmax_or_argmin(scalars: Interpreter, eqn: Equation, x: Value) -> Results:
    """Return the index of the first best element; NaN is better than every number."""
    if not _can_split(eqn):
        return NotImplemented
    index_dtype = np.dtype(eqn.params["index_dtype"]).type
    better = ("gt", lax.gt) if eqn.primitive.name == "argmax" else ("lt", lax.lt)
    indices = []
    for terms in _collect_terms(scalars.elements(x), eqn.params["axes"]):
        best, index = terms[0], index_dtype(0)
        for i, candidate in enumerate(terms[1:], 1):
            wins = scalars.emit(*better, candidate, best)
            if jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating):
                is_nan = scalars.emit("ne", lax.ne, candidate, candidate)
                best_is_number = scalars.emit("eq", lax.eq, best, best)
                is_first_nan = scalars.emit("and", lax.bitwise_and, is_nan, best_is_number)
                wins = scalars.emit("or", lax.bitwise_or, wins, is_first_nan)
            best = scalars.choose(wins, candidate, best)
            index = scalars.choose(wins, index_dtype(i), index)
        indices.append(index)
    return [object_array(indices, eqn.outvars[0].aval.shape)]


def _cumulative(scalars: Interpreter, eqn: Equation, x: Value) -> Results:
    if not _can_split(eqn):
        return NotImplemented
    axis, is_reverse = eqn.params["axis"], eqn.params["reverse"]
    moved = np.moveaxis(scalars.elements(x), axis, 0)
    moved = moved[::-1] if is_reverse else moved
    operation = partial(scalars.emit, *CUMULATIVE[eqn.primitive.name])
    rows = accumulate(moved.reshape(len(moved), -1), lambda *both: list(map(operation, *both)))
    result = object_array([e for row in rows for e in row], moved.shape)
    return [np.moveaxis(result[::-1] if is_reverse else result, 0, axis)]


REDUCTION_RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(CUMULATIVE, _cumulative),
    **dict.fromkeys(("argmax", "argmin"), _argmax_or_argmin),
    "dot_general": _dot_general,
}
