"""Shares of members, with intervals, by counts."""

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from xorjax._checks import check_choice
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices, Members
from xorjax.statistics.grouping import (
    CONDITIONS,
    Groups,
    OfMembers,
    check_axes,
    check_confidence,
    evaluate,
    group_members,
)
from xorjax.training.results import Result


class Shares(NamedTuple):
    """Shares of members, with intervals; arrays with an axis for each of `by`.

    Attributes:
      number: members for which the condition holds.
      total: members.
      share: number / total; nan if there are no members.
      low: lower end of the interval.
      high: upper end of the interval.
    """

    number: Int[np.ndarray, "*groups"]
    total: Int[np.ndarray, "*groups"]
    share: Float[np.ndarray, "*groups"]
    low: Float[np.ndarray, "*groups"]
    high: Float[np.ndarray, "*groups"]


def share(
    of: str | OfMembers = "solved",
    *,
    by: Sequence[str] = (),
    confidence: float = 0.95,
    method: Literal["wilson", "exact"] = "wilson",
) -> Accumulator:
    """Share of members for which a condition holds.

    Args:
      of: "solved", "diverged", "unfinished", "all_right", "validation_all_right", or a function from results to a
        Boolean for each member.
      by: the axes to keep; without them, one share of all members.
      confidence: of the interval, between 0 and 1.
      method: Wilson's score interval (1927), or the exact one of Clopper and Pearson (1934), by SciPy's binomtest.

    Returns:
      An accumulator of `Shares`.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> solved = xj.train_ensemble(trainer, members, reduce=share("solved", by=["learning_rate"]))
    >>> solved.number, solved.total
    (array([0, 0]), array([10, 10]))
    """
    by = check_axes(by)
    condition = of if callable(of) else check_choice("of", of, CONDITIONS)
    check_choice("method", method, {"wilson": None, "exact": None})
    confidence = check_confidence(confidence)

    def init(members: Members) -> Counts:
        groups = group_members(members, by)
        return groups, np.zeros((2, groups.number), np.int64)

    def update(gathered: Counts, results: Result, indices: AxisIndices) -> Counts:
        groups, counts = gathered
        group = groups.locate(indices)
        holds = evaluate(condition, results, bool)
        return groups, counts + np.stack([np.bincount(g, minlength=groups.number) for g in (group[holds], group)])

    def finalize(gathered: Counts) -> Shares:
        groups, (number, total) = gathered

        @cache  # of thousands of groups of equal size, many have the same count
        def limits_of(k: int, n: int) -> tuple[float, float]:
            from scipy import stats  # an extra, and slow to import

            return stats.binomtest(k, n).proportion_ci(confidence, method=method) if n else (0.0, 1.0)

        limits = [limits_of(int(k), int(n)) for k, n in zip(number, total, strict=True)]
        low, high = (np.array(each, float).reshape(groups.shape) for each in zip(*limits, strict=True))
        with np.errstate(invalid="ignore"):
            shares = np.asarray(number / total).reshape(groups.shape)
        return Shares(number.reshape(groups.shape), total.reshape(groups.shape), shares, low, high)

    return Accumulator(init, update, _merge, finalize)


Counts = tuple[Groups, np.ndarray]  # of the members for which it holds, and of all, (2, groups)


def _merge(one: Counts, other: Counts) -> Counts:
    return one[0], one[1] + other[1]
