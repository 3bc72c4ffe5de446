"""How a study lies in a zarr v3 store: its axes, units of work and variables, and the metadata that says so.

A chunk of every array is one unit of work, in a file (an object) of its own, with a checksum. All metadata follows
from a `Layout`, so that what is found in a store can be held against what must be there.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from xorjax._checks import check_choice
from xorjax.ensembles.members import SEED
from xorjax.training.results import Outcome, Result

UNIT = 2**14  # members, unless they are fewer
MAX_UNIT = 2**24
MAX_UNITS = 2**20
UNIT_BYTES = 2**25  # of a unit's values, unless a member has more
RECORD = "record"
ROOT = "zarr.json"
CLAIMS = "claims"  # a folder of who works on what
GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}
COORDINATE_CHUNK = 2**20
OUTCOME, PARAMS = "outcome", "params"
MISSING_OUTCOME = -1
AXIS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
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


class Variable(NamedTuple):
    """One array of a store, beyond the axes of the study.

    Attributes:
      name: where it lies, such as "params/0/kernel".
      dtype: NumPy's name for it.
      dims: of the axes that follow those of the study, and `shape`: their sizes.
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def missing(self) -> Any:
        """What stands for a member that has not been trained."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return dtype.type(np.nan)
        return (
            np.iinfo(dtype).max
            if dtype.kind == "u"
            else MISSING_OUTCOME
            if self.name == OUTCOME
            else np.iinfo(dtype).min
        )


class Layout(NamedTuple):
    """Axes and sizes of a study, members of a unit along each of them, its variables, and the epochs recorded."""

    axes: dict[str, int]
    unit: tuple[int, ...]
    variables: tuple[Variable, ...]
    record: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.axes.values())

    @property
    def members(self) -> int:
        return math.prod(self.shape)

    @property
    def units(self) -> tuple[int, ...]:
        """How many units there are along each axis."""
        return tuple(-(-size // of_unit) for size, of_unit in zip(self.shape, self.unit, strict=True))

    @property
    def n_units(self) -> int:
        return math.prod(self.units)

    def region(self, unit: int) -> tuple[slice, ...]:
        """The members of a unit, which are fewer at the edges."""
        at = np.unravel_index(unit, self.units)
        sizes = zip(at, self.unit, self.shape, strict=True)
        return tuple(slice(int(i) * size, min((int(i) + 1) * size, end)) for i, size, end in sizes)

    def region_shape(self, unit: int) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self.region(unit))

    def whole_region(self, unit: int) -> tuple[slice, ...]:
        """The unit, were the study large enough for all of it."""
        at = np.unravel_index(unit, self.units)
        return tuple(slice(int(i) * n, (int(i) + 1) * n) for i, n in zip(at, self.unit, strict=True))

    def size(self, unit: int) -> int:
        """Members of a unit."""
        return math.prod(self.region_shape(unit))

    def place(self, unit: int) -> str:
        """What a unit is called, in this study and when it has been extended: its place along each axis."""
        return ".".join(str(int(i)) for i in np.unravel_index(unit, self.units))

    def unit_at(self, place: str) -> int:
        """The unit that is called so."""
        return int(np.ravel_multi_index(tuple(map(int, place.split("."))), self.units))

    def chunk(self, variable: Variable, unit: int) -> str:
        """Where in a store the values of a unit are."""
        return f"{variable.name}/c.{self.place(unit)}{'.0' * len(variable.shape)}"


def unit_shape(shape: Sequence[int], members: int, room: int = UNIT) -> tuple[int, ...]:
    """Neighbours along the last axes, about so many members, as a unit; a power of two along each axis.

    A study smaller than a unit leaves room along its last axis, the seeds, for up to `room` members: it may
    be the beginning of a larger one.
    """
    *others, seeds = (2 ** math.ceil(math.log2(size)) for size in shape)
    unit: list[int] = []
    for size in (max(seeds, min(members, room) // math.prod(others)), *reversed(others)):
        left = members // math.prod(unit)
        unit.append(2 ** int(math.log2(min(size, left))))
    return tuple(reversed(unit))


def members_of_unit(variables: Sequence[Variable]) -> int:
    """About how many members a unit has, if nobody says: fewer where much is kept of each."""
    of_each = sum(np.dtype(variable.dtype).itemsize * math.prod(variable.shape) for variable in variables)
    return max(1, min(UNIT, UNIT_BYTES // of_each))


def leaves(result: Any) -> dict[str, Any]:
    """The arrays of a `Result` by name, but for the epochs of records.

    Raises:
      ValueError: if parameters or observations have names that are no names in a store.
    """
    if result.history is not None:
        result = result._replace(history=result.history._replace(epoch=None))
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} can't be kept: a name in a store has letters, digits, _ and - alone.")
        if name in found:
            raise ValueError(f"{name!r} can't be kept: two things have this name in a store.")
        found[name] = leaf
    return found


def variables_of(result: Result, keep: Sequence[str] | None) -> tuple[Variable, ...]:
    """The variables that a member's result gives.

    Args:
      result: of one member, shapes and dtypes.
      keep: fields of `Result`; None is all but the final parameters. The outcome is always among them.

    Raises:
      TypeError, ValueError: if `keep` names what the trainer does not give.
    """
    given = leaves(result)
    fields = {name.partition("/")[0]: None for name in given}
    if keep is None:
        keep = [field for field in fields if field != PARAMS]
    if isinstance(keep, str) or not isinstance(keep, Sequence):
        raise TypeError(f"{keep=} must be a list of names, such as ['loss', 'params'].")
    for i, field in enumerate(keep):
        check_choice(f"keep[{i}]", field, fields)
    kept = {*keep, OUTCOME}
    return tuple(_variable(name, leaf) for name, leaf in given.items() if name.partition("/")[0] in kept)


def _variable(name: str, leaf: Any) -> Variable:
    dtype = np.dtype(leaf.dtype)
    if dtype.name not in ("float16", "float32", "float64"):
        dtype = np.dtype(np.float32 if dtype.kind not in "iub" else np.int8 if dtype.kind == "b" else dtype)
    if name == OUTCOME:
        dtype = np.dtype(np.int8)
    dims = [f"{name.replace('/', '_')}_{i}" for i in range(len(leaf.shape))]
    if name.startswith("history/"):
        dims[0] = RECORD
    if name.rpartition("/")[2] == "predictions":
        dims[-2:] = ["row", "output"]
    if name == "validation_predictions":
        dims = ["validation_row", "output"]
    return Variable(name, dtype.name, tuple(dims), tuple(leaf.shape))


def documents(layout: Layout) -> dict[str, dict[str, Any]]:
    """zarr's metadata of every array and group below the root, by path."""
    found: dict[str, dict[str, Any]] = {}
    for axis, size in layout.axes.items():
        found[axis] = _array(
            (size,), "uint32" if axis == SEED else "float64", (COORDINATE_CHUNK,), (axis,), 0, axis
        )
    if layout.record is not None:
        n = len(layout.record)
        found[RECORD] = _array((n,), "int64", (n,), (RECORD,), 0, RECORD)
    for variable in layout.variables:
        parts = variable.name.split("/")
        for depth in range(1, len(parts)):
            found.setdefault("/".join(parts[:depth]), GROUP)
        found[variable.name] = document_of(layout, variable)
    return found


def document_of(layout: Layout, variable: Variable) -> dict[str, Any]:
    """zarr's metadata of the array of a variable."""
    shape, chunk = (*layout.shape, *variable.shape), (*layout.unit, *variable.shape)
    dims, missing = (*layout.axes, *variable.dims), variable.missing
    fill = "NaN" if np.dtype(variable.dtype).kind == "f" else missing
    found = _array(shape, variable.dtype, chunk, dims, fill, variable.name)
    if fill != "NaN":
        found["attributes"]["_FillValue"] = fill
    if variable.name == OUTCOME:
        flags = {"flag_values": list(Outcome), "flag_meanings": " ".join(o.name.lower() for o in Outcome)}
        found["attributes"] |= flags
    return found


def _array(shape: Any, dtype: str, chunk: Any, dims: Any, fill: Any, name: str) -> dict[str, Any]:
    last = name.rpartition("/")[2]
    notes = {"units": UNITS.get(last), "long_name": LONG_NAMES.get(name)}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(size, 1) for size in chunk]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
            {"name": "crc32c"},
        ],
        "attributes": {key: value for key, value in notes.items() if value is not None},
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def root_document(attributes: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata at the root, with all of the others in it, so that one atomic write changes all."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(attributes),
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": dict(below)},
    }
