"""What all accumulators share: which members are asked for what, and along which axes they are put together."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from xorjax._checks import check_choice, check_real
from xorjax.ensembles.members import Members, Places
from xorjax.training.results import Outcome, Result

OfMembers = Callable[[Result], Any]
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


def _held_out(of: str, values: Any) -> np.ndarray:
    if values is None:
        raise ValueError(f"{of=} needs a trainer with rows held out: xj.trainer(..., validation=...).")
    return np.asarray(values)


def of_each(of: OfMembers, results: Result, dtype: Any) -> np.ndarray:
    values = np.asarray(of(results), dtype)
    if values.shape != np.shape(results.loss):
        raise ValueError(
            f"of(results) must give one value a member, {np.shape(results.loss)}, got {values.shape}."
        )
    return values


class Groups(NamedTuple):
    """Members put together: by their places along some of the axes."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def number(self) -> int:
        return prod(self.shape)

    def of(self, places: Places) -> np.ndarray:
        if not self.axes:
            return np.zeros(len(next(iter(places.values()))), np.int64)
        return np.ravel_multi_index([places[axis] for axis in self.axes], self.shape)


def groups_of(members: Members, by: tuple[str, ...]) -> Groups:
    sizes = dict(zip(members.axes, members.shape, strict=True))
    return Groups(by, tuple(check_choice("by", axis, sizes) for axis in by))


def checked_axes(by: Sequence[str]) -> tuple[str, ...]:
    if isinstance(by, str) or not isinstance(by, Sequence) or len(set(by)) < len(by):
        raise TypeError(f"{by=} must be a list of different axes, such as ['learning_rate'].")
    return tuple(by)


def checked_confidence(confidence: float) -> float:
    if not 0 < check_real("confidence", confidence) < 1:
        raise ValueError(f"{confidence=} must be between 0 and 1.")
    return confidence
