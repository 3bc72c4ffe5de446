"""The layout of a study in a zarr v3 store: its axes, shards and variables, and the metadata derived from them.

A chunk of every array holds one shard, in a file (an object) of its own, with a checksum. All metadata are derived
from a `Layout`, so that the metadata in a store can be compared with those that must be there.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from xorjax._checks import check_choice, check_integer
from xorjax.ensembles.members import SEED
from xorjax.training.results import Outcome, Result

SHARD_SIZE = 2**14  # members, unless their values need more than SHARD_BYTES
SHARD_BYTES = 2**25
MAX_SHARD_SIZE = 2**24
MAX_SHARDS = 2**20
RECORD = "record"
MANIFEST = "zarr.json"
CLAIMS = "claims"  # a folder that says which process works on which shard
COORDINATE_CHUNK = 2**20
OUTCOME, PARAMS = "outcome", "params"
MISSING_OUTCOME = -1
AXIS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VARIABLE_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
UNITS = {"epochs": "epochs", "solved_epoch": "epochs", "record": "epochs", "loss": "1", "accuracy": "1"}
LONG_NAMES = {
    "loss": "loss of the final parameters on the whole batch",
    "accuracy": "share of the rows that are right",
    "outcome": "what the member ended as",
    "solved_epoch": "epochs trained when the solved rule first held, -1 if it never did",
    "epochs": "epochs trained",
    "predictions": "outputs of the final parameters",
    "seed": "seed of the member, which starts from model.init(jax.random.key(seed))",
    "record": "epochs trained when this was recorded",
}

Document = dict[str, Any]  # as JSON has it
GROUP: Document = {"zarr_format": 3, "node_type": "group", "attributes": {}}


class Variable(NamedTuple):
    """One array of a store."""

    name: str  # its path, such as "params/0/kernel"
    dtype: str  # by NumPy's name
    dims: tuple[str, ...]  # names of the axes that follow those of the study
    shape: tuple[int, ...]  # sizes of these axes

    @property
    def missing(self) -> np.generic | int:
        """The value that stands for a member that has not been trained."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return dtype.type(np.nan)
        if dtype.kind == "u":
            return np.iinfo(dtype).max
        return MISSING_OUTCOME if self.name == OUTCOME else np.iinfo(dtype).min


