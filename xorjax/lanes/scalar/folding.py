"""Scalars that need no operation: results computed while tracing, exactly as XLA would, and identities."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from xorjax.lanes.jaxprs import Params
from xorjax.lanes.scalar.objects import is_known
from xorjax.lanes.scalar.values import Number


def _divide(a: Any, b: Any) -> Any:
    """Divide as XLA does: integers toward zero, and −1 for a division by zero."""
    if jnp.issubdtype(a.dtype, jnp.floating):
        return np.divide(a, b)
    return np.where(b == 0, ~np.zeros_like(b), (a - np.fmod(a, b)) // b)[()]


def _remainder(a: Any, b: Any) -> Any:
    """Return the remainder of integers, with the sign of the dividend, or the dividend for a division by zero."""
    return np.where(b == 0, a, np.fmod(a, b))[()]


NUMPY_NAMES: str = """abs=abs add=add add_any=add and=bitwise_and ceil=ceil eq=equal floor=floor ge=greater_equal
gt=greater is_finite=isfinite le=less_equal lt=less max=maximum min=minimum mul=multiply ne=not_equal neg=negative
not=bitwise_not or=bitwise_or square=square sub=subtract xor=bitwise_xor"""
FOLDED: dict[str, Callable[..., Any]] = {"div": _divide, "rem": _remainder}
FOLDED |= {name: getattr(np, own) for name, own in (pair.split("=") for pair in NUMPY_NAMES.split())}


def fold(name: str, operands: Sequence[Any]) -> Any:
    """Return NumPy's result of an operation on known numbers if it is equal to XLA's in every bit, else None."""
    may_differ = np.inexact if name == "rem" else np.complexfloating
    if name not in FOLDED or any(jnp.issubdtype(x.dtype, may_differ) for x in operands):
        return None
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
        if name not in ("and", "or"):
            return None
        other = b if known is a else a
        return other if bool(known) == (name == "and") else known  # True and x, False or x
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
