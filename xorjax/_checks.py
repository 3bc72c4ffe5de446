"""Checks of a user's arguments; every message names the argument, its value and what is allowed."""

import numbers
import operator
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

T = TypeVar("T")


def check_integer(name: str, value: object, low: int, high: int, high_name: str = "") -> int:
    """Return `value` as an int from `low` to `high`; `high_name` says where the upper bound comes from."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise TypeError(f"{name}={value!r} must be an integer.") from None
    if not low <= number <= high:
        bound = f"{high_name}={high}" if high_name else f"{high}"
        raise ValueError(f"{name}={number} must be between {low} and {bound}.")
    return number


def check_real(name: str, value: object) -> float:
    """Return `value` as a float, if it is a real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be a real number.")
    return float(value)


def check_real_array(name: str, value: object) -> np.ndarray:
    """Return `value` as an array of real numbers: floats (bfloat16 too), integers or Booleans."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # ragged lists, tracers, keys
        raise TypeError(f"{name} must be real numbers, got {value!r}: {error}") from None
    if not is_real_dtype(array.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array


def is_real_dtype(dtype: DTypeLike) -> bool:
    """Whether a dtype is one of floats, integers or Booleans."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def check_choice(argument: str, value: object, choices: Mapping[str, T]) -> T:
    """Return the choice that is called `value`."""
    if not isinstance(value, str):
        raise ValueError(f"{argument}={value!r} must be one of {', '.join(choices)}.")
    if value in choices:
        return choices[value]
    close = get_close_matches(value, choices, 1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(choices)}{hint}")
