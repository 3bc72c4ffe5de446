"""The store of a study: made, opened, extended, and written unit by unit, each committed by one atomic last step.

What is in a store is data, never code. All metadata follows from the header and the layout in the document at the
root, which are checked before anything else is read; extending a study is one atomic change of that document.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import url2pathname

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, StorePath

from xorjax.members import MAX_SEED, SEED
from xorjax.studies.durable import DurableStore
from xorjax.studies.layout import (
    AXIS,
    CLAIMS,
    MAX_UNIT,
    MISSING_OUTCOME,
    NAME,
    OUTCOME,
    RECORD,
    ROOT,
    Layout,
    Variable,
    document_of,
    documents,
    root_document,
)
from xorjax.studies.seeds import Runs, count, seeds_at

FORMAT = 1
FILE = "file://"
MAX_ROOT = 2**27  # bytes
MAX_VALUES = 2**31  # of one chunk
DTYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()


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
    if isinstance(where, str) and where.startswith(FILE):
        where = url2pathname(where.removeprefix(FILE))
    if isinstance(where, str) and "://" in where:
        return FsspecStore.from_url(where, read_only=read_only), where
    if not isinstance(where, str | Path) or not str(where):
        raise TypeError(f"store={where!r} must be a folder, a URL, or a store of zarr.")
    return DurableStore(Path(where).expanduser(), read_only=read_only), str(where)


def folder(store: Store) -> Path | None:
    """Of a store in the local file system, else None."""
    return store.root if isinstance(store, DurableStore) else None


def write(stored: Stored, seeds_before: int = 0) -> None:
    """Writes coordinates and all metadata: what is below the root first, then the root, which alone counts.

    Args:
      stored: what is to be there.
      seeds_before: how many seeds of the same beginning are there already.
    """
    layout, below = stored.layout, documents(stored.layout)
    for axis, values in stored.values.items():
        stored.array(axis)[:] = np.asarray(values, np.float64)
    seeds = stored.array(SEED)
    size = seeds.chunks[0]
    for start in range(seeds_before // size * size, layout.axes[SEED], size):
        stop = min(start + size, layout.axes[SEED])
        seeds[start:stop] = seeds_at(stored.seeds, np.arange(start, stop))
    if layout.record is not None:
        stored.array(RECORD)[:] = np.asarray(layout.record, np.int64)
    for path, document in below.items():
        _write_json(stored.store, f"{path}/{ROOT}", document)
    described = {
        **stored.header,
        "format": FORMAT,
        "axes": layout.axes,
        "unit": layout.unit,
        "variables": [variable._asdict() for variable in layout.variables],
        "record": layout.record,
        "values": stored.values,
        "seeds": stored.seeds,
    }
    _write_json(stored.store, ROOT, root_document({"xorjax": described}, below))


def found_in(where: Any, *, read_only: bool = True) -> Stored:
    """The study in a folder, at a URL, or in a store of zarr.

    Raises:
      StoreError: if there is none, or what is there does not fit together.
    """
    store, name = opened(where, read_only=read_only)
    stored = read(store, name)
    if stored is None:
        raise StoreError(f"store={name!r} holds no study.")
    return stored


def read(store: Store, name: str) -> Stored | None:
    """The study in a store, or None if there is nothing.

    Raises:
      StoreError: if there is something else, or what is there does not fit together.
    """
    root = None if (at := folder(store)) is not None and not at.exists() else sync(store.get(ROOT, _BUFFERS))
    if root is None:
        if (at := folder(store)) is not None and at.is_dir() and _is_foreign(at):
            raise StoreError(f"{name} is a folder with other files in it, and without a study.")
        return None
    if len(root) > MAX_ROOT:
        raise StoreError(f"{name}/{ROOT} has {len(root):,} bytes; {MAX_ROOT:,} are allowed.")
    try:
        document = json.loads(root.to_bytes())
        described = document["attributes"]["xorjax"]
        found = document["consolidated_metadata"]["metadata"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{name}/{ROOT} is damaged, or not of a study of xorjax: {error!r}.") from None
    try:
        stored = _stored(store, name, dict(described))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{name}/{ROOT} does not describe a study: {error}") from None
    expected = json.loads(json.dumps(documents(stored.layout)))
    for path in [*expected, *found]:
        if expected.get(path) != found.get(path):
            raise StoreError(f"{name}/{ROOT}: what it says of {path!r} does not fit the study that it describes.")
    return stored


def _is_foreign(at: Path) -> bool:
    """Whether a folder holds files that the beginnings of a study do not."""
    ours = ("c.", ".")
    return any(
        path.is_file() and path.name != ROOT and not path.name.startswith(ours) and path.parent.name != CLAIMS
        for path in at.rglob("*")
    )


def _stored(store: Store, name: str, described: dict[str, Any]) -> Stored:
    if described.pop("format") != FORMAT:
        raise ValueError(f"its format must be {FORMAT}.")
    axes, unit, record = (described.pop(key) for key in ("axes", "unit", "record"))
    values, seeds = described.pop("values"), described.pop("seeds")
    variables = tuple(
        Variable(each["name"], each["dtype"], tuple(each["dims"]), tuple(each["shape"]))
        for each in described.pop("variables")
    )
    layout = Layout(dict(axes), tuple(unit), variables, None if record is None else tuple(record))
    for axis, size in layout.axes.items():
        if not AXIS.fullmatch(axis) or not _is_count(size, 2**63 - 1):
            raise ValueError(f"axis {axis!r} of {size!r} members.")
    if len(unit) != len(axes) or not all(_is_count(n, MAX_UNIT) for n in unit) or math.prod(unit) > MAX_UNIT:
        raise ValueError(f"units of {unit!r} members.")
    if OUTCOME not in [variable.name for variable in variables]:
        raise ValueError("no outcome among its variables.")
    for variable in variables:
        if not isinstance(variable.name, str) or not NAME.fullmatch(variable.name) or variable.name in axes:
            raise ValueError(f"a variable has the name {variable.name!r}.")
        if variable.dtype not in DTYPES:
            raise ValueError(f"{variable.name} has the dtype {variable.dtype!r}.")
        sizes = [*unit, *variable.shape]
        if len(variable.dims) != len(variable.shape) or not all(_is_count(n, MAX_VALUES) for n in sizes):
            raise ValueError(f"{variable.name} has the shape {variable.shape!r}.")
        if math.prod(sizes) > MAX_VALUES:
            raise ValueError(f"{variable.name} has units of {sizes!r}, more than {MAX_VALUES} values.")
    if list(axes)[-1:] != [SEED] or [*values, SEED] != list(axes):
        raise ValueError(f"axes {list(axes)!r}, and values of {list(values)!r}.")
    for axis, given in values.items():
        if len(given) != axes[axis] or not all(type(value) in (int, float) for value in given):
            raise ValueError(f"the values of {axis} are not {axes[axis]} numbers.")
    for first, last in seeds:
        if not _is_count(first + 1, MAX_SEED + 1) or not _is_count(last, MAX_SEED + 1) or last <= first:
            raise ValueError(f"seeds from {first!r} to {last!r}.")
    if count(seeds) != axes[SEED]:
        raise ValueError(f"{count(seeds)} seeds, and an axis of {axes[SEED]}.")
    if record is not None and not all(_is_count(epoch + 1, 2**31) for epoch in record):
        raise ValueError("epochs of records that are no whole numbers.")
    return Stored(store, name, described, layout, values, [list(run) for run in seeds])


def _is_count(number: Any, most: int) -> bool:
    return type(number) is int and 1 <= number <= most


_BUFFERS = default_buffer_prototype()


def read_json(store: Store, key: str) -> Any:
    """A document, or None if it is damaged or not there."""
    found = sync(store.get(key, _BUFFERS))
    try:
        return None if found is None else json.loads(found.to_bytes())
    except (ValueError, RecursionError):
        return None


def _write_json(store: Store, key: str, document: Mapping[str, Any]) -> None:
    content = json.dumps(document, indent=1, ensure_ascii=False).encode()
    sync(store.set(key, _BUFFERS.buffer.from_bytes(content)))


def present(stored: Stored, variable: Variable) -> set[str]:
    """The chunks of a variable that are there, by their paths."""
    prefix = f"{variable.name}/"

    async def listed() -> list[str]:
        return [key async for key in stored.store.list_dir(variable.name)]

    return {prefix + key.removeprefix(prefix) for key in sync(listed()) if key.startswith("c.") or "/c." in key}


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
    there = {variable: present(stored, variable) for variable in (*variables, outcome_of(stored))}
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
    last = outcome_of(stored)
    for variable in [last, *(v for v in stored.layout.variables if v is not last)]:
        sync(stored.store.delete(stored.layout.chunk(variable, unit)))
