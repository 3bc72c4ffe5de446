"""Statistics that stream, for `train_ensemble(..., reduce=...)`: of any number of members in constant memory.

Counts are whole numbers and sums are exact, so that what is merged from chunks, threads or hosts is the same in
any order, bit for bit.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from xorjax import exact_sums
from xorjax._checks import named, real_array, real_number, whole_number
from xorjax.members import Members, Places
from xorjax.reduction import Accumulator
from xorjax.results import Outcome, Result
from xorjax.statistics import OutcomeClass, outcome_classes
from xorjax.tallies import Tally, tally
from xorjax.tasks import AnyArray

OfMembers = Callable[[Result], Any]
CONDITIONS: dict[str, OfMembers] = {
    "solved": lambda results: results.outcome == Outcome.SOLVED,
    "diverged": lambda results: results.outcome == Outcome.DIVERGED,
    "unfinished": lambda results: results.outcome == Outcome.UNFINISHED,
    "all_right": lambda results: results.accuracy == 1,
    "validation_all_right": lambda results: results.validation_accuracy == 1,
}
VALUES: dict[str, OfMembers] = {
    "loss": lambda results: results.loss,
    "accuracy": lambda results: results.accuracy,
    "epochs": lambda results: results.epochs,
    "validation_loss": lambda results: results.validation_loss,
    "validation_accuracy": lambda results: results.validation_accuracy,
}


def _of_each(of: OfMembers, results: Result, dtype: Any) -> np.ndarray:
    values = np.asarray(of(results), dtype)
    if values.shape != np.shape(results.loss):
        raise ValueError(
            f"of(results) must give one value a member, {np.shape(results.loss)}, got {values.shape}."
        )
    return values


class _Groups(NamedTuple):
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


def _groups(members: Members, by: tuple[str, ...]) -> _Groups:
    sizes = dict(zip(members.axes, members.shape, strict=True))
    return _Groups(by, tuple(named("by", axis, sizes) for axis in by))


def _checked_axes(by: Sequence[str]) -> tuple[str, ...]:
    if isinstance(by, str) or not isinstance(by, Sequence) or len(set(by)) < len(by):
        raise TypeError(f"{by=} must be a list of different axes, such as ['learning_rate'].")
    return tuple(by)


def _checked_confidence(confidence: float) -> float:
    if not 0 < real_number("confidence", confidence) < 1:
        raise ValueError(f"{confidence=} must be between 0 and 1.")
    return confidence


class Shares(NamedTuple):
    """Shares of members, with intervals; arrays with an axis for each of `by`."""

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
    """Share of members for which something holds.

    Args:
      of: "solved", "diverged", "unfinished", "all_right", "validation_all_right", or a function from results to a
        Boolean for each.
      by: the axes to keep; one share of all without.
      confidence: of the interval, between 0 and 1.
      method: Wilson's score interval, or the exact one of Clopper and Pearson (SciPy's binomtest).

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    by = _checked_axes(by)
    holds = of if callable(of) else named("of", of, CONDITIONS)
    named("method", method, {"wilson": None, "exact": None})
    confidence = _checked_confidence(confidence)

    def init(members: Members) -> Any:
        groups = _groups(members, by)
        return groups, np.zeros((2, groups.number), np.int64)

    def update(gathered: Any, results: Result, places: Places) -> Any:
        groups, counts = gathered
        group = groups.of(places)
        true = _of_each(holds, results, bool)
        return groups, counts + np.stack([np.bincount(g, minlength=groups.number) for g in (group[true], group)])

    def finalize(gathered: Any) -> Shares:
        groups, (number, total) = gathered

        @cache  # of thousands of groups of equal size, many have the same count
        def limits_of(k: int, n: int) -> tuple[float, float]:
            return stats.binomtest(k, n).proportion_ci(confidence, method=method) if n else (0.0, 1.0)

        limits = [limits_of(int(k), int(n)) for k, n in zip(number, total, strict=True)]
        low, high = (np.array(each, float).reshape(groups.shape) for each in zip(*limits, strict=True))
        with np.errstate(invalid="ignore"):
            shares = (number / total).reshape(groups.shape)
        return Shares(number.reshape(groups.shape), total.reshape(groups.shape), shares, low, high)

    return Accumulator(init, update, _merged_counts, finalize)


def _merged_counts(one: Any, other: Any) -> Any:
    return one[0], one[1] + other[1]


class Moments(NamedTuple):
    """Mean and variance (divided by number − 1), with an axis for each of `by`; nan of no or of one member."""

    number: Int[np.ndarray, "*groups"]
    excluded: Int[np.ndarray, "*groups"]  # members whose value is infinite or not a number
    mean: Float[np.ndarray, "*groups"]
    variance: Float[np.ndarray, "*groups"]


