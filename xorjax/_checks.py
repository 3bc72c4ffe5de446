"""The checks of what a user passes, in one wording: the argument, its value, what is allowed."""

import numbers
import operator
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def check_integer(name: str, value: Any, low: int, high: int, high_name: str = "") -> int:
    """`value` as an int from `low` to `high`; `high_name` says where the upper bound comes from."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be an integer.") from None
    if not low <= number <= high:
        bound = f"{high_name}={high}" if high_name else f"{high}"
        raise ValueError(f"{name}={number} must be between {low} and {bound}.")
    return number


def check_real(name: str, value: Any) -> float:
    """`value`, if it is a real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be a real number.")
    return float(value)


def check_real_array(name: str, value: Any) -> np.ndarray:
    """`value` as an array of real numbers: floats (bfloat16 too), integers, Booleans."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # ragged lists, tracers, keys
        raise TypeError(f"{name} must be real numbers, got {value!r}: {error}") from None
    if not is_real_dtype(array.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array


def is_real_dtype(dtype: Any) -> bool:
    """Whether a dtype is of real numbers."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def check_choice(argument: str, value: str, choices: Mapping[str, T]) -> T:
    """The choice called `value`."""
    if isinstance(value, str) and value in choices:
        return choices[value]
    close = get_close_matches(value, choices, 1) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(choices)}{hint or '.'}")
