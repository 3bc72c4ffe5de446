"""Train a tiny neural network a million times: a functional JAX kernel for seed ensembles.

Every program is written for one network; `train_ensemble` and `lane_vmap` add the members. The package has eight
layers, and each imports only the layers below it:

    cli/         the command `xorjax`: options in, the library at work, words out
    reports/     results as tables, figures, one HTML page
    studies/     grids of members in a store on disk; studies/store/ is how they lie there
    statistics/  what many networks say together; streaming
    ensembles/   many networks: who they are; cores and devices; ensembles/engines/
    training/    one network: the pure functions that train it
    networks/    data, models, losses, Keras weights
    lanes/       lane_vmap, scalarize, kernels: stand alone, import nothing else of xorjax

Start with `trainer`, which describes how one network is trained, and `train_ensemble`, which trains many. The
names used most are here; the rest are in the namespaces: `xj.losses`, `xj.models`, `xj.tasks`, `xj.keras`,
`xj.lanes`, `xj.training`, `xj.ensembles`, `xj.statistics` and `xj.studies`. The docstring of each is its guide.

>>> import optax, xorjax as xj
>>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(1.0), epochs=10)
>>> xj.train_ensemble(trainer, seeds=range(3)).predictions.shape
(3, 4, 1)
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from xorjax import ensembles, lanes, networks, statistics, training
from xorjax.ensembles import Members, grid, random_search, replay, train_ensemble
from xorjax.lanes import lane_vmap
from xorjax.networks import keras, losses, models, tasks
from xorjax.networks.losses import accuracy, mse
from xorjax.networks.models import Model, mlp, summary
from xorjax.networks.tasks import Batch, parity, truth_table, xor
from xorjax.training import Outcome, Result, Trainer
from xorjax.training.trainer import trainer

if TYPE_CHECKING or "pdoc" in sys.modules:  # pdoc documents the names that a module has, not those it would import
    from xorjax import reports, studies
    from xorjax.studies import open_study, run_study

__all__ = [
    "Batch",
    "Members",
    "Model",
    "Outcome",
    "Result",
    "Trainer",
    "accuracy",
    "ensembles",
    "grid",
    "keras",
    "lane_vmap",
    "lanes",
    "losses",
    "mlp",
    "models",
    "mse",
    "networks",
    "open_study",
    "parity",
    "random_search",
    "replay",
    "reports",
    "run_study",
    "statistics",
    "studies",
    "summary",
    "tasks",
    "train_ensemble",
    "trainer",
    "training",
    "truth_table",
    "xor",
]


def __getattr__(name: str) -> Any:
    """Import `studies` and `reports` at their first use: they need extras, which take time to import."""
    if name == "__version__":
        return import_module("importlib.metadata").version("xorjax")
    if name in ("studies", "reports"):
        return import_module(f"xorjax.{name}")
    if name in ("open_study", "run_study"):
        return getattr(import_module("xorjax.studies"), name)
    raise AttributeError(f"module 'xorjax' has no attribute {name!r}")