def moments(of: str | OfMembers = "loss", *, by: Sequence[str] = ()) -> Accumulator:
    """Mean and variance of a value of members, of those for which it is finite.

    Values and their squares are summed exactly, and rounded once, at the end.

    Args:
      of: "loss", "accuracy", "epochs", "validation_loss", "validation_accuracy", or a function from results to a
        real number for each.
      by: the axes to keep.

    Raises:
      ValueError: if `of` names nothing.
    """
    by = _checked_axes(by)
    value = of if callable(of) else named("of", of, VALUES)

    def init(members: Members) -> Any:
        groups = _groups(members, by)
        return groups, (np.zeros((2, groups.number), np.int64), exact_sums.zeros(2 * groups.number))

    def update(gathered: Any, results: Result, places: Places) -> Any:
        groups, (counts, sums) = gathered
        values, group = _of_each(value, results, np.float64), groups.of(places)
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


# Quantiles, by counts of values in bins of equal width relative to the value.

BINS = 128  # from a power of two to the next
QUANTILE_ERROR = 1 / (2 * BINS)  # of a quantile, relative to it
_ZERO = 2**20  # the bin of 0; those of negative values lie below
_LARGEST = 2**21 - 1  # the bin of what is infinite or not a number
_GROUP = 2**21  # bins of a group


def _bins(values: np.ndarray) -> np.ndarray:
    fractions, exponents = np.frexp(np.abs(values))
    bins = 1 + (exponents.astype(np.int64) + 1100) * BINS + ((2 * fractions - 1) * BINS).astype(np.int64)
    signed = np.where(values == 0, 0, np.sign(values) * bins).astype(np.int64)
    return _ZERO + signed


def _middles(bins: np.ndarray) -> np.ndarray:
    exponents, within = np.divmod(np.abs(bins - _ZERO) - 1, BINS)
    with np.errstate(over="ignore"):  # of the largest
        middles = np.ldexp((1 + (within + 0.5) / BINS) / 2, (exponents - 1100).astype(int))
    return np.where(bins == _LARGEST, np.inf, np.where(bins == _ZERO, 0.0, np.sign(bins - _ZERO) * middles))


def quantiles(at: Sequence[float], of: str | OfMembers = "loss", *, by: Sequence[str] = ()) -> Accumulator:
    """Quantiles of a value of members, within a relative error of 1/256.

    A quantile is the least value that this share of members does not exceed. What is infinite or not a number
    counts as the largest.

    Args:
      at: shares between 0 and 1.
      of: as for `moments`.
      by: the axes to keep.

    Returns:
      An accumulator of an array with an axis for each of `by`, and one more for `at`.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    by = _checked_axes(by)
    value = of if callable(of) else named("of", of, VALUES)
    if isinstance(at, str) or not isinstance(at, Sequence | np.ndarray):
        raise TypeError(f"{at=} must be a list of shares, such as [0.5].")
    for i, q in enumerate(at):
        if not 0 <= real_number(f"at[{i}]", q) <= 1:
            raise ValueError(f"at[{i}]={q} must be between 0 and 1.")

    def init(members: Members) -> Any:
        return _groups(members, by), tally(np.empty(0))

    def update(gathered: Any, results: Result, places: Places) -> Any:
        groups, found = gathered
        values = _of_each(value, results, np.float64)
        finite = np.isfinite(values)
        bins = np.where(finite, _bins(np.where(finite, values, 0.0)), _LARGEST)
        return groups, found.merged(tally(groups.of(places) * _GROUP + bins))

    def finalize(gathered: Any) -> np.ndarray:
        groups, found = gathered
        values = np.full((groups.number, len(at)), np.nan)
        for i in range(groups.number):
            bins, counts = found.of_group(i, _GROUP)
            if len(bins):
                total = counts.cumsum()
                ranks = np.round(np.asarray(at, np.float64) * total[-1], 6)  # 0.07 of 100 is the 7th
                wanted = np.maximum(1, np.ceil(ranks))
                values[i] = _middles(bins)[np.searchsorted(total, wanted)]
        return values.reshape(*groups.shape, len(at))

    return Accumulator(init, update, _merged_tallies, finalize)


def _merged_tallies(one: Any, other: Any) -> Any:
    groups, *tallies = one
    return groups, *(a.merged(b) for a, b in zip(tallies, other[1:], strict=True))


# Epochs to solve.

_TIMES = 2**31  # epochs of a group


class Survival(NamedTuple):
    """Shares of members not solved after each of these epochs, with an interval."""

    epoch: Float[np.ndarray, " steps"]
    unsolved: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]


class Times(NamedTuple):
    """When members were first solved, and until when those that never were have been watched.

    Attributes:
      solved: how many members first met the solved rule after so many epochs.
      censored: how many members that never did were trained for so many.
    """

    solved: Tally
    censored: Tally

    @property
    def number(self) -> int:
        """Members."""
        return int(self.solved.counts.sum() + self.censored.counts.sum())

    def survival(self, confidence: float = 0.95) -> Survival:
        """The share not solved after each epoch at which one was, by Kaplan and Meier (1958).

        With Greenwood's variance (1926) and an interval symmetric in log(-log(share)), as SciPy's ecdf has it.
        """
        confidence = _checked_confidence(confidence)
        times, events = self.solved
        before = np.concatenate([[0], events.cumsum()[:-1]]).astype(np.int64)[: len(times)]
        left = np.concatenate([[0], self.censored.counts.cumsum()])[np.searchsorted(self.censored.keys, times)]
        at_risk = self.number - before - left
        shares = np.cumprod(1 - events / at_risk)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.cumsum(events / (at_risk * (at_risk - events)))
            spread = stats.norm.isf((1 - confidence) / 2) * np.sqrt(variance) / np.log(shares)
            low, high = shares ** np.exp(-spread), shares ** np.exp(spread)
        return Survival(times.astype(float), shares, low, high)

    def with_restarts(self, epochs: int) -> float:
        """Expected epochs to a solution for who starts again with another seed after so many without one.

        The mean over the trials that succeed, the time of the failed ones added, as Fahlman (1988) reports it;
        infinite if none does.

        Raises:
          TypeError, ValueError: if `epochs` is no whole number from 1 up, or members were watched for less.
        """
        epochs = whole_number("epochs", epochs, 1, 2**30)
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
    """
    by = _checked_axes(by)

    def init(members: Members) -> Any:
        return _groups(members, by), tally(np.empty(0)), tally(np.empty(0))

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

    return Accumulator(init, update, _merged_tallies, finalize)


