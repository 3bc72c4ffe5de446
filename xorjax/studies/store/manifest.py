"""The manifest at the root of a store, which describes the study: written last and at once, and checked when read.

All metadata are derived from it. Extending a study is one atomic change of this document.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np
from zarr.abc.store import Store

from xorjax.ensembles.members import MAX_SEED, SEED
from xorjax.studies.store.access import (
    BUFFERS,
    StoreError,
    StoreLocation,
    local_folder,
    open_zarr,
    read_bytes,
    wait_for,
)
from xorjax.studies.store.layout import (
    AXIS_NAME,
    CLAIMS,
    COORDINATE_CHUNK,
    GROUP,
    MANIFEST,
    MAX_SHARD_SIZE,
    MAX_SHARDS,
    OUTCOME,
    RECORD,
    VARIABLE_NAME,
    Document,
    Layout,
    Variable,
    node_documents,
)
from xorjax.studies.store.seed_ranges import count_seeds, seeds_at
from xorjax.studies.store.shards import StudyStore, list_chunks

FORMAT = 1  # in which "unit" is the shape of a shard
COPY = f".{MANIFEST}.copy"  # of the manifest, should it be lost; nothing reads it
MAX_BYTES = 2**27
MAX_CHUNK_VALUES = 2**31
DTYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
METADATA: dict[str, type | UnionType] = {  # what describes a study, and its types
    "plan": Mapping | None,
    "shared": Mapping,
    "epochs": int,
    **dict.fromkeys(("program", "program_digest", "seed_rule", "engine", "precision", "platform"), str),
    "chunk_size": int | None,
    "x64": bool,
    "device": str | None,
    "versions": Mapping,
}


def write_manifest(study: StudyStore, seeds_before: int = 0) -> None:
    """Write coordinates and all metadata: those below the root first, then the manifest, which alone counts.

    The first `seeds_before` seeds of the axis are in the store already.
    """
    nodes = node_documents(study.layout)
    for axis, part, values in iter_coordinates(study, seeds_before):
        study.array(axis)[part] = values  # pyright: ignore[reportArgumentType]
    for path, document in nodes.items():
        _write_json(study.store, f"{path}/{MANIFEST}", document)
    consolidated = {"kind": "inline", "must_understand": False, "metadata": nodes}
    manifest = {**GROUP, "attributes": {"xorjax": _describe(study)}, "consolidated_metadata": consolidated}
    for key in (COPY, MANIFEST):  # one atomic write changes all metadata
        _write_json(study.store, key, manifest)


def init_manifest(study: StudyStore) -> None:
    """Write the manifest of a new study, unless members of another one are in the store."""
    if list_chunks(study, study.layout.outcome):
        lacks = f"no {MANIFEST} that describes it; {COPY} is a copy"
        raise StoreError(f"{study.name} has members of a study, but {lacks}.")
    write_manifest(study)


def iter_coordinates(study: StudyStore, seeds_before: int = 0) -> Iterator[tuple[str, slice, np.ndarray]]:
    """Yield the coordinates of each axis, those of the seeds chunk by chunk, without the first chunks of seeds."""
    axes: dict[str, np.ndarray] = {axis: np.asarray(values, np.float64) for axis, values in study.values.items()}
    if study.layout.record is not None:
        axes[RECORD] = np.asarray(study.layout.record, np.int64)
    for axis, values in axes.items():
        yield axis, slice(0, len(values)), values
    n_seeds, size = study.layout.axes[SEED], COORDINATE_CHUNK
    for start in range(seeds_before // size * size, n_seeds, size):
        stop = min(start + size, n_seeds)
        yield SEED, slice(start, stop), seeds_at(study.seeds, np.arange(start, stop))


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
    """Check a study that is to be written by the rules for one that is read."""
    try:
        _parse(study.store, study.name, json.loads(json.dumps(_describe(study))))
    except ValueError as error:
        raise ValueError(f"this study can't be stored: {error}") from None


def find_study(where: StoreLocation, *, read_only: bool = True) -> StudyStore:
    """Return the study in a folder, at a URL, or in a store of zarr; without one, raise a StoreError."""
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
            problem = f"the metadata of {path!r} do not fit the study that it describes"
            raise StoreError(f"{name}/{MANIFEST}: {problem}.")
    return study


def _has_foreign_files(folder: Path) -> bool:
    """Return whether a folder holds files that the beginnings of a study do not."""
    files = (path for path in folder.rglob("*") if path.name != MANIFEST and path.parent.name != CLAIMS)
    return any(path.is_file() and not path.name.startswith(("c.", ".")) for path in files)


def _parse(store: Store, name: str, described: Document) -> StudyStore:
    _require(described.pop("format") == FORMAT, f"its format must be {FORMAT}.")
    for key, kind in METADATA.items():
        _require(isinstance(described[key], kind), f"its {key} is {described[key]!r}.")
    for axis, value in described["shared"].items():
        is_valid = AXIS_NAME.fullmatch(axis) and type(value) in (int, float)
        _require(is_valid, f"all members share {axis!r}={value!r}.")
    keys = ("axes", "unit", "variables", "record", "values", "seeds")
    axes, shard, variables, record, values, seeds = map(described.pop, keys)
    of_study = (Variable(v["name"], v["dtype"], tuple(v["dims"]), tuple(v["shape"])) for v in variables)
    layout = Layout(dict(axes), tuple(shard), tuple(of_study), None if record is None else tuple(record))
    _check_layout(layout)
    _check_coordinates(layout, values, seeds)
    return StudyStore(store, name, described, layout, values, [list(part) for part in seeds])


def _check_layout(layout: Layout) -> None:
    axes, shard = layout.axes, list(layout.shard_shape)
    for axis, size in axes.items():
        is_valid = AXIS_NAME.fullmatch(axis) and _are_counts([size], 2**63 - 1)
        _require(is_valid, f"axis {axis!r} of {size!r} members.")
    is_valid = len(shard) == len(axes) and _are_counts(shard, MAX_SHARD_SIZE)
    _require(is_valid and math.prod(shard) <= MAX_SHARD_SIZE, f"shards of {shard!r} members.")
    allowed = f"of which {MAX_SHARDS:,} are allowed; shard_size= must be larger."
    shards = f"{layout.n_shards:,} shards of {math.prod(shard):,} members"
    _require(layout.n_shards <= MAX_SHARDS, f"{shards}, {allowed}")
    _require(OUTCOME in [variable.name for variable in layout.variables], "no outcome among its variables.")
    allowed = f"of which {MAX_CHUNK_VALUES:,} values are allowed; shard_size= must be smaller."
    for name, dtype, dims, shape in layout.variables:
        is_valid = isinstance(name, str) and VARIABLE_NAME.fullmatch(name) and name not in axes
        _require(is_valid, f"a variable has the name {name!r}.")
        _require(dtype in DTYPES, f"{name} has the dtype {dtype!r}.")
        is_valid = len(dims) == len(shape) and _are_counts(shape, MAX_CHUNK_VALUES)
        _require(is_valid, f"{name} has the shape {shape!r}.")
        sizes = [*shard, *shape]
        _require(math.prod(sizes) <= MAX_CHUNK_VALUES, f"{name} has shards of {sizes!r}, {allowed}")


def _check_coordinates(layout: Layout, values: Mapping[str, Any], seeds: Any) -> None:
    axes, epochs = layout.axes, layout.record or ()
    _require([*values, SEED] == list(axes), f"axes {list(axes)!r}, and values of {list(values)!r}.")
    for axis, of_axis in values.items():
        is_valid = len(of_axis) == axes[axis] and all(type(value) in (int, float) for value in of_axis)
        _require(is_valid, f"the values of {axis} are not {axes[axis]} numbers.")
    for first, stop in seeds:
        is_valid = _are_counts([first + 1, stop], MAX_SEED + 1) and first < stop
        _require(is_valid, f"seeds from {first!r} to {stop!r}.")
    n_seeds = count_seeds(seeds)
    _require(n_seeds == axes[SEED], f"{n_seeds} seeds, and an axis of {axes[SEED]}.")
    _require(_are_counts([epoch + 1 for epoch in epochs], 2**31), "epochs of records that are no integers.")


def _require(is_valid: object, message: str) -> None:
    if not is_valid:
        raise ValueError(message)


def _are_counts(numbers: Sequence[Any], most: int) -> bool:
    return all(type(number) is int and 1 <= number <= most for number in numbers)


def find_damaged_nodes(study: StudyStore) -> list[str]:
    """Return the paths of arrays and groups whose own metadata are not what they must be.

    Only tools that open an array by itself read these.
    """
    damaged = []
    for path, document in json.loads(json.dumps(node_documents(study.layout))).items():
        content, found = read_bytes(study.store, f"{path}/{MANIFEST}"), None
        with suppress(ValueError, RecursionError):
            found = json.loads(content or b"null")
        if found != document:
            damaged.append(path)
    return damaged


def _write_json(store: Store, key: str, document: Document) -> None:
    content = json.dumps(document, indent=1, ensure_ascii=False).encode()
    wait_for(store.set(key, BUFFERS.buffer.from_bytes(content)))
