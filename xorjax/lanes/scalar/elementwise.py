"""What `scalarize` knows of array operations: how each is done element by element.

A rule is called as `rule(scalars, eqn, *operands)`, with operands as values of the interpreter, and gives the
list of results, or NotImplemented where the operation is better done whole.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation

MAX_ELEMENTS = 4_096  # elements; what works on larger arrays is done whole


def is_known(element: Any) -> bool:
    return isinstance(element, np.generic)


def object_array(elements: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    """An array of these elements, which NumPy is not to look into."""
    flat = np.empty(len(elements), object)
    for i, element in enumerate(elements):
        flat[i] = element
    return flat.reshape(shape)


def promote_to_objects(*arrays: np.ndarray) -> list[np.ndarray]:
    """All as they are if all are numbers, else all as objects."""
    if all(a.dtype != object for a in arrays):
        return list(arrays)
    return [a if a.dtype == object else object_array(list(a.flat), a.shape) for a in arrays]


# Single scalars: what can be computed while tracing, exactly as it would be later, and what vanishes.


def _divide(a: Any, b: Any) -> Any:
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
    "div": _divide,
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


def _is_zero(element: Any) -> bool:
    return is_known(element) and bool(element == 0)


def simplify(name: str, operands: Sequence[Any], assume_finite: bool) -> Any:
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
    elif name in ("shift_left", "shift_right_logical") and is_known(b) and b >= 8 * b.dtype.itemsize:
        return b.dtype.type(0)  # which a machine's shift, of as many bits as the remainder says, is not
    return None


# Operations with finite results for finite operands, overflow aside.
FINITE = frozenset(
    """abs add add_any asinh atan cbrt ceil clamp clz convert_element_type copy cos erf erfc floor imag logistic
    max min mul neg real reduce_precision round select_n sign sin square stop_gradient sub tanh""".split()
)


def is_finite_result(name: str, operands: Sequence[Any], params: dict[str, Any]) -> bool:
    if name == "integer_pow":
        return params["y"] >= 0
    return name in FINITE or (name == "div" and is_known(operands[1]) and not _is_zero(operands[1]))


# Elementwise operations.

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
    complex conj convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1
    floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic
    lt lt_to max min mul mulhi name ne neg nextafter not one_minus_square or polygamma polynomial population_count
    pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
    zeta""".split()
)


