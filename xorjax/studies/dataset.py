"""A study as an xarray dataset, read lazily from its store."""

import xarray

from xorjax.studies.store.access import StoreError, StoreLocation
from xorjax.studies.store.manifest import find_study

LONG = ("program", "values", "seeds", "variables")  # long texts, and what the dataset has itself


def open_study(store: StoreLocation) -> xarray.Dataset:
    """Open the study in a store, without reading it: an axis for each list of hyper-parameters, and "seed".

    Members not yet trained are nan, so that integer variables are read as floats. Parameters and records have
    names such as "params/0/kernel" and "history/loss". The attributes describe the study, without the text of its
    program. (`xarray.open_zarr(store)` needs no xorjax; it gives the variables without "/" in their names, and
    that text.)

    Args:
      store: a folder, a URL that fsspec knows, or a store of zarr.

    Raises:
      ValueError: if there is no study, or its metadata do not fit together.
    """
    study = find_study(store)
    try:
        tree = xarray.open_datatree(study.store, engine="zarr", consolidated=True, chunks=None)  # pyright: ignore
    except ValueError as error:
        remedy = "xorjax study verify --repair writes them anew"
        raise StoreError(f"{study.name} has damaged coordinates ({error}); {remedy}.") from None
    dataset = tree.to_dataset()
    description = {key: value for key, value in dataset.attrs["xorjax"].items() if key not in LONG}
    nodes = [node for node in tree.subtree if node.path != "/"]
    arrays = {f"{node.path[1:]}/{name}": each.variable for node in nodes for name, each in node.data_vars.items()}
    return dataset.assign_attrs(xorjax=description).assign(arrays)