class Layout(NamedTuple):
    """The shape of a study, of its shards and of its variables."""

    axes: dict[str, int]
    shard_shape: tuple[int, ...]  # members along each axis
    variables: tuple[Variable, ...]
    record: tuple[int, ...] | None  # the epochs that are recorded

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.axes.values())

    @property
    def members(self) -> int:
        return math.prod(self.shape)

    @property
    def shard_grid(self) -> tuple[int, ...]:
        """Number of shards along each axis."""
        return tuple(-(-size // of_shard) for size, of_shard in zip(self.shape, self.shard_shape, strict=True))

    @property
    def n_shards(self) -> int:
        return math.prod(self.shard_grid)

    @property
    def outcome(self) -> Variable:
        return next(variable for variable in self.variables if variable.name == OUTCOME)

    def indices(self, shard: int) -> list[int]:
        """Return the indices of a shard among the shards along each axis."""
        return [int(i) for i in np.unravel_index(shard, self.shard_grid)]

    def region(self, shard: int) -> tuple[slice, ...]:
        """Return the members of a shard along each axis; a shard at the edge has fewer."""
        parts = zip(self.full_region(shard), self.shape, strict=True)
        return tuple(slice(part.start, min(part.stop, size)) for part, size in parts)

    def region_shape(self, shard: int) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self.region(shard))

    def full_region(self, shard: int) -> tuple[slice, ...]:
        """Return the region of the shard as if the study were large enough to fill it."""
        return tuple(slice(i * n, (i + 1) * n) for i, n in zip(self.indices(shard), self.shard_shape, strict=True))

    def size(self, shard: int) -> int:
        """Return the number of members of a shard."""
        return math.prod(self.region_shape(shard))

    def label(self, shard: int) -> str:
        """Return the indices of a shard along each axis, such as "0.3": they stay when the study is extended."""
        return ".".join(map(str, self.indices(shard)))

    def shard_at(self, label: str) -> int:
        """Return the number of the shard with this label."""
        return int(np.ravel_multi_index(tuple(map(int, label.split("."))), self.shard_grid))

    def chunk_key(self, variable: Variable, shard: int) -> str:
        """Return the key under which a store has the values of a shard."""
        return f"{variable.name}/c.{self.label(shard)}{'.0' * len(variable.shape)}"


def plan_layout(
    result: Result, axes: dict[str, int], keep: Sequence[str] | None, shard_size: int | None, recorded: Any
) -> Layout:
    """Return the layout of a new study, given the result of one member, and the epochs recorded."""
    variables = list_variables(result, keep)
    for variable in variables:
        for name in (variable.name.partition("/")[0], *variable.dims):
            if name in axes:
                raise ValueError(f"axes has the name {name!r}, which {variable.name!r} has in a store.")
    default = default_shard_size(variables)
    size = default if shard_size is None else check_integer("shard_size", shard_size, 1, MAX_SHARD_SIZE)
    has_records = any(variable.name.startswith("history/") for variable in variables)
    record = tuple(recorded) if recorded is not None and has_records else None
    return Layout(axes, choose_shard_shape(list(axes.values()), size, default), variables, record)


def choose_shard_shape(shape: Sequence[int], members: int, room: int = SHARD_SIZE) -> tuple[int, ...]:
    """Return the shape of a shard of about `members` neighbours along the last axes; all sizes are powers of two.

    A study smaller than a shard leaves room along its last axis, the seeds, for up to `room` members: it may
    be extended later.
    """
    *others, seeds = (2 ** math.ceil(math.log2(size)) for size in shape)
    shard: list[int] = []
    for size in (max(seeds, min(members, room) // math.prod(others)), *reversed(others)):
        left = members // math.prod(shard)
        shard.append(2 ** int(math.log2(min(size, left))))
    return tuple(reversed(shard))


def default_shard_size(variables: Sequence[Variable]) -> int:
    """Return about how many members a shard has by default: fewer if much is kept of each."""
    of_each = sum(np.dtype(variable.dtype).itemsize * math.prod(variable.shape) for variable in variables)
    return max(1, min(SHARD_SIZE, SHARD_BYTES // of_each))


def name_arrays(result: Result) -> dict[str, Any]:
    """Return the arrays of a `Result`, without the epochs of records, by their names, which a store must allow."""
    if result.history is not None:
        result = result._replace(history=result.history._replace(epoch=None))
    arrays: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not VARIABLE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} can't be kept: a name in a store has letters, digits, _ and - alone.")
        if name in arrays:
            raise ValueError(f"{name!r} can't be kept: two things have this name in a store.")
        arrays[name] = leaf
    return arrays


def list_variables(result: Result, keep: Sequence[str] | None) -> tuple[Variable, ...]:
    """Return the variables that the result of one member gives.

    Args:
      result: of one member; shapes and dtypes are enough.
      keep: fields of this result; None is all but the final parameters. The outcome is always among them.
    """
    arrays = name_arrays(result)
    fields = {name.partition("/")[0]: None for name in arrays}
    if keep is None:
        keep = [field for field in fields if field != PARAMS]
    if isinstance(keep, str) or not isinstance(keep, Sequence):
        raise TypeError(f"{keep=} must be a list of names, such as ['loss', 'params'].")
    for i, field in enumerate(keep):
        check_choice(f"keep[{i}]", field, fields)
    wanted = {*keep, OUTCOME}
    return tuple(_variable(name, leaf) for name, leaf in arrays.items() if name.partition("/")[0] in wanted)


def _variable(name: str, leaf: Any) -> Variable:
    dtype = np.dtype(leaf.dtype)
    if name == OUTCOME or dtype.kind == "b":
        dtype = np.dtype(np.int8)
    elif dtype.kind not in "iu" and dtype.name not in ("float16", "float32", "float64"):
        dtype = np.dtype(np.float32)
    dims = [f"{name.replace('/', '_')}_{i}" for i in range(len(leaf.shape))]
    if name.startswith("history/"):
        dims[0] = RECORD
    if name in ("predictions", "history/predictions"):
        dims[-2:] = ["row", "output"]
    if name == "validation_predictions":
        dims = ["validation_row", "output"]
    return Variable(name, dtype.name, tuple(dims), tuple(leaf.shape))


def node_documents(layout: Layout) -> dict[str, Document]:
    """Return zarr's metadata of every array and group below the root, by path."""
    nodes: dict[str, Document] = {}
    for axis, size in layout.axes.items():
        dtype = "uint32" if axis == SEED else "float64"
        nodes[axis] = _array_document(axis, dtype, {axis: (size, COORDINATE_CHUNK)})
    if layout.record is not None:
        n = len(layout.record)
        nodes[RECORD] = _array_document(RECORD, "int64", {RECORD: (n, n)})
    shards = dict(zip(layout.axes, zip(layout.shape, layout.shard_shape, strict=True), strict=True))
    for variable in layout.variables:
        parts = variable.name.split("/")
        for depth in range(1, len(parts)):
            nodes.setdefault("/".join(parts[:depth]), GROUP)
        whole = {dim: (n, n) for dim, n in zip(variable.dims, variable.shape, strict=True)}
        nodes[variable.name] = _array_document(variable.name, variable.dtype, shards | whole, variable.missing)
    return nodes


def _array_document(
    name: str, dtype: str, dims: Mapping[str, tuple[int, int]], missing: np.generic | int | None = None
) -> Document:
    """Return zarr's metadata of an array; its dimensions have a size, and a size of chunks."""
    notes: Document = {"units": UNITS.get(name.rpartition("/")[2]), "long_name": LONG_NAMES.get(name)}
    if missing is not None and dtype[:5] != "float":
        notes["_FillValue"] = int(missing)
    if name == OUTCOME:
        notes |= {"flag_values": list(Outcome), "flag_meanings": " ".join(o.name.lower() for o in Outcome)}
    chunk = [max(size, 1) for _, size in dims.values()]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [size for size, _ in dims.values()],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0 if missing is None else notes.get("_FillValue", "NaN"),
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
            {"name": "crc32c"},
        ],
        "attributes": {key: value for key, value in notes.items() if value is not None},
        "dimension_names": list(dims),
        "storage_transformers": [],
    }
