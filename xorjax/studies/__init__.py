"""Studies: every seed at every combination of hyper-parameters, in a store on disk from which nothing is lost.

Start from `run_study`, which trains the members (networks) that the store still lacks, and returns an
`xarray.Dataset`; `open_study` opens it again, and `verify_study` checks the files and trains a sample of members
again, bit for bit. A study can be killed and started again at any time, by several processes at once; a longer
range of seeds or more values of an axis extend it. Needs the extra `study`: `pip install 'xorjax[study]'`.

>>> import tempfile
>>> import optax
>>> import xorjax as xj
>>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=10)
>>> rates = {"learning_rate": [0.1, 1.0]}
>>> with tempfile.TemporaryDirectory() as folder:
...     dataset = xj.run_study(trainer, range(5), rates, store=f"{folder}/rates.zarr")
...     shape = dataset.loss.sel(learning_rate=1.0).shape
...     verification = xj.studies.verify_study(f"{folder}/rates.zarr", trainer)
>>> shape, verification.committed, verification.is_sound
((5,), 10, True)

Inside: `plan` and `parsing` are studies in words, `run` creates and extends a study, `worker` trains its `pending`
shards under `claims`, `identity` tells studies apart, `reduce`, `status` and `dataset` read it; `store/` is its
layout on disk.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "pdoc" in sys.modules:
    from xorjax.studies.dataset import open_study
    from xorjax.studies.run import run_study
    from xorjax.studies.verify import verify_study

__all__ = ["open_study", "run_study", "verify_study"]

_MODULES = {"open_study": "dataset", "run_study": "run", "verify_study": "verify"}


def __getattr__(name: str) -> Any:
    """Import zarr and xarray, which take time, at their first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'xorjax.studies' has no attribute {name!r}")
    try:
        return getattr(import_module(f"xorjax.studies.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("zarr", "xarray"):
            raise
        message = f"xj.{name} needs {error.name}: pip install 'xorjax[study]'"
        raise ModuleNotFoundError(message, name=error.name) from None
