"""Studies: labelled grids of members, in a store that survives whatever happens.

`run_study` trains a study, or what is missing of it; `open_study` reads it as an `xarray.Dataset`; `verify_study`
checks what is stored. All three need the extra `study` (zarr and xarray).
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
