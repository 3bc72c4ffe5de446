"""Train a tiny neural network a million times: pure functions in JAX, and seed ensembles of them."""

from xorjax.ensemble import train_blocks, train_ensemble
from xorjax.keras import params_from_keras, params_to_keras
from xorjax.lanes import Explanation, explain, lane_vmap
from xorjax.losses import accuracy, mse, solved_by_40_20_40, solved_by_loss
from xorjax.models import Dense, Model, mlp, normal, summary, uniform
from xorjax.results import History, Outcome, Result
from xorjax.scalarize import scalar_operations, scalarize
from xorjax.tasks import Batch, parity, truth_table, xor
from xorjax.training import State, Trainer, trainer
from xorjax.updates import Info

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Dense",
    "Explanation",
    "History",
    "Info",
    "Model",
    "Outcome",
    "Result",
    "State",
    "Trainer",
    "accuracy",
    "explain",
    "lane_vmap",
    "mlp",
    "mse",
    "normal",
    "params_from_keras",
    "params_to_keras",
    "parity",
    "scalar_operations",
    "scalarize",
    "solved_by_40_20_40",
    "solved_by_loss",
    "summary",
    "train_blocks",
    "train_ensemble",
    "trainer",
    "truth_table",
    "uniform",
    "xor",
]
