"""Statistics that stream, for `train_ensemble(..., reduce=...)`: of any number of members in constant memory.

Counts are integers and sums are exact, so that what is merged from chunks, threads or hosts is the same in
any order, bit for bit.
"""

from xorjax.statistics.exact_moments import Moments, moments
from xorjax.statistics.outcomes import classes, hidden_units
from xorjax.statistics.quantile_bins import QUANTILE_ERROR, quantiles
from xorjax.statistics.shares import Shares, share
from xorjax.statistics.survival import Survival, Times, times

__all__ = [
    "QUANTILE_ERROR",
    "Moments",
    "Shares",
    "Survival",
    "Times",
    "classes",
    "hidden_units",
    "moments",
    "quantiles",
    "share",
    "times",
]
