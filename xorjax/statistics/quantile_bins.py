"""Quantiles and histograms, by counts of values in bins."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from xorjax._checks import check_choice, check_integer, check_real
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices, Members
from xorjax.statistics.arrays import quantile_ranks
from xorjax.statistics.grouping import (
    NO_KEYS,
    VALUES,
    Groups,
    OfMembers,
    Tally,
    check_axes,
    evaluate,
    group_members,
    tally,
)
from xorjax.training.results import Result

BINS = 128  # from a power of two to the next
QUANTILE_ERROR = 1 / (2 * BINS)  # of a quantile from bins, relative to it
_ZERO = 2**20  # the bin of 0; those of negative values lie below
_LARGEST = 2**21 - 1  # the bin of values that are infinite or not a number
_BINS_OF_GROUP = 2**21


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


class Values(NamedTuple):
    """The values of some members, and their groups, (members,)."""

    group: np.ndarray
    value: np.ndarray


class _Gathered(NamedTuple):
    groups: Groups
    parts: tuple[Values, ...]  # each larger than the next, so that appending is cheap however small the blocks
    counts: Tally  # of bins, once the members are too many to store their values


def quantiles(
    at: Sequence[float], of: str | OfMembers = "loss", *, by: Sequence[str] = (), exact_up_to: int = 0
) -> Accumulator:
    """Quantiles of a value of members, within a relative error of `QUANTILE_ERROR`, 1/256.

    For 0.9, it is the smallest value v such that 90 % of members are at or below v. Values that are infinite or
    nan count as the largest.

    Args:
      at: shares between 0 and 1.
      of: as for `moments`.
      by: the axes to keep.
      exact_up_to: quantiles are exact up to this number of members in all, whose values are stored until there
        are more (about 5 bytes a member for a float32).

    Returns:
      An accumulator of an array with an axis for each of `by`, and one more for `at`.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> xj.train_ensemble(trainer, members, reduce=quantiles([0.25, 0.5], by=["learning_rate"])).shape
    (2, 2)
    """
    by = check_axes(by)
    value = of if callable(of) else check_choice("of", of, VALUES)
    if isinstance(at, str) or not isinstance(at, Sequence | np.ndarray):
        raise TypeError(f"{at=} must be a list of shares, such as [0.5].")
    for i, q in enumerate(at):
        if not 0 <= check_real(f"at[{i}]", q) <= 1:
            raise ValueError(f"at[{i}]={q} must be between 0 and 1.")
    exact_up_to = check_integer("exact_up_to", exact_up_to, 0, 2**31)

    def limit(gathered: _Gathered) -> _Gathered:
        """Count all stored values in bins if they are too many, or if values are counted already."""
        groups, parts, counts = gathered
        if not len(counts.keys) and sum(len(part.value) for part in parts) <= exact_up_to:
            return gathered
        for group, values in parts:
            values = values.astype(np.float64)
            finite = np.isfinite(values)
            bins = np.where(finite, _bins(np.where(finite, values, 0.0)), _LARGEST)
            counts = counts.merge(tally(group.astype(np.int64) * _BINS_OF_GROUP + bins))
        return _Gathered(groups, (), counts)

    def update(gathered: _Gathered, results: Result, indices: AxisIndices) -> _Gathered:
        values = evaluate(value, results, None)
        values = values.astype(np.result_type(values, np.float32), copy=False)
        group = gathered.groups.locate(indices).astype(np.min_scalar_type(gathered.groups.number))
        return limit(gathered._replace(parts=_append(gathered.parts, Values(group, values))))

    def merge(one: _Gathered, other: _Gathered) -> _Gathered:
        parts = one.parts
        for part in other.parts:
            parts = _append(parts, part)
        return limit(_Gathered(one.groups, parts, one.counts.merge(other.counts)))

    def finalize(gathered: _Gathered) -> np.ndarray:
        groups, parts, counts = gathered
        found = np.full((groups.number, len(at)), np.nan)
        group, values = (np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (None, None)
        for i in range(groups.number):
            bins, numbers = counts.select(i, _BINS_OF_GROUP)
            if values is not None:
                found[i] = _exact_quantiles(values if groups.number == 1 else values[group == i], at)
            elif len(bins):
                total = numbers.cumsum()
                found[i] = _middles(bins)[np.searchsorted(total, quantile_ranks(at, total[-1]))]
        return found.reshape(*groups.shape, len(at))

    return Accumulator(lambda members: _Gathered(group_members(members, by), (), NO_KEYS), update, merge, finalize)


def _append(parts: tuple[Values, ...], new: Values) -> tuple[Values, ...]:
    while parts and len(parts[-1].value) <= len(new.value):
        new = Values(*(np.concatenate(pair) for pair in zip(parts[-1], new, strict=True)))
        parts = parts[:-1]
    return (*parts, new)


def _exact_quantiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    if not len(values):
        return np.full(len(at), np.nan)
    ranks = quantile_ranks(at, len(values)) - 1
    ordered = np.where(np.isfinite(values), values, np.array(np.inf, values.dtype))
    ordered.partition(np.unique(ranks))
    return ordered[ranks].astype(np.float64)


class Histogram(NamedTuple):
    """How many members have a value between each two edges.

    Attributes:
      edges: in ascending order, (bins + 1,).
      counts: members from one edge to the next, (bins,).
      outside: members whose value lies beyond the edges, or is not a number.
    """

    edges: Float[np.ndarray, " edges"]
    counts: Int[np.ndarray, " bins"]
    outside: int


def histogram(edges: Sequence[float] | np.ndarray, of: str | OfMembers = "loss") -> Accumulator:
    """Histogram of a value of members.

    Args:
      edges: of the bins, in ascending order, (bins + 1,).
      of: as for `moments`.

    Returns:
      An accumulator of a `Histogram`.

    Raises:
      ValueError: if the edges do not ascend, or `of` names nothing.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1), epochs=5)
    >>> xj.train_ensemble(trainer, range(10), reduce=histogram([0.0, 0.1, 1.0]))
    Histogram(edges=array([0. , 0.1, 1. ]), counts=array([ 0, 10]), outside=0)
    """
    ascending = np.asarray(edges, np.float64)
    if ascending.ndim != 1 or len(ascending) < 2 or not (np.diff(ascending) > 0).all():
        raise ValueError(f"{edges=} must be at least two numbers in ascending order.")
    value = of if callable(of) else check_choice("of", of, VALUES)

    def update(gathered: Histogram, results: Result, indices: AxisIndices) -> Histogram:
        values = evaluate(value, results, np.float64)
        counts = np.histogram(values[np.isfinite(values)], ascending)[0]
        return Histogram(ascending, gathered.counts + counts, gathered.outside + len(values) - int(counts.sum()))

    def merge(one: Histogram, other: Histogram) -> Histogram:
        return Histogram(ascending, one.counts + other.counts, one.outside + other.outside)

    def init(members: Members) -> Histogram:
        return Histogram(ascending, np.zeros(len(ascending) - 1, np.int64), 0)

    return Accumulator(init, update, merge, lambda gathered: gathered)
