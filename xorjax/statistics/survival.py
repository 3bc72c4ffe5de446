"""Epochs to solve, by counts of the epochs at which members were first solved, or last seen unsolved."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from xorjax._checks import check_integer
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import Members, Places
from xorjax.statistics.grouping import checked_axes, checked_confidence, groups_of
from xorjax.statistics.tallies import Tally, merged_tallies, tally
from xorjax.training.results import Result

_TIMES = 2**31  # epochs of a group


class Survival(NamedTuple):
    """Shares of members not solved after each of these epochs, with an interval; arrays (steps,).

    Attributes:
      epoch: epochs at which members were solved, in ascending order.
      unsolved: share not solved after them, by Kaplan and Meier.
      low: lower end of the interval.
      high: upper end of it.
    """

    epoch: Float[np.ndarray, " steps"]
    unsolved: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]


class Times(NamedTuple):
    """When members were first solved, and until when those that never were have been watched.

    Attributes:
      solved: how many members first met the solved rule after so many epochs.
      censored: how many members that never did were trained for so many.

    >>> watched = Times(Tally(np.array([20, 30]), np.array([6, 2])), Tally(np.array([40]), np.array([2])))
    >>> watched.number, watched.median, watched.with_restarts(25)  # (6 · 20 + 4 · 25) / 6
    (10, 20.0, 36.666666666666664)
    >>> watched.survival().unsolved
    array([0.4, 0.2])
    """

    solved: Tally
    censored: Tally

    @property
    def number(self) -> int:
        """Members."""
        return int(self.solved.counts.sum() + self.censored.counts.sum())

    def survival(self, confidence: float = 0.95) -> Survival:
        """The share not solved after each epoch at which one was, by Kaplan and Meier (1958).

        Π (1 − solved / still watched) over the epochs so far, with Greenwood's variance (1926) and an interval
        symmetric in log(-log(share)), as SciPy's ecdf has it.

        Args:
          confidence: of the interval, between 0 and 1.

        Raises:
          TypeError, ValueError: if it is no such number.
        """
        confidence = checked_confidence(confidence)
        times, events = self.solved
        before = np.concatenate([[0], events.cumsum()[:-1]]).astype(np.int64)[: len(times)]
        left = np.concatenate([[0], self.censored.counts.cumsum()])[np.searchsorted(self.censored.keys, times)]
        at_risk = self.number - before - left
        shares = np.cumprod(1 - events / at_risk)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.cumsum(events / (at_risk * (at_risk - events)))
            from scipy import stats  # an extra, and slow to import

            spread = stats.norm.isf((1 - confidence) / 2) * np.sqrt(variance) / np.log(shares)
            low, high = shares ** np.exp(-spread), shares ** np.exp(spread)
        return Survival(times.astype(float), shares, low, high)

    @property
    def median(self) -> float:
        """The first epoch after which at most half is not solved, by that estimate; infinite if there is none."""
        curve = self.survival()
        reached = curve.unsolved <= 0.5 + 1e-9  # a product of shares, each of them rounded
        return float(curve.epoch[np.argmax(reached)]) if reached.any() else math.inf

    def with_restarts(self, epochs: int) -> float:
        """Expected epochs to a solution for who starts again with another seed after so many without one.

        The mean over the trials that succeed, the time of the failed ones added, as Fahlman (1988) reports it;
        infinite if none does.

        Args:
          epochs: after so many, 1 to 2^30.

        Raises:
          TypeError, ValueError: if `epochs` is no integer from 1 up, or members were watched for less.
        """
        epochs = check_integer("epochs", epochs, 1, 2**30)
        solved, counts = self.solved
        within = solved <= epochs
        if len(self.censored.keys) and self.censored.keys[0] < epochs:
            raise ValueError(f"{epochs=} must be at most {self.censored.keys[0]}, for which all were trained.")
        successes = int(counts[within].sum())
        if not successes:
            return float("inf")
        return float((solved * counts)[within].sum() + epochs * (self.number - successes)) / successes


def times(*, by: Sequence[str] = ()) -> Accumulator:
    """Epochs to solve, and members that were never solved as censored when their training ended.

    Args:
      by: the axes to keep.

    Returns:
      An accumulator of `Times`, or of an array of them with an axis for each of `by`.

    Raises:
      TypeError, ValueError: if these are no different axes of the members.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> found = xj.train_ensemble(trainer, members, reduce=times())
    >>> found.number, found.median  # in five epochs nobody solves it
    (20, inf)
    """
    by = checked_axes(by)

    def init(members: Members) -> Any:
        return groups_of(members, by), tally(np.empty(0)), tally(np.empty(0))

    def update(gathered: Any, results: Result, places: Places) -> Any:
        groups, solved, censored = gathered
        first, group = np.asarray(results.solved_epoch, np.int64), groups.of(places) * _TIMES
        ever = first >= 0
        epochs = np.asarray(results.epochs, np.int64)
        return (
            groups,
            solved.merged(tally((group + first)[ever])),
            censored.merged(tally((group + epochs)[~ever])),
        )

    def finalize(gathered: Any) -> Any:
        groups, *tallies = gathered
        found = np.empty(groups.number, object)
        for i in range(groups.number):
            found[i] = Times(*(part.of_group(i, _TIMES) for part in tallies))
        return found.reshape(groups.shape) if by else found[0]

    return Accumulator(init, update, merged_tallies, finalize)
