"""One network: the pure functions that train it.

Start with `xorjax.trainer`, defined in `training/trainer.py`: it returns a `Trainer` of pure functions, and its
`run` returns a `Result`. `plateau` and `StopRule` (`training/stopping.py`) decide when a network stops before its
last epoch; `log_spaced` lists epochs to record. `training/state.py` has the start and one epoch.

>>> import jax, optax, xorjax as xj
>>> trainer = xj.trainer(
...     xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(1.0), epochs=100, stop=plateau(50), record_at=log_spaced(100)
... )
>>> jax.jit(trainer.run)(jax.random.key(7)).history.loss.shape
(8,)
"""

from xorjax.training.records import Record, log_spaced
from xorjax.training.results import History, Outcome, Result
from xorjax.training.state import State
from xorjax.training.stopping import StopRule, plateau
from xorjax.training.trainer import Trainer
from xorjax.training.updates import EpochMetrics

__all__ = [
    "EpochMetrics",
    "History",
    "Outcome",
    "Record",
    "Result",
    "State",
    "StopRule",
    "Trainer",
    "log_spaced",
    "plateau",
]
