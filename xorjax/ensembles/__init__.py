"""Many networks: which members there are, and how they are trained on cores and devices.

`train_ensemble` trains one member for each seed, and `iter_results` yields their results chunk by chunk. `grid`
and `random_search` describe `Members` whose hyper-parameters differ. `replay` trains one member again, alone, bit
for bit. An `Accumulator` gathers statistics in place of results; `xorjax.statistics` has them.

Beneath, `scheduler` splits members into chunks and runs them on threads, `chunk` compiles and trains one chunk and
compacts the lanes of stopped members, `rounds` bounds the time between reports, and `engines` has the ways to
run a chunk.

>>> import optax, xorjax as xj
>>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
>>> train_ensemble(trainer, grid(learning_rate=[0.1, 1.0], seeds=range(3))).loss.shape
(6,)
"""

from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.ensemble import iter_results, replay, train_ensemble
from xorjax.ensembles.members import Members, grid, random_search

__all__ = [
    "Accumulator",
    "Members",
    "grid",
    "iter_results",
    "random_search",
    "replay",
    "train_ensemble",
]
