"""The members of a study in its store: read and written unit by unit, each committed by one atomic last step.

What is in a store is data, never code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, StorePath

from xorjax.studies.store.durable import DurableStore
from xorjax.studies.store.layout import (
    MISSING_OUTCOME,
    OUTCOME,
    Layout,
    Variable,
    document_of,
    documents,
)
from xorjax.studies.store.seed_ranges import Runs

BUFFERS = default_buffer_prototype()


class StoreError(ValueError):
    """What is in a store is not what a study has there."""


class Stored(NamedTuple):
    """A study as it lies in a store.

    Attributes:
      store: zarr's.
      name: of the store, for messages.
      header: the description of the study.
      layout: how it lies there.
      values: of each axis but that of the seeds.
      seeds: in the order of their axis.
    """

    store: Store
    name: str
    header: dict[str, Any]
    layout: Layout
    values: dict[str, list[float]]
    seeds: Runs

    @property
    def how(self) -> dict[str, Any]:
        """By what its members were trained, as arguments of `train_ensemble`."""
        return {name: self.header[name] for name in ("engine", "precision", "chunk_size")}

    def array(self, path: str) -> zarr.Array:
        """An array of the store, as the layout has it."""
        return self._array(path, documents(self.layout)[path])

    def units_of(self, variable: Variable) -> zarr.Array:
        """The array of a variable, of whole units at the edges too: a unit is then written without being read."""
        document = document_of(self.layout, variable)
        whole = (n * of_unit for n, of_unit in zip(self.layout.units, self.layout.unit, strict=True))
        return self._array(variable.name, {**document, "shape": [*whole, *variable.shape]})

    def _array(self, path: str, document: dict[str, Any]) -> zarr.Array:
        array = zarr.Array.from_dict(StorePath(self.store, path), document)
        return array.with_config({"write_empty_chunks": True})


def opened(where: Any, *, read_only: bool = False) -> tuple[Store, str]:
    """zarr's store for a folder, a URL that fsspec knows, or a store of zarr; and its name."""
    if isinstance(where, Store):
        return where, str(where)
    if isinstance(where, str) and (url := urlsplit(where)).scheme == "file" and url.netloc in ("", "localhost"):
        where = url2pathname(url.path)
    if isinstance(where, str) and "://" in where:
        try:
            return FsspecStore.from_url(where, read_only=read_only), where
        except (ImportError, ValueError) as error:  # a protocol that nobody knows, or whose package is not there
            raise ValueError(f"store={where!r} can't be opened: {error}") from None
    if not isinstance(where, str | Path) or not str(where):
        raise TypeError(f"store={where!r} must be a folder, a URL, or a store of zarr.")
    return DurableStore(Path(where).expanduser(), read_only=read_only), str(where)


def folder(store: Store) -> Path | None:
    """Of a store in the local file system, else None."""
    return store.root if isinstance(store, DurableStore) else None


def present(stored: Stored, variable: Variable) -> set[str]:
    """The chunks of a variable that are there, by their paths."""
    prefix = f"{variable.name}/"

    async def listed() -> list[str]:
        return [key async for key in stored.store.list_dir(variable.name)]

    return {prefix + key.removeprefix(prefix) for key in sync(listed()) if key.startswith("c.") or "/c." in key}


def everything_there(stored: Stored, variables: Iterable[Variable]) -> dict[Variable, set[str]]:
    """The chunks of the outcomes and of other variables that are there.

    Outcomes are listed first: what is committed while the others are listed is then not taken for half a unit.
    """
    return {variable: present(stored, variable) for variable in dict.fromkeys([outcome_of(stored), *variables])}


def read_unit(stored: Stored, variable: Variable, unit: int) -> np.ndarray:
    """The values of a unit, `variable.missing` where a member has none.

    Raises:
      StoreError: naming the file, if it is damaged.
    """
    return _read_whole(stored, variable, unit)[tuple(map(slice, stored.layout.region_shape(unit)))]


def _read_whole(stored: Stored, variable: Variable, unit: int) -> np.ndarray:
    """The values of a unit, and of who would be in it if the study were extended."""
    try:
        return np.asarray(stored.units_of(variable)[stored.layout.whole_region(unit)])
    except OSError:
        raise
    except Exception as error:  # what codecs raise of damaged bytes is of many kinds
        path = f"{stored.name}/{stored.layout.chunk(variable, unit)}"
        what = "its checksum does not match" if "checksum" in str(error) else repr(error)
        raise StoreError(f"{path} is damaged: {what}") from None


def outcome_of(stored: Stored) -> Variable:
    return next(variable for variable in stored.layout.variables if variable.name == OUTCOME)


def outcomes(stored: Stored, unit: int, there: Mapping[Variable, set[str]]) -> np.ndarray:
    """The outcomes of a unit's members, MISSING_OUTCOME of those that are not committed.

    Args:
      stored: the study.
      unit: its number.
      there: the chunks that are present, by variable.

    Raises:
      StoreError: naming the file, if it is damaged, or a file of what is committed is not there.
    """
    layout, outcome = stored.layout, outcome_of(stored)
    if layout.chunk(outcome, unit) not in there[outcome]:
        return np.full(layout.region_shape(unit), MISSING_OUTCOME, np.int8)
    for variable, chunks in there.items():
        if (chunk := layout.chunk(variable, unit)) not in chunks:
            raise StoreError(f"{stored.name}/{chunk} is not there, though its members are committed.")
    return read_unit(stored, outcome, unit)


def outcomes_by_unit(
    stored: Stored, variables: Iterable[Variable], units: Iterable[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The `outcomes` of units, of all if none are named, whose files of these variables must be there."""
    there = everything_there(stored, variables)
    for unit in range(stored.layout.n_units) if units is None else units:
        yield unit, outcomes(stored, unit, there)


def committed(stored: Stored, unit: int) -> np.ndarray:
    """Which members of a unit are committed."""
    return read_unit(stored, outcome_of(stored), unit) != MISSING_OUTCOME


def commit(
    stored: Stored,
    unit: int,
    trained: np.ndarray,
    values: Mapping[str, np.ndarray],
    is_ours: Callable[[], bool] = lambda: True,
) -> bool:
    """Writes what members of a unit came to, beside those that are committed already.

    The outcomes come last: a member is committed when its outcome is there, which is one atomic step for all of
    them. Doing it again changes nothing.

    Args:
      stored: the study.
      unit: its number.
      trained: which members, in the shape of the unit's region.
      values: of each variable, (members, *shape).
      is_ours: asked before each step whether this process may still write; it leaves off where not.

    Returns:
      Whether it was committed.
    """
    layout = stored.layout
    new = np.zeros(layout.unit, bool)
    new[tuple(map(slice, trained.shape))] = trained
    last = outcome_of(stored)
    kept = (
        np.zeros(layout.unit, bool) if new.all() else ~new & (_read_whole(stored, last, unit) != MISSING_OUTCOME)
    )
    for variable in [*(v for v in layout.variables if v is not last), last]:
        whole = np.full((*layout.unit, *variable.shape), variable.missing, variable.dtype)
        if kept.any():
            whole[kept] = _read_whole(stored, variable, unit)[kept]
        whole[new] = values[variable.name]
        if not is_ours():
            return False
        stored.units_of(variable)[layout.whole_region(unit)] = whole
    return True


def take_back(stored: Stored, unit: int) -> None:
    """Removes a unit, its outcomes first, so that it counts as not trained."""
    for variable in dict.fromkeys([outcome_of(stored), *stored.layout.variables]):
        sync(stored.store.delete(stored.layout.chunk(variable, unit)))
