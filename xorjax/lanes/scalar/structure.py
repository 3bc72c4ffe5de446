"""Rules for primitives that only move elements: NumPy's indexing, which adds no operation to the program."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xorjax.lanes.jaxprs import Equation, Params
from xorjax.lanes.scalar.objects import is_small, promote_to_objects
from xorjax.lanes.scalar.values import Interpreter, Results, Rule, Value


def _broadcast_in_dim(params: Params, x: np.ndarray) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for size, axis in zip(x.shape, params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _reshape(params: Params, x: np.ndarray) -> np.ndarray:
    order = params["dimensions"]
    return (x if order is None else np.transpose(x, order)).reshape(params["new_sizes"])


def _slice(params: Params, x: np.ndarray) -> np.ndarray:
    strides = params["strides"] or (1,) * x.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[..., *(slice(*bound) for bound in bounds)]  # the ellipsis keeps rank 0 an array


def _pad(params: Params, x: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Put `padding` between the elements and at the ends; negative padding at the ends removes elements."""
    if not x.ndim:
        return x
    x, padding = promote_to_objects(x, padding)
    shape, places = [], []
    for size, (low, high, inner) in zip(x.shape, params["padding_config"], strict=True):
        shape.append(max(0, low + size + max(size - 1, 0) * inner + high))
        places.append(low + (inner + 1) * np.arange(size))  # of the elements in the result
    are_inside = [(at >= 0) & (at < size) for at, size in zip(places, shape, strict=True)]
    result = np.broadcast_to(padding, shape).copy()
    result[np.ix_(*map(np.compress, are_inside, places))] = x[np.ix_(*are_inside)]
    return result


def _unstack(params: Params, x: np.ndarray) -> list[np.ndarray]:
    axis = params["axis"]
    parts = np.split(x, x.shape[axis], axis) if x.shape[axis] else []
    return [np.squeeze(part, axis) for part in parts]


STRUCTURE: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda params, *xs: np.concatenate(promote_to_objects(*xs), params["dimension"]),
    "expand_dims": lambda params, x: np.expand_dims(x, params["dimensions"]),
    "pad": _pad,
    "reshape": _reshape,
    "rev": lambda params, x: np.flip(x, params["dimensions"]) if x.ndim else x,
    "slice": _slice,
    "split": lambda params, x: np.split(x, np.cumsum(params["sizes"])[:-1], params["axis"]),
    "squeeze": lambda params, x: np.squeeze(x, tuple(params["dimensions"])),
    "stack": lambda params, *xs: np.stack(promote_to_objects(*xs), params["axis"]),
    "tile": lambda params, x: np.tile(x, params["reps"]) if x.ndim else x,
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
    "unstack": _unstack,
}


def _structural(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    if not is_small(*eqn.invars, *eqn.outvars):
        return NotImplemented
    result = STRUCTURE[eqn.primitive.name](eqn.params, *map(scalars.elements, operands))
    return result if eqn.primitive.multiple_results else [result]


def _iota(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    if operands or not is_small(*eqn.outvars):
        return NotImplemented
    along = np.arange(shape[axis]).astype(eqn.params["dtype"])
    return [np.broadcast_to(along.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)]


STRUCTURE_RULES: dict[str, Rule] = {**dict.fromkeys(STRUCTURE, _structural), "iota": _iota}
