"""A study for other tools: a table of its members, or a file of arrays with axes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from xorjax.ensembles.members import SEED
from xorjax.studies import reduce as gather
from xorjax.studies.dataset import open_study
from xorjax.studies.store import shards as stores
from xorjax.studies.store.layout import MISSING_OUTCOME
from xorjax.studies.store.seed_ranges import seeds_at
from xorjax.studies.store.shards import Stored


def to_parquet(stored: Stored, path: Path) -> None:
    """A row a member that is committed, with a column for each axis and each variable; arrays are lists.

    Written unit by unit, in constant memory.

    Raises:
      ModuleNotFoundError: if pyarrow is not installed.
      StoreError: if a file is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    layout, writer = stored.layout, None
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        for unit, outcomes in stores.outcomes_by_unit(stored, layout.variables):
            done = outcomes != MISSING_OUTCOME
            if not done.any() and (writer is not None or unit < layout.n_units - 1):
                continue
            places = gather.places_of(stored, unit, done)
            columns: dict[str, Any] = {
                axis: np.asarray(values)[places[axis]] for axis, values in stored.values.items()
            }
            columns[SEED] = seeds_at(stored.seeds, places[SEED])
            for variable in layout.variables:
                values = stores.read_unit(stored, variable, unit)[done]
                flat = pyarrow.array(values.reshape(-1))
                for size in reversed(variable.shape):
                    flat = pyarrow.FixedSizeListArray.from_arrays(flat, size)
                columns[variable.name] = flat
            table = pyarrow.table(columns)
            writer = writer or parquet.ParquetWriter(new, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def to_netcdf(stored: Stored, path: Path) -> None:
    """The dataset of `open_study`; names of parameters and records have "." for "/", what describes it is JSON.

    Raises:
      ModuleNotFoundError: if h5netcdf is not installed.
    """
    dataset = open_study(stored.store)
    dataset = dataset.rename({name: name.replace("/", ".") for name in map(str, dataset.data_vars) if "/" in name})
    dataset.attrs = {"xorjax": json.dumps(dataset.attrs["xorjax"], ensure_ascii=False)}
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        dataset.to_netcdf(new, engine="h5netcdf")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
