"""Scalars that need no operation: results computed while tracing, exactly as XLA would, and identities."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from xorjax.lanes.jaxprs import Params
from xorjax.lanes.scalar.values import Number, is_known


def _divide(a: Any, b: Any) -> Any:
    """Divide as XLA does: integers toward zero, and −1 for a division by zero."""
    if jnp.issubdtype(a.dtype, jnp.floating):
        return np.divide(a, b)
    return np.where(b == 0, ~np.zeros_like(b), (a - np.fmod(a, b)) // b)[()]


def _remainder(a: Any, b: Any) -> Any:
    """Return the remainder of integers, with the sign of the dividend, or the dividend for a division by zero."""
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


def is_foldable(name: str, operands: Sequence[np.generic | np.ndarray]) -> bool:
    """Return True if NumPy's result is equal to XLA's in every bit."""
    dtypes = [x.dtype for x in operands]
    if name not in FOLDED or any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return False
    return name != "rem" or not any(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


def fold(name: str, operands: Sequence[np.generic | np.ndarray]) -> Any:
    """Return NumPy's result of an operation that is foldable."""
    with np.errstate(all="ignore"):
        return FOLDED[name](*operands)


def _is_zero(element: Any) -> bool:
    return is_known(element) and bool(element == 0)


def simplify(name: str, operands: Sequence[Any], assume_finite: bool) -> Number | None:
    """Return the result if it needs no operation, else None."""
    if len(operands) != 2 or not any(map(is_known, operands)):
        return None
    a, b = operands
    known = a if is_known(a) else b
    if known.dtype == np.bool_:
        other = b if known is a else a
        return _simplify_logical(name, known, other)
    if jnp.issubdtype(known.dtype, jnp.complexfloating):
        return None
    is_exact = jnp.issubdtype(known.dtype, jnp.integer) or assume_finite  # 0·x is 0, and x + 0 is x
    if name == "mul":
        for x, y in ((a, b), (b, a)):
            if is_known(x) and x == 1:
                return y
            if is_exact and _is_zero(x):
                return x
    elif name in ("add", "add_any"):
        for x, y in ((a, b), (b, a)):
            if _is_zero(x) and (is_exact or np.signbit(x)):
                return y
    elif (name == "sub" and _is_zero(b) and (is_exact or not np.signbit(b))) or (
        name == "div" and is_known(b) and b == 1
    ):
        return a
    elif name in ("shift_left", "shift_right_logical") and is_known(b) and b >= 8 * b.dtype.itemsize:
        return b.dtype.type(0)  # a machine would shift by the remainder of b instead
    return None


def _simplify_logical(name: str, known: Any, other: Any) -> Number | None:
    if name == "and":
        return other if known else known
    if name == "or":
        return known if known else other
    return None


# Operations with finite results for finite operands, overflow aside.
FINITE = frozenset(
    """abs add add_any asinh atan cbrt ceil clamp clz convert_element_type copy cos erf erfc floor imag logistic
    max min mul neg real reduce_precision round select_n sign sin square stop_gradient sub tanh""".split()
)


def is_finite_result(name: str, operands: Sequence[Any], params: Params) -> bool:
    """Return True if the result is finite for all finite operands, overflow aside."""
    if name == "integer_pow":
        return params["y"] >= 0
    return name in FINITE or (name == "div" and is_known(operands[1]) and not _is_zero(operands[1]))
