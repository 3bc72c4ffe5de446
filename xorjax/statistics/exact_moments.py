"""Mean and variance, by exact sums."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from xorjax._checks import check_choice
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import Members, Places
from xorjax.statistics import exact_sums
from xorjax.statistics.grouping import VALUES, OfMembers, checked_axes, groups_of, of_each
from xorjax.training.results import Result


class Moments(NamedTuple):
    """Mean and variance of members; arrays with an axis for each of `by`.

    Attributes:
      number: members whose value is finite.
      excluded: members whose value is infinite or not a number.
      mean: Σ value / number; nan of none.
      variance: Σ (value − mean)² / (number − 1); nan of none and of one.
    """

    number: Int[np.ndarray, "*groups"]
    excluded: Int[np.ndarray, "*groups"]
    mean: Float[np.ndarray, "*groups"]
    variance: Float[np.ndarray, "*groups"]


def moments(of: str | OfMembers = "loss", *, by: Sequence[str] = ()) -> Accumulator:
    """Mean and variance of a value of members, of those for which it is finite.

    Values and their squares are summed exactly, and rounded once, at the end.

    Args:
      of: "loss", "accuracy", "epochs", "validation_loss", "validation_accuracy", or a function from results to a
        real number for each.
      by: the axes to keep.

    Returns:
      An accumulator of `Moments`.

    Raises:
      ValueError: if `of` names nothing.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> xj.train_ensemble(trainer, members, reduce=moments("epochs", by=["learning_rate"])).mean
    array([5., 5.])
    """
    by = checked_axes(by)
    value = of if callable(of) else check_choice("of", of, VALUES)

    def init(members: Members) -> Any:
        groups = groups_of(members, by)
        return groups, (np.zeros((2, groups.number), np.int64), exact_sums.zeros(2 * groups.number))

    def update(gathered: Any, results: Result, places: Places) -> Any:
        groups, (counts, sums) = gathered
        values, group = of_each(value, results, np.float64), groups.of(places)
        finite = np.isfinite(values)
        new = np.stack([np.bincount(group[where], minlength=groups.number) for where in (finite, ~finite)])
        values, group = values[finite], group[finite]
        sums = exact_sums.added(sums, values, group)
        return groups, (counts + new, exact_sums.squares_added(sums, values, group + groups.number))

    def merge(one: Any, other: Any) -> Any:
        groups, (counts, sums) = one
        return groups, (counts + other[1][0], exact_sums.carried(sums + other[1][1]))

    def finalize(gathered: Any) -> Moments:
        groups, ((number, excluded), sums) = gathered
        mean, variance = np.full((2, groups.number), np.nan)
        for i, n in enumerate(map(int, number)):
            total, squares = exact_sums.exactly(sums[i]), exact_sums.exactly(sums[groups.number + i])
            if n > 0:
                mean[i] = _rounded(total / n)
            if n > 1:
                variance[i] = _rounded((squares - total**2 / n) / (n - 1))
        return Moments(*(each.reshape(groups.shape) for each in (number, excluded, mean, variance)))

    return Accumulator(init, update, merge, finalize)


def _rounded(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
