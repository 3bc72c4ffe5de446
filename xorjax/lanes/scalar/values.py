"""The values that the scalar interpreter works on, and the interface of the interpreter that rules use.

A rule is called as `rule(scalars, eqn, *operands)`. It returns the list of results, or NotImplemented where the
primitive is better applied to the assembled arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from types import NotImplementedType
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax import Array

from xorjax.lanes.jaxprs import AnyJaxpr, Aval

MAX_ELEMENTS = 4_096  # larger arrays are not split into elements


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class KeyWords:
    """A key of JAX's default generator, as two uint32 scalars. (Not a sequence, which NumPy would unpack.)"""

    first: Any
    second: Any


Number = Array | np.generic  # a scalar; known while tracing if it is NumPy's
Element = Number | KeyWords
# An array of known numbers, an array of objects (an `Element` each), or a JAX array that is not split yet.
Value = np.ndarray | Array
Leaf = Element | Value  # of a loop's carry: an element, or an array that is too large to split
Emit = Callable[..., Any]  # `emit(name, operation, *operands)`, of scalars or of arrays, see `Interpreter.emit`
Choose = Callable[[Any, Any, Any], Any]  # `choose(condition, yes, no)`


@runtime_checkable
class Interpreter(Protocol):
    """What rules use of `ScalarInterpreter`, which documents it."""

    in_kernel: bool

    def elements(self, value: Value) -> np.ndarray: ...
    def assemble(self, value: Value, aval: Aval) -> Value: ...
    def emit(self, name: str, operation: Callable[..., Any], /, *operands: Any, **params: Any) -> Any: ...
    def select(self, index: Number, *elements: Any) -> Any: ...
    def choose(self, condition: Number, yes: Any, no: Any) -> Any: ...
    def make_inner(self) -> "Interpreter": ...
    def evaluate(self, jaxpr: AnyJaxpr, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]: ...
    def apply(self, fn: Callable[..., Any], *args: Any) -> Any: ...
    def flatten(self, values: Sequence[Value], avals: Sequence[Aval]) -> list[Leaf]: ...
    def assemble_all(self, leaves: Sequence[Leaf], avals: Sequence[Aval]) -> list[Value]: ...


Results = Sequence[Value] | NotImplementedType
Rule = Callable[..., Results]


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
    each = zip(*(x.flat for x in promote_to_objects(*arrays)), strict=True)
    return object_array([operation(*xs) for xs in each], arrays[0].shape)


def count_leaves(aval: Aval) -> int:
    """Return the number of leaves of a value in a loop's carry: its elements, or one if it is large."""
    size = prod(aval.shape)
    return size if size <= MAX_ELEMENTS else 1


def unflatten(leaves: Sequence[Leaf], avals: Sequence[Aval]) -> list[Any]:
    """Return the values whose leaves `Interpreter.flatten` returned."""
    rest = iter(leaves)
    values = []
    for aval in avals:
        if prod(aval.shape) > MAX_ELEMENTS:
            values.append(next(rest))
            continue
        values.append(object_array([next(rest) for _ in range(prod(aval.shape))], aval.shape))
    return values
