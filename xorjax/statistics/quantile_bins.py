"""Quantiles, by counts of values in bins of equal width relative to the value."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xorjax._checks import check_choice, check_real
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import Members, Places
from xorjax.statistics.arrays import quantile_ranks
from xorjax.statistics.grouping import VALUES, OfMembers, checked_axes, groups_of, of_each
from xorjax.statistics.tallies import merged_tallies, tally
from xorjax.training.results import Result

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

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> xj.train_ensemble(trainer, members, reduce=quantiles([0.25, 0.5], by=["learning_rate"])).shape
    (2, 2)
    """
    by = checked_axes(by)
    value = of if callable(of) else check_choice("of", of, VALUES)
    if isinstance(at, str) or not isinstance(at, Sequence | np.ndarray):
        raise TypeError(f"{at=} must be a list of shares, such as [0.5].")
    for i, q in enumerate(at):
        if not 0 <= check_real(f"at[{i}]", q) <= 1:
            raise ValueError(f"at[{i}]={q} must be between 0 and 1.")

    def init(members: Members) -> Any:
        return groups_of(members, by), tally(np.empty(0))

    def update(gathered: Any, results: Result, places: Places) -> Any:
        groups, found = gathered
        values = of_each(value, results, np.float64)
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
                values[i] = _middles(bins)[np.searchsorted(total, quantile_ranks(at, total[-1]))]
        return values.reshape(*groups.shape, len(at))

    return Accumulator(init, update, merged_tallies, finalize)
