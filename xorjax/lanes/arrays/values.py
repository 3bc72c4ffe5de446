"""The values that the array interpreter works on, and the interface of the interpreter that rules use.

A rule is called as `rule(lanes, eqn, *operands)`, with at least one operand mapped. It returns the list of
results, or NotImplemented where `jax.vmap` of this primitive does better.
"""

from collections.abc import Callable, Sequence
from types import NotImplementedType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


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


class LaneAval(NamedTuple):
    """The type of a value: shape and dtype in one member, and whether it has lanes."""

    shape: tuple[int, ...]
    dtype: Any
    weak_type: bool
    is_mapped: bool


@runtime_checkable
class Interpreter(Protocol):
    """The part of `LaneInterpreter` that rules use."""

    n: int

    def materialize(self, x: Value) -> Value: ...


def to_array(x: Value) -> Any:
    """Return the array of a value, with lanes if it is mapped."""
    return x.array if isinstance(x, Mapped) else x


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
