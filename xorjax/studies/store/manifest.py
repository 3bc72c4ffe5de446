"""The document at the root of a store, which says what a study is: written last and whole, and never trusted.

All metadata follows from the header and the layout in it, which are checked before anything else is read;
extending a study is one atomic change of this document.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import Store
from zarr.core.sync import sync

from xorjax.ensembles.members import MAX_SEED, SEED
from xorjax.studies.store.layout import (
    AXIS,
    CLAIMS,
    MAX_UNIT,
    MAX_UNITS,
    NAME,
    OUTCOME,
    RECORD,
    ROOT,
    Layout,
    Variable,
    documents,
    root_document,
)
from xorjax.studies.store.seed_ranges import count, seeds_at
from xorjax.studies.store.shards import BUFFERS, Stored, StoreError, folder, opened

FORMAT = 1
COPY = f".{ROOT}.copy"  # of the document, should it be lost; nothing reads it
MAX_ROOT = 2**27  # bytes
MAX_VALUES = 2**31  # of one chunk
DTYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
HEADER = {  # what a study is described by, and of which types
    "plan": (Mapping, type(None)),
    "shared": (Mapping,),
    "epochs": (int,),
    "program": (str,),
    "program_digest": (str,),
    "seed_rule": (str,),
    "engine": (str,),
    "chunk_size": (int, type(None)),
    "precision": (str,),
    "x64": (bool,),
    "platform": (str,),
    "device": (str, type(None)),
    "versions": (Mapping,),
}


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
    root = root_document({"xorjax": _described(stored)}, below)
    for key in (COPY, ROOT):
        _write_json(stored.store, key, root)


def _described(stored: Stored) -> dict[str, Any]:
    layout = stored.layout
    return {
        **stored.header,
        "format": FORMAT,
        "axes": layout.axes,
        "unit": layout.unit,
        "variables": [variable._asdict() for variable in layout.variables],
        "record": layout.record,
        "values": stored.values,
        "seeds": stored.seeds,
    }


def check(stored: Stored) -> None:
    """Checks a study that is to be written by the rules for one that is read.

    Raises:
      ValueError: saying what is wrong.
    """
    try:
        _stored(stored.store, stored.name, json.loads(json.dumps(_described(stored))))
    except ValueError as error:
        raise ValueError(f"this study can't be stored: {error}") from None


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
    root = None if (at := folder(store)) is not None and not at.exists() else sync(store.get(ROOT, BUFFERS))
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
        remedy = "" if sync(store.get(COPY, BUFFERS)) is None else f" {COPY} is a copy, to be put in its place."
        raise StoreError(f"{name}/{ROOT} is damaged, or not of a study of xorjax: {error!r}.{remedy}") from None
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
    for key, kinds in HEADER.items():
        if not isinstance(described[key], kinds):
            raise ValueError(f"its {key} is {described[key]!r}.")
    for axis, value in described["shared"].items():
        if not AXIS.fullmatch(axis) or type(value) not in (int, float):
            raise ValueError(f"all members share {axis!r}={value!r}.")
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
    if layout.n_units > MAX_UNITS:
        raise ValueError(
            f"{layout.n_units:,} units of {math.prod(unit):,} members, of which {MAX_UNITS:,} are allowed; "
            f"unit= must be larger."
        )
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
            raise ValueError(
                f"{variable.name} has units of {sizes!r}, of which {MAX_VALUES:,} values are allowed; "
                f"unit= must be smaller."
            )
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
        raise ValueError("epochs of records that are no integers.")
    return Stored(store, name, described, layout, values, [list(run) for run in seeds])


def _is_count(number: Any, most: int) -> bool:
    return type(number) is int and 1 <= number <= most


def damaged_documents(stored: Stored) -> list[str]:
    """Those of the arrays and groups below the root that are not what they must be, by path.

    They are only for tools that open an array by itself.
    """
    expected = json.loads(json.dumps(documents(stored.layout)))
    return [path for path, document in expected.items() if read_json(stored.store, f"{path}/{ROOT}") != document]


def read_json(store: Store, key: str) -> Any:
    """A document, or None if it is damaged or not there."""
    found = sync(store.get(key, BUFFERS))
    try:
        return None if found is None else json.loads(found.to_bytes())
    except (ValueError, RecursionError):
        return None


def _write_json(store: Store, key: str, document: Mapping[str, Any]) -> None:
    content = json.dumps(document, indent=1, ensure_ascii=False).encode()
    sync(store.set(key, BUFFERS.buffer.from_bytes(content)))
