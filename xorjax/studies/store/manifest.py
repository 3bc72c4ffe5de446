"""The manifest at the root of a store, which describes the study: written last and at once, and checked when read.

All metadata are derived from it. Extending a study is one atomic change of this document.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import Store

from xorjax.ensembles.members import MAX_SEED, SEED
from xorjax.studies.store.access import StoreError, StoreLocation, local_folder, open_zarr, read_bytes, write_bytes
from xorjax.studies.store.layout import (
    AXIS_NAME,
    CLAIMS,
    MANIFEST,
    MAX_SHARD_SIZE,
    MAX_SHARDS,
    OUTCOME,
    RECORD,
    VARIABLE_NAME,
    Document,
    Layout,
    Variable,
    manifest_document,
    node_documents,
)
from xorjax.studies.store.seed_ranges import count_seeds, seeds_at
from xorjax.studies.store.shards import StudyStore

FORMAT = 1  # in which "unit" is the shape of a shard
COPY = f".{MANIFEST}.copy"  # of the manifest, should it be lost; nothing reads it
MAX_BYTES = 2**27
MAX_CHUNK_VALUES = 2**31
DTYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
METADATA = {  # what describes a study, and its types
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


def write_manifest(study: StudyStore, seeds_before: int = 0) -> None:
    """Write coordinates and all metadata: those below the root first, then the manifest, which alone counts.

    Args:
      study: what is to be in the store.
      seeds_before: number of seeds at the beginning of the axis that are in the store already.
    """
    layout, nodes = study.layout, node_documents(study.layout)
    for axis, values in study.values.items():
        study.array(axis)[:] = np.asarray(values, np.float64)
    seeds = study.array(SEED)
    size = seeds.chunks[0]
    for start in range(seeds_before // size * size, layout.axes[SEED], size):
        stop = min(start + size, layout.axes[SEED])
        seeds[start:stop] = seeds_at(study.seeds, np.arange(start, stop))
    if layout.record is not None:
        study.array(RECORD)[:] = np.asarray(layout.record, np.int64)
    for path, document in nodes.items():
        _write_json(study.store, f"{path}/{MANIFEST}", document)
    manifest = manifest_document({"xorjax": _describe(study)}, nodes)
    for key in (COPY, MANIFEST):
        _write_json(study.store, key, manifest)


def _describe(study: StudyStore) -> Document:
    layout = study.layout
    return {
        **study.metadata,
        "format": FORMAT,
        "axes": layout.axes,
        "unit": layout.shard_shape,
        "variables": [variable._asdict() for variable in layout.variables],
        "record": layout.record,
        "values": study.values,
        "seeds": study.seeds,
    }


def check_study(study: StudyStore) -> None:
    """Check a study that is to be written by the rules for one that is read.

    Raises:
      ValueError: saying what is wrong.
    """
    try:
        _parse(study.store, study.name, json.loads(json.dumps(_describe(study))))
    except ValueError as error:
        raise ValueError(f"this study can't be stored: {error}") from None


def find_study(where: StoreLocation, *, read_only: bool = True) -> StudyStore:
    """Return the study in a folder, at a URL, or in a store of zarr.

    Raises:
      StoreError: if there is none, or its metadata do not fit together.
    """
    store, name = open_zarr(where, read_only=read_only)
    study = read_manifest(store, name)
    if study is None:
        raise StoreError(f"store={name!r} holds no study.")
    return study


def read_manifest(store: Store, name: str) -> StudyStore | None:
    """Return the study in a store, or None if the store is empty.

    Raises:
      StoreError: if there is something else, or its metadata do not fit together.
    """
    folder = local_folder(store)
    content = None if folder is not None and not folder.exists() else read_bytes(store, MANIFEST)
    if content is None:
        if folder is not None and folder.is_dir() and _has_foreign_files(folder):
            raise StoreError(f"{name} is a folder with other files in it, and without a study.")
        return None
    if len(content) > MAX_BYTES:
        raise StoreError(f"{name}/{MANIFEST} has {len(content):,} bytes; {MAX_BYTES:,} are allowed.")
    try:
        document = json.loads(content)
        described = document["attributes"]["xorjax"]
        nodes = document["consolidated_metadata"]["metadata"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        remedy = "" if read_bytes(store, COPY) is None else f" {COPY} is a copy, to be put in its place."
        reason = f"{name}/{MANIFEST} is damaged, or not of a study of xorjax: {error!r}.{remedy}"
        raise StoreError(reason) from None
    try:
        study = _parse(store, name, dict(described))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{name}/{MANIFEST} does not describe a study: {error}") from None
    expected = json.loads(json.dumps(node_documents(study.layout)))
    for path in [*expected, *nodes]:
        if expected.get(path) != nodes.get(path):
            raise StoreError(
                f"{name}/{MANIFEST}: the metadata of {path!r} do not fit the study that it describes."
            )
    return study


def _has_foreign_files(folder: Path) -> bool:
    """Return whether a folder holds files that the beginnings of a study do not."""
    ours = ("c.", ".")
    return any(
        path.is_file() and path.name != MANIFEST and not path.name.startswith(ours) and path.parent.name != CLAIMS
        for path in folder.rglob("*")
    )


def _parse(store: Store, name: str, described: Document) -> StudyStore:
    if described.pop("format") != FORMAT:
        raise ValueError(f"its format must be {FORMAT}.")
    for key, kinds in METADATA.items():
        if not isinstance(described[key], kinds):
            raise ValueError(f"its {key} is {described[key]!r}.")
    for axis, value in described["shared"].items():
        if not AXIS_NAME.fullmatch(axis) or type(value) not in (int, float):
            raise ValueError(f"all members share {axis!r}={value!r}.")
    axes, shard, variables, record, values, seeds = (
        described.pop(key) for key in ("axes", "unit", "variables", "record", "values", "seeds")
    )
    of_study = tuple(
        Variable(each["name"], each["dtype"], tuple(each["dims"]), tuple(each["shape"])) for each in variables
    )
    layout = Layout(dict(axes), tuple(shard), of_study, None if record is None else tuple(record))
    _check_layout(layout)
    _check_coordinates(layout, values, seeds)
    return StudyStore(store, name, described, layout, values, [list(part) for part in seeds])


def _check_layout(layout: Layout) -> None:
    axes, shard = layout.axes, list(layout.shard_shape)
    for axis, size in axes.items():
        if not AXIS_NAME.fullmatch(axis) or not _is_count(size, 2**63 - 1):
            raise ValueError(f"axis {axis!r} of {size!r} members.")
    sizes_fit = len(shard) == len(axes) and all(_is_count(n, MAX_SHARD_SIZE) for n in shard)
    if not sizes_fit or math.prod(shard) > MAX_SHARD_SIZE:
        raise ValueError(f"shards of {shard!r} members.")
    if layout.n_shards > MAX_SHARDS:
        raise ValueError(
            f"{layout.n_shards:,} shards of {math.prod(shard):,} members, of which {MAX_SHARDS:,} are allowed; "
            f"shard_size= must be larger."
        )
    if OUTCOME not in [variable.name for variable in layout.variables]:
        raise ValueError("no outcome among its variables.")
    for variable in layout.variables:
        name = variable.name
        if not isinstance(name, str) or not VARIABLE_NAME.fullmatch(name) or name in axes:
            raise ValueError(f"a variable has the name {name!r}.")
        if variable.dtype not in DTYPES:
            raise ValueError(f"{name} has the dtype {variable.dtype!r}.")
        sizes = [*shard, *variable.shape]
        if len(variable.dims) != len(variable.shape) or not all(_is_count(n, MAX_CHUNK_VALUES) for n in sizes):
            raise ValueError(f"{name} has the shape {variable.shape!r}.")
        if math.prod(sizes) > MAX_CHUNK_VALUES:
            raise ValueError(
                f"{name} has shards of {sizes!r}, of which {MAX_CHUNK_VALUES:,} values are allowed; "
                f"shard_size= must be smaller."
            )


def _check_coordinates(layout: Layout, values: Mapping[str, Any], seeds: Any) -> None:
    axes = layout.axes
    if list(axes)[-1:] != [SEED] or [*values, SEED] != list(axes):
        raise ValueError(f"axes {list(axes)!r}, and values of {list(values)!r}.")
    for axis, of_axis in values.items():
        if len(of_axis) != axes[axis] or not all(type(value) in (int, float) for value in of_axis):
            raise ValueError(f"the values of {axis} are not {axes[axis]} numbers.")
    for first, stop in seeds:
        if not _is_count(first + 1, MAX_SEED + 1) or not _is_count(stop, MAX_SEED + 1) or stop <= first:
            raise ValueError(f"seeds from {first!r} to {stop!r}.")
    if count_seeds(seeds) != axes[SEED]:
        raise ValueError(f"{count_seeds(seeds)} seeds, and an axis of {axes[SEED]}.")
    if layout.record is not None and not all(_is_count(epoch + 1, 2**31) for epoch in layout.record):
        raise ValueError("epochs of records that are no integers.")


def _is_count(number: Any, most: int) -> bool:
    return type(number) is int and 1 <= number <= most


def find_damaged_nodes(study: StudyStore) -> list[str]:
    """Return the paths of arrays and groups whose own metadata are not what they must be.

    Only tools that open an array by itself read these.
    """
    expected = json.loads(json.dumps(node_documents(study.layout)))
    return [path for path, document in expected.items() if _read_json(study.store, path) != document]


def _read_json(store: Store, path: str) -> Any:
    """Return the metadata of an array or a group, or None if they are damaged or missing."""
    content = read_bytes(store, f"{path}/{MANIFEST}")
    try:
        return None if content is None else json.loads(content)
    except (ValueError, RecursionError):
        return None


def _write_json(store: Store, key: str, document: Document) -> None:
    write_bytes(store, key, json.dumps(document, indent=1, ensure_ascii=False).encode())
