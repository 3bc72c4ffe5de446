"""Parts of all accumulators: values of members, groups of members along axes, counts by integer keys."""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import ArrayLike, DTypeLike, Int

from xorjax._checks import check_choice, check_real
from xorjax.ensembles.members import AxisIndices, Members
from xorjax.networks.tasks import AnyArray
from xorjax.training.results import Outcome, Result

OfMembers = Callable[[Result], ArrayLike]  # from results to a value for each member
CONDITIONS: dict[str, OfMembers] = {
    "solved": lambda results: results.outcome == Outcome.SOLVED,
    "diverged": lambda results: results.outcome == Outcome.DIVERGED,
    "unfinished": lambda results: results.outcome == Outcome.UNFINISHED,
    "all_right": lambda results: results.accuracy == 1,
    "validation_all_right": lambda results: _held_out("validation_all_right", results.validation_accuracy) == 1,
}
VALUES: dict[str, OfMembers] = {
    "loss": lambda results: results.loss,
    "accuracy": lambda results: results.accuracy,
    "epochs": lambda results: results.epochs,
    "validation_loss": lambda results: _held_out("validation_loss", results.validation_loss),
    "validation_accuracy": lambda results: _held_out("validation_accuracy", results.validation_accuracy),
}


def _held_out(of: str, values: AnyArray | None) -> np.ndarray:
    if values is None:
        raise ValueError(f"{of=} needs a trainer with rows held out: xj.trainer(..., validation=...).")
    return np.asarray(values)


def evaluate(of: OfMembers, results: Result, dtype: DTypeLike | None) -> np.ndarray:
    """Return the value of each member, (members,).

    Raises:
      ValueError: if `of` does not give one value for each member.
    """
    values = np.asarray(of(results), dtype)
    if values.shape != np.shape(results.outcome):
        raise ValueError(
            f"of(results) must give one value a member, {np.shape(results.outcome)}, got {values.shape}."
        )
    return values


class Groups(NamedTuple):
    """Groups of members: one for each combination of indices along some of the axes."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def number(self) -> int:
        """How many groups there are."""
        return prod(self.shape)

    def locate(self, indices: AxisIndices) -> np.ndarray:
        """Return the group of each member, from 0, (members,)."""
        if not self.axes:
            return np.zeros(len(next(iter(indices.values()))), np.int64)
        return np.ravel_multi_index([indices[axis] for axis in self.axes], self.shape)


def group_members(members: Members, by: tuple[str, ...]) -> Groups:
    """Return the groups of members along these axes.

    Raises:
      ValueError: if one is no axis of the members.
    """
    sizes = dict(zip(members.axes, members.shape, strict=True))
    return Groups(by, tuple(check_choice("by", axis, sizes) for axis in by))


def check_axes(by: Sequence[str]) -> tuple[str, ...]:
    """Return `by` as a tuple, if it is a list of different names."""
    if isinstance(by, str) or not isinstance(by, Sequence) or len(set(by)) < len(by):
        raise TypeError(f"{by=} must be a list of different axes, such as ['learning_rate'].")
    return tuple(by)


def check_confidence(confidence: float) -> float:
    """Return `confidence`, if it is a number between 0 and 1."""
    if not 0 < check_real("confidence", confidence) < 1:
        raise ValueError(f"{confidence=} must be between 0 and 1.")
    return confidence


class Tally(NamedTuple):
    """How often each key occurs. Keys are integers of any range; only those that occur are stored.

    Attributes:
      keys: in ascending order, (keys,).
      counts: of each key, (keys,).
    """

    keys: Int[np.ndarray, " keys"]
    counts: Int[np.ndarray, " keys"]

    def merge(self, other: "Tally") -> "Tally":
        """Return the counts of both together."""
        keys, where = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return Tally(keys, counts)

    def select(self, i: int, size: int) -> "Tally":
        """Return the keys from `i * size` to the next multiple of `size`, counted from 0."""
        first, last = np.searchsorted(self.keys, (i * size, (i + 1) * size))
        return Tally(self.keys[first:last] - i * size, self.counts[first:last])


def tally(keys: ArrayLike) -> Tally:
    """Count how often each key occurs."""
    different, counts = np.unique(np.asarray(keys, np.int64), return_counts=True)
    return Tally(different, counts.astype(np.int64))


NO_KEYS = tally(np.empty(0))
T = TypeVar("T", bound=tuple[Groups, *tuple[Tally, ...]])


def merge_tallies(one: T, other: T) -> T:
    """Merge the tallies of two parts of the same groups."""
    groups, *tallies = one
    return groups, *(a.merge(b) for a, b in zip(tallies, other[1:], strict=True))  # pyright: ignore[reportReturnType]