def _elementwise(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    name, (out,) = eqn.primitive.name, eqn.outvars
    if prod(out.aval.shape) > MAX_ELEMENTS:
        return NotImplemented
    arrays = np.broadcast_arrays(*map(scalars.elements, operands))
    if all(a.dtype != object for a in arrays):
        if name not in FOLDED or not is_foldable(name, arrays):
            return _convert_known(eqn, *operands) if name == "convert_element_type" else NotImplemented
        with np.errstate(all="ignore"):
            return [np.asarray(FOLDED[name](*arrays), out.aval.dtype)]
    if name == "copy":
        return [arrays[0]]
    bind = eqn.primitive.bind
    each = [scalars.emit(name, bind, *xs, **eqn.params) for xs in zip(*(a.flat for a in arrays), strict=True)]
    return [object_array(each, out.aval.shape)]


def _convert_known(eqn: Equation, x: np.ndarray) -> Any:
    """Known numbers in another dtype; not where the two libraries could differ (floats to integers)."""
    new = np.dtype(eqn.params["new_dtype"])
    if jnp.issubdtype(new, jnp.inexact) or not jnp.issubdtype(x.dtype, jnp.inexact) or new == np.bool_:
        with np.errstate(all="ignore"):
            return [x.astype(new)]
    return NotImplemented


def _bitcast_convert_type(scalars: Any, eqn: Equation, x: Any) -> Any:
    same = eqn.invars[0].aval.dtype.itemsize == eqn.outvars[0].aval.dtype.itemsize
    return _elementwise(scalars, eqn, x) if same else NotImplemented


def _convert_element_type(scalars: Any, eqn: Equation, x: Any) -> Any:
    if eqn.params["new_dtype"] == eqn.invars[0].aval.dtype:
        return [x]
    return _elementwise(scalars, eqn, x)


def _select_n(scalars: Any, eqn: Equation, which: Any, *cases: Any) -> Any:
    (out,) = eqn.outvars
    if prod(out.aval.shape) > MAX_ELEMENTS:
        return NotImplemented
    arrays = np.broadcast_arrays(scalars.elements(which), *map(scalars.elements, cases))
    if all(a.dtype != object for a in arrays) and len(arrays) == 3 and arrays[0].dtype == np.bool_:
        return [np.where(arrays[0], arrays[2], arrays[1])]
    chosen = [scalars.select(*each) for each in zip(*(a.flat for a in arrays), strict=True)]
    return [object_array(chosen, out.aval.shape)]


def power(operate: Callable[..., Any], choose: Callable[..., Any], base: Any, exponent: Any) -> Any:
    """A known number to a whole power that is not known: one of the first sixteen, times squares of squares.

    It vectorizes, where the power functions of C are called lane by lane. The first sixteen are rounded once, for
    what subtracts them from 1 early in a training; every higher bit that is set in the exponent adds an ulp.
    """
    dtype, one = exponent.dtype, base.dtype.type(1)
    signed = jnp.issubdtype(dtype, jnp.signedinteger)
    count = operate("abs", lax.abs, exponent) if signed else exponent
    negative = operate("lt", lax.lt, exponent, dtype.type(0)) if signed else np.False_

    def powers(number: int) -> list[Any]:
        with np.errstate(all="ignore"):
            return [(np.float64(base) ** p).astype(base.dtype) for p in (-float(number), float(number))]

    low = operate("and", lax.bitwise_and, count, dtype.type(15))
    result = one
    for number in range(1, 16):
        is_this = operate("eq", lax.eq, low, dtype.type(number))
        result = choose(is_this, choose(negative, *powers(number)), result)
    for bit in range(4, 8 * dtype.itemsize):
        if np.isinf(powers(2**bit)).any():  # and so is every higher one, or it is 0
            ends = [base.dtype.type(0 if (base < 1) != is_inverse else np.inf) for is_inverse in (True, False)]
            rest = operate("shift_right_logical", lax.shift_right_logical, count, dtype.type(bit))
            return choose(operate("ne", lax.ne, rest, dtype.type(0)), choose(negative, *ends), result)
        is_set = operate("and", lax.bitwise_and, count, np.uint64(1 << bit).astype(dtype))
        factor = choose(operate("ne", lax.ne, is_set, dtype.type(0)), choose(negative, *powers(2**bit)), one)
        result = operate("mul", lax.mul, result, factor)
    return result


def has_known_base(base: Any, exponent: Any) -> bool:
    """Whether `power` is the way to do it, for an element and what its exponent has the dtype of."""
    return (
        is_known(base)
        and base.dtype in (np.float32, np.float64)
        and jnp.issubdtype(exponent.dtype, jnp.integer)
        and bool(0 < base < np.inf)
    )


def _pow(scalars: Any, eqn: Equation, x: Any, y: Any) -> Any:
    shape = eqn.outvars[0].aval.shape
    if prod(shape) > MAX_ELEMENTS:
        return NotImplemented
    bases, exponents = promote_to_objects(*np.broadcast_arrays(scalars.elements(x), scalars.elements(y)))
    if bases.dtype != object or not all(map(has_known_base, bases.flat, exponents.flat)):
        return _elementwise(scalars, eqn, x, y)
    powers = [power(scalars.emit, scalars.choose, a, b) for a, b in zip(bases.flat, exponents.flat, strict=True)]
    return [object_array(powers, shape)]


def _optimization_barrier(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    if any(prod(v.aval.shape) > MAX_ELEMENTS for v in eqn.invars):
        return NotImplemented
    arrays = [scalars.elements(x) for x in operands]
    unknown = {id(e): e for a in arrays if a.dtype == object for e in a.flat if not is_known(e)}
    passed = dict(zip(unknown, lax.optimization_barrier(list(unknown.values())), strict=True))
    return [replace_elements(a, passed) for a in arrays]


def replace_elements(array: np.ndarray, by_id: dict[int, Any]) -> np.ndarray:
    """An array with other elements in the place of some."""
    if array.dtype != object:
        return array
    return object_array([by_id.get(id(e), e) for e in array.flat], array.shape)


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


def pad(x: np.ndarray, padding: np.ndarray, config: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """With `padding` between the elements and at the ends; what is negative at the ends is cut off."""
    if not x.ndim:
        return x
    x, padding = promote_to_objects(x, padding)

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


def _unstack(params: Any, x: np.ndarray) -> list[np.ndarray]:
    axis = params["axis"]
    parts = np.split(x, x.shape[axis], axis) if x.shape[axis] else []
    return [np.squeeze(part, axis) for part in parts]


STRUCTURE: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda params, *xs: np.concatenate(promote_to_objects(*xs), params["dimension"]),
    "expand_dims": lambda params, x: np.expand_dims(x, params["dimensions"]),
    "pad": lambda params, x, padding: pad(x, padding, params["padding_config"]),
    "reshape": _reshape,
    "rev": lambda params, x: np.flip(x, params["dimensions"]) if x.ndim else x,
    "slice": _slice,
    "split": _split,
    "squeeze": lambda params, x: np.squeeze(x, tuple(params["dimensions"])),
    "stack": lambda params, *xs: np.stack(promote_to_objects(*xs), params["axis"]),
    "tile": lambda params, x: np.tile(x, params["reps"]) if x.ndim else x,
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
    "unstack": _unstack,
}


def _structural(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    sizes = [prod(v.aval.shape) for v in [*eqn.invars, *eqn.outvars]]
    if max(sizes) > MAX_ELEMENTS:
        return NotImplemented
    result = STRUCTURE[eqn.primitive.name](eqn.params, *map(scalars.elements, operands))
    return result if eqn.primitive.multiple_results else [result]


def _iota(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    if operands or prod(shape) > MAX_ELEMENTS:
        return NotImplemented
    along = np.arange(shape[axis]).astype(eqn.params["dtype"])
    return [np.broadcast_to(along.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)]


ELEMENTWISE_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(STRUCTURE, _structural),
    "bitcast_convert_type": _bitcast_convert_type,
    "convert_element_type": _convert_element_type,
    "iota": _iota,
    "optimization_barrier": _optimization_barrier,
    "pow": _pow,
    "select_n": _select_n,
}
