"""Shares with intervals, and quantiles, of arrays of results that are in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int


class Proportion(NamedTuple):
    """A share of members, with an interval.

    Attributes:
      number: members for which the condition holds.
      total: members.
      low: lower end of the interval.
      high: upper end of the interval.
    """

    number: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """number / total."""
        return self.number / self.total


def proportion(holds: Bool[ArrayLike, " members"], confidence: float = 0.95) -> Proportion:
    """Share of members for which a condition holds, with Wilson's score interval (Wilson 1927; SciPy's).

    Args:
      holds: for each member, (members,).
      confidence: of the interval, between 0 and 1.

    Raises:
      ValueError: if there are no members.

    >>> p = proportion(np.array([True] * 57 + [False] * 43))
    >>> p.share, round(p.low, 3), round(p.high, 3)
    (0.57, 0.472, 0.663)
    """
    holds = np.asarray(holds, bool)
    if holds.size == 0:
        raise ValueError("holds must have at least one member, got none.")
    count = int(holds.sum())
    return Proportion(count, holds.size, *interval(count, holds.size, confidence))


def interval(number: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927; SciPy's).

    Args:
      number: members for which the condition holds.
      total: members.
      confidence: of the interval, between 0 and 1.

    Raises:
      ValueError: if `number` is above `total`, or there are no members.

    >>> low, high = interval(0, 100)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.037)
    """
    from scipy import stats  # an extra, and slow to import

    limits = stats.binomtest(number, total).proportion_ci(confidence, method="wilson")
    return float(limits.low), float(limits.high)


def percent(share: float) -> str:
    """Return a share as a text in percent.

    Args:
      share: between 0 and 1.

    >>> percent(0.57281)
    '57.3 %'
    """
    return f"{100 * share:.1f} %"


def quantile_ranks(at: Sequence[float], total: int) -> Int[np.ndarray, " at"]:
    """Ranks, from 1, of quantiles among the ordered values of members.

    The value of rank r is the least that these shares of the members do not exceed.

    Args:
      at: shares between 0 and 1.
      total: members.

    >>> quantile_ranks([0.0, 0.07, 0.5, 1.0], 100)
    array([  1,   7,  50, 100])
    """
    exact = np.round(np.asarray(at, np.float64) * total, 6)  # 0.07 of 100 is the 7th
    return np.maximum(1, np.ceil(exact)).astype(int)


def quantiles(values: Float[ArrayLike, " members"], at: Sequence[float]) -> Float[np.ndarray, " at"]:
    """Return quantiles over members: for 0.9, the smallest value v such that 90 % of members are at or below v.

    A value that is not a number counts as the largest, as infinity does.

    Args:
      values: of members, (members,).
      at: shares between 0 and 1.

    Raises:
      ValueError: if there are no members, or more than one axis.

    >>> quantiles([0.3, 0.1, np.nan, 0.2], [0.5, 1.0])
    array([0.2, inf])
    """
    if np.ndim(values) != 1:
        raise ValueError(f"values have shape {np.shape(values)}; they must have one axis, of members.")
    ordered = np.sort(np.where(np.isnan(values), np.inf, values).astype(np.float64))
    if ordered.size == 0:
        raise ValueError("values must have at least one member, got none.")
    return ordered[quantile_ranks(at, ordered.size) - 1]


def epochs_to_solve(solved_epoch: Int[ArrayLike, " members"], at: Sequence[float]) -> Float[np.ndarray, " at"]:
    """Epochs within which these shares of all members were first solved; infinite if fewer ever were.

    Args:
      solved_epoch: epochs until each member was first solved, -1 if it never was, (members,).
      at: shares between 0 and 1.

    Raises:
      ValueError: if there are no members.

    >>> epochs_to_solve([120, -1, 80, 300], [0.5, 0.9])
    array([120.,  inf])
    """
    solved_epoch = np.asarray(solved_epoch)
    return quantiles(np.where(solved_epoch < 0, np.inf, solved_epoch), at)


def share_better(loss: float, losses: Float[ArrayLike, " members"]) -> float:
    """Share of members than which a single result is better: whose loss is above `loss`, or not a number.

    Args:
      loss: of the single result.
      losses: of members, (members,).

    >>> share_better(0.1, [0.05, 0.2, 0.3, np.nan])
    0.75
    """
    return float(np.mean(~(np.asarray(losses) <= loss)))
