"""The checks of what a user passes, in one wording: the argument, its value, what is allowed."""

import operator
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


def whole_number(name: str, value: Any, low: int, high: int, high_name: str = "") -> int:
    """`value` as an int from `low` to `high`; `high_name` says where the upper bound comes from."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be a whole number.") from None
    if not low <= number <= high:
        bound = f"{high_name}={high}" if high_name else f"{high}"
        raise ValueError(f"{name}={number} must be between {low} and {bound}.")
    return number


def named(argument: str, value: str, choices: Mapping[str, T]) -> T:
    """The choice called `value`."""
    if isinstance(value, str) and value in choices:
        return choices[value]
    close = get_close_matches(value, choices, 1) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(choices)}{hint or '.'}")