# What members ended as.


def classes(targets: AnyArray) -> Accumulator:
    """Outcome classes by the pattern of the final predictions, see `statistics.outcome_classes`.

    Args:
      targets: those of the batch, (n, 1).

    Raises:
      TypeError, ValueError: if they are none.
    """
    outcome_classes(np.empty((0, *np.shape(targets))), targets)  # raises, and says what is wrong

    def update(gathered: Any, results: Result, places: Places) -> Any:
        new = dict(gathered)
        for found in outcome_classes(results.predictions, targets):
            new[found.name] = new.get(found.name, Counter()) + Counter(found.patterns)
        return new

    def merge(one: Any, other: Any) -> Any:
        return {name: one.get(name, Counter()) + other.get(name, Counter()) for name in {**one, **other}}

    def finalize(gathered: Any) -> list[OutcomeClass]:
        found = [
            OutcomeClass(
                name, patterns.total(), dict(sorted(patterns.items(), key=lambda each: (-each[1], each[0])))
            )
            for name, patterns in gathered.items()
        ]
        return sorted(found, key=lambda c: (-c.number, c.name))

    return Accumulator(lambda members: {}, update, merge, finalize)


def hidden_units(x: AnyArray, *, odd: bool = False, of: str | OfMembers | None = "solved") -> Accumulator:
    """What the units of the first hidden layer say of the rows, up to the symmetries of the network, with counts.

    A unit says of each row whether its weighted sum is above 0. In which order the units are makes no difference;
    nor, for an odd activation such as tanh, whether a unit or its opposite is there.

    Args:
      x: inputs (n, n_in), at most 62 rows.
      odd: whether the activation is odd.
      of: which members: "solved", …, or a function as for `share`; None is all of them.

    Returns:
      An accumulator of a dictionary, commonest first: for each solution, the units in ascending order, each as a
      text of 0 and 1 by row, to the number of members that have it.

    Raises:
      ValueError: if there are too many rows.
    """
    x = real_array("x", x)
    n = len(x) if x.ndim == 2 else 0
    if not 0 < n <= 62:
        raise ValueError(f"x has shape {x.shape}; it must be (n, n_in), with 1 to 62 rows.")
    holds = of if of is None or callable(of) else named("of", of, CONDITIONS)
    weights = np.int64(1) << np.arange(n, dtype=np.int64)[::-1]

    def update(gathered: Any, results: Result, places: Places) -> Any:
        layer = results.params[0]
        kernel, bias = (np.asarray(leaf, np.float64) for leaf in layer)
        if kernel.shape[1] != x.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns; the networks have {kernel.shape[1]} inputs.")
        if holds is not None:
            chosen = _of_each(holds, results, bool)
            kernel, bias = kernel[chosen], bias[chosen]
        above = x @ kernel + bias[:, None, :] > 0
        units = np.einsum("mnh,n->mh", above, weights)
        if odd:
            units = np.minimum(units, 2**n - 1 - units)
        found, counts = np.unique(np.sort(units, axis=1), axis=0, return_counts=True)
        return gathered + Counter(dict(zip(map(tuple, found.tolist()), counts.tolist(), strict=True)))

    def finalize(gathered: Any) -> dict[tuple[str, ...], int]:
        named_units = {tuple(f"{unit:0{n}b}" for unit in units): count for units, count in gathered.items()}
        return _commonest_first(named_units)

    return Accumulator(lambda members: Counter(), update, lambda one, other: one + other, finalize)


def _commonest_first(counts: Mapping[Any, int]) -> dict[Any, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
