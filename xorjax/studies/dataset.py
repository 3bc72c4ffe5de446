"""A study as an xarray dataset, read lazily from its store."""

from typing import Any

import xarray

from xorjax.studies.store import manifest as roots
from xorjax.studies.store.shards import StoreError

LONG = ("program", "values", "seeds", "variables")  # of the description: text, and what is in the dataset itself


def open_study(store: Any) -> xarray.Dataset:
    """The study in a store, not yet read: an axis for each hyper-parameter that has several values, and "seed".

    Members that are missing are nan, in integers too, which are floats therefore. Parameters and records have
    names such as "params/0/kernel" and "history/loss". Attributes describe the study, but for the text of its
    program. (`xarray.open_zarr(store)` gives what has no "/" in its name, and that text; it needs no xorjax.)

    Args:
      store: a folder, a URL that fsspec knows, or a store of zarr.

    Raises:
      ValueError: if there is no study, or what is there does not fit together.
    """
    stored = roots.found_in(store)
    try:
        tree = xarray.open_datatree(stored.store, engine="zarr", consolidated=True, chunks=None)  # pyright: ignore
    except ValueError as error:
        raise StoreError(
            f"{stored.name} has damaged coordinates ({error}); xorjax study verify --repair writes them anew."
        ) from None
    dataset = tree.to_dataset()
    described = {key: value for key, value in dataset.attrs["xorjax"].items() if key not in LONG}
    dataset = dataset.assign_attrs(xorjax=described)
    for node in tree.subtree:
        if node.path != "/":
            dataset = dataset.assign(
                {f"{node.path[1:]}/{name}": array.variable for name, array in node.data_vars.items()}
            )
    return dataset
