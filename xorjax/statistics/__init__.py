"""Statistics that stream: of any number of members, in constant memory.

Each function makes an accumulator for `train_ensemble(..., reduce=...)`: start from `share` (with an interval),
`quantiles` and `times` (epochs to solve, survival); `by=` keeps axes of the members. Counts are integers and sums
are exact, so that the result is the same bit for bit however members are cut into chunks or merged. `arrays` has
the same for results that are in memory, and `box_counting` the dimension of a boundary.

>>> import optax, xorjax as xj
>>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=200)
>>> members = xj.grid(seeds=range(100), learning_rate=[0.1, 8.0])
>>> statistics = {"solved": share(by=["learning_rate"]), "loss": quantiles([0.05, 0.5, 0.95])}
>>> found = xj.train_ensemble(trainer, members, reduce=statistics)
>>> found["solved"].total, found["loss"].shape
(array([100, 100]), (3,))
"""

from xorjax.statistics.exact_moments import Moments, moments
from xorjax.statistics.outcomes import classes, hidden_units
from xorjax.statistics.quantile_bins import QUANTILE_ERROR, Histogram, histogram, quantiles
from xorjax.statistics.shares import Shares, share
from xorjax.statistics.survival import Survival, Times, times

__all__ = [
    "QUANTILE_ERROR",
    "Histogram",
    "Moments",
    "Shares",
    "Survival",
    "Times",
    "classes",
    "hidden_units",
    "histogram",
    "moments",
    "quantiles",
    "share",
    "times",
]
