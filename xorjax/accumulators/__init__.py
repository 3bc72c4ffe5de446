"""Statistics that stream, for `train_ensemble(..., reduce=...)`: of any number of members in constant memory.

Counts are whole numbers and sums are exact, so that what is merged from chunks, threads or hosts is the same in
any order, bit for bit.
"""

from xorjax.accumulators.binning import QUANTILE_ERROR, quantiles
from xorjax.accumulators.counting import Shares, share
from xorjax.accumulators.endings import classes, hidden_units
from xorjax.accumulators.summing import Moments, moments
from xorjax.accumulators.timing import Survival, Times, times

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
