"""Epochs to solve, by counts of the epochs at which members were first solved, or trained in vain."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from xorjax._checks import check_integer
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices, Members
from xorjax.statistics.arrays import quantile_ranks
from xorjax.statistics.grouping import (
    NO_KEYS,
    Groups,
    Tally,
    check_axes,
    check_confidence,
    group_members,
    merge_tallies,
    tally,
)
from xorjax.training.results import Result

_EPOCHS_OF_GROUP = 2**31


class Survival(NamedTuple):
    """Shares of members not solved after each of these epochs, with an interval; arrays (steps,).

    Attributes:
      epoch: epochs at which members were solved, in ascending order.
      unsolved: share not solved after them, by Kaplan and Meier.
      low: lower end of the interval.
      high: upper end of the interval.
    """

    epoch: Float[np.ndarray, " steps"]
    unsolved: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]


class Times(NamedTuple):
    """Epochs at which members were first solved, and epochs for which the others were trained.

    Attributes:
      solved: how many members first met the solved rule after each number of epochs.
      censored: how many members that never met it were trained for each number of epochs.

    >>> times = Times(Tally(np.array([20, 30]), np.array([6, 2])), Tally(np.array([40]), np.array([2])))
    >>> times.number, times.median, times.with_restarts(25)  # (6 · 20 + 4 · 25) / 6
    (10, 20.0, 36.666666666666664)
    >>> times.survival().unsolved
    array([0.4, 0.2])
    """

    solved: Tally
    censored: Tally

    @property
    def number(self) -> int:
        """Members."""
        return int(self.solved.counts.sum() + self.censored.counts.sum())

    def quantiles(self, at: Sequence[float]) -> Float[np.ndarray, " at"]:
        """Epochs within which these shares of all members were first solved; infinite if fewer ever were.

        Args:
          at: shares between 0 and 1.
        """
        if not self.number:
            return np.full(len(at), np.nan)
        rank = np.searchsorted(self.solved.counts.cumsum(), quantile_ranks(at, self.number))
        return np.append(self.solved.keys.astype(np.float64), math.inf)[rank]

    def survival(self, confidence: float = 0.95) -> Survival:
        """Return the share not solved after each epoch at which a member was, by Kaplan and Meier (1958).

        Π (1 − solved / at risk) over the epochs so far, with Greenwood's variance (1926) and an interval
        symmetric in log(-log(share)), as SciPy's ecdf has it.

        Args:
          confidence: of the interval, between 0 and 1.

        Raises:
          TypeError, ValueError: if it is no such number.
        """
        confidence = check_confidence(confidence)
        epochs, events = self.solved
        before = np.concatenate([[0], events.cumsum()[:-1]]).astype(np.int64)[: len(epochs)]
        left = np.concatenate([[0], self.censored.counts.cumsum()])[np.searchsorted(self.censored.keys, epochs)]
        at_risk = self.number - before - left
        shares = np.cumprod(1 - events / at_risk)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.cumsum(events / (at_risk * (at_risk - events)))
            from scipy import stats  # an extra, and slow to import

            spread = stats.norm.isf((1 - confidence) / 2) * np.sqrt(variance) / np.log(shares)
            low, high = shares ** np.exp(-spread), shares ** np.exp(spread)
        return Survival(epochs.astype(float), shares, low, high)

    @property
    def median(self) -> float:
        """The first epoch after which at most half is not solved, by that estimate; infinite if there is none."""
        curve = self.survival()
        is_half = curve.unsolved <= 0.5 + 1e-9  # a product of shares, each of them rounded
        return float(curve.epoch[np.argmax(is_half)]) if is_half.any() else math.inf

    def with_restarts(self, epochs: int) -> float:
        """Expected epochs to a solution if training starts again with another seed after `epochs` without one.

        The mean over the trials that succeed, with the time of the failed ones added, as Fahlman (1988) reports
        it; infinite if none succeeds.

        Args:
          epochs: of a trial, 1 to 2^30.

        Raises:
          TypeError, ValueError: if `epochs` is no integer from 1 up, or a member was trained for less.
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
    """Gather epochs to solve; a member that was never solved counts as not solved up to its last epoch (censored).

    Args:
      by: the axes to keep.

    Returns:
      An accumulator of `Times`, or of an array of them with an axis for each of `by`.

    Raises:
      TypeError, ValueError: if these are not different axes of the members.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> watched = xj.train_ensemble(trainer, members, reduce=times())
    >>> watched.number, watched.median  # no member is solved within five epochs
    (20, inf)
    """
    by = check_axes(by)

    def init(members: Members) -> _Gathered:
        return group_members(members, by), NO_KEYS, NO_KEYS

    def update(gathered: _Gathered, results: Result, indices: AxisIndices) -> _Gathered:
        groups, solved, censored = gathered
        first, group = np.asarray(results.solved_epoch, np.int64), groups.locate(indices) * _EPOCHS_OF_GROUP
        ever = first >= 0
        epochs = np.asarray(results.epochs, np.int64)
        return (
            groups,
            solved.merge(tally((group + first)[ever])),
            censored.merge(tally((group + epochs)[~ever])),
        )

    def finalize(gathered: _Gathered) -> Times | np.ndarray:
        groups, *tallies = gathered
        of_groups = np.empty(groups.number, object)
        for i in range(groups.number):
            of_groups[i] = Times(*(each.select(i, _EPOCHS_OF_GROUP) for each in tallies))
        return of_groups.reshape(groups.shape) if by else of_groups[0]

    return Accumulator(init, update, merge_tallies, finalize)


_Gathered = tuple[Groups, Tally, Tally]
