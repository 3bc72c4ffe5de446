"""Arrays of scalars: NumPy arrays of objects, or of numbers that are known while tracing."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

MAX_ELEMENTS = 4_096  # larger arrays are not split into elements


def is_known(element: Any) -> bool:
    """Return True for a number whose value is known while tracing."""
    return isinstance(element, np.generic)


def are_known(array: Any) -> bool:
    """Return True for an array of known numbers."""
    return isinstance(array, np.ndarray) and array.dtype != object


def is_small(*variables: Any) -> bool:
    """Return True if no array of these variables is too large to be split into elements."""
    return all(prod(v.aval.shape) <= MAX_ELEMENTS for v in variables)


def object_array(elements: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    """Return an array of objects, none of which NumPy unpacks."""
    flat = np.empty(len(elements), object)
    for i, element in enumerate(elements):
        flat[i] = element
    return flat.reshape(shape)


def promote_to_objects(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return arrays of numbers as they are; if one is of objects, return all as arrays of objects."""
    if all(a.dtype != object for a in arrays):
        return list(arrays)
    return [a if a.dtype == object else object_array(list(a.flat), a.shape) for a in arrays]


def map_elements(operation: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Apply an operation to the elements of arrays of one shape."""
    return object_array(
        [operation(*each) for each in zip(*(x.flat for x in arrays), strict=True)], arrays[0].shape
    )
