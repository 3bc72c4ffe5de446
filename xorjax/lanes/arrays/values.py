"""The values that the array interpreter works on, and the interface of the interpreter that rules use.

A rule is called as `rule(lanes, eqn, *operands)`, with at least one operand mapped. It returns the list of
results, or NotImplemented where `jax.vmap` of this primitive does better.
"""

from collections.abc import Callable, Sequence
from types import NotImplementedType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from xorjax.lanes.jaxprs import AnyJaxpr, Aval


class Mapped(NamedTuple):
    """A value that differs by member: an array (*shape, lanes)."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one member's value."""
        return self.array.shape[:-1]

    @property
    def dtype(self) -> Any:
        return self.array.dtype


Value = Mapped | ArrayLike  # an array that is not mapped has no lanes
Results = Sequence[Value] | NotImplementedType
Rule = Callable[..., Results]


@runtime_checkable
class Interpreter(Protocol):
    """What rules use of `LaneInterpreter`, which documents it."""

    n: int

    def make_inner(self) -> "Interpreter": ...
    def evaluate(self, jaxpr: AnyJaxpr, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]: ...
    def materialize(self, x: Value) -> Value: ...
    def to_arrays(
        self, values: Sequence[Value], avals: Sequence[Aval], are_mapped: Sequence[bool]
    ) -> list[Array]: ...


def to_array(x: Value) -> Any:
    """Return the array of a value, with lanes if it is mapped."""
    return x.array if isinstance(x, Mapped) else x


def to_values(arrays: Sequence[ArrayLike], are_mapped: Sequence[bool]) -> list[Value]:
    """Return arrays as values; the lanes of the mapped ones are their last axis."""
    return [Mapped(a) if is_mapped else a for a, is_mapped in zip(arrays, are_mapped, strict=True)]  # pyright: ignore


def find_mapped(values: Sequence[Value]) -> list[bool]:
    """Return which values are mapped."""
    return [isinstance(x, Mapped) for x in values]


def broadcast_lanes(n_lanes: int, x: Value, shape: Sequence[int]) -> Array:
    """Return a value as an array (*shape, lanes)."""
    target = (*shape, n_lanes)
    if not isinstance(x, Mapped):
        x = jnp.asarray(x)
        return lax.broadcast_in_dim(x, target, range(len(shape) - x.ndim, len(shape)))
    if x.array.shape == target:
        return x.array
    axes = range(len(shape) - len(x.shape), len(shape))
    return lax.broadcast_in_dim(x.array, target, (*axes, len(shape)))


def emit_array(name: str, operation: Callable[..., Any], *operands: Any) -> Any:
    """Apply an operation to arrays of one shape, as the scalar interpreter's `emit` does to scalars."""
    shape = next(x.shape for x in operands if not isinstance(x, np.generic))
    return operation(*(lax.broadcast(np.asarray(x), shape) if isinstance(x, np.generic) else x for x in operands))


def choose_array(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, else `no`."""
    if isinstance(condition, np.bool_):
        return yes if condition else no
    return emit_array("select_n", lax.select_n, condition, no, yes)
