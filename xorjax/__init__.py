"""Train a tiny neural network a million times: pure functions in JAX, and seed ensembles of them."""

from typing import TYPE_CHECKING, Any

from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.devices import members_here
from xorjax.ensembles.ensemble import replay, train_blocks, train_ensemble
from xorjax.ensembles.members import Members, grid, random_search
from xorjax.lanes.scalar.interpreter import scalar_operations, scalarize
from xorjax.lanes.transform import Explanation, explain, lane_vmap
from xorjax.networks.keras import params_from_keras, params_to_keras
from xorjax.networks.losses import (
    accuracy,
    mse,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    solved_by_40_20_40,
    solved_by_loss,
)
from xorjax.networks.models import Dense, Model, mlp, normal, summary, uniform
from xorjax.networks.tasks import Batch, parity, split, truth_table, xor
from xorjax.training.records import Record, log_spaced
from xorjax.training.results import History, Outcome, Result
from xorjax.training.stopping import StopRule, plateau
from xorjax.training.trainer import State, Trainer, trainer
from xorjax.training.updates import Info

if TYPE_CHECKING:
    from xorjax.studies.dataset import open_study
    from xorjax.studies.run import run_study
    from xorjax.studies.verify import verify_study

__version__ = "0.1.0"

__all__ = [
    "Accumulator",
    "Batch",
    "Dense",
    "Explanation",
    "History",
    "Info",
    "Members",
    "Model",
    "Outcome",
    "Record",
    "Result",
    "State",
    "StopRule",
    "Trainer",
    "accuracy",
    "explain",
    "grid",
    "lane_vmap",
    "log_spaced",
    "members_here",
    "mlp",
    "mse",
    "normal",
    "open_study",
    "params_from_keras",
    "params_to_keras",
    "parity",
    "plateau",
    "random_search",
    "replay",
    "run_study",
    "scalar_operations",
    "scalarize",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "solved_by_40_20_40",
    "solved_by_loss",
    "split",
    "summary",
    "train_blocks",
    "train_ensemble",
    "trainer",
    "truth_table",
    "uniform",
    "verify_study",
    "xor",
]

_OF_STUDIES = {"open_study": "dataset", "run_study": "run", "verify_study": "verify"}


def __getattr__(name: str) -> Any:
    """Studies want zarr and xarray, which take time to import and are an extra."""
    if name not in _OF_STUDIES:
        raise AttributeError(f"module 'xorjax' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"xorjax.studies.{_OF_STUDIES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("zarr", "xarray"):
            raise
        raise ModuleNotFoundError(
            f"xj.{name} needs {error.name}: pip install 'xorjax[study]'", name=error.name
        ) from None
