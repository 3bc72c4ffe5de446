"""The members of a study in its store: read and written shard by shard, each committed by one atomic last step.

The contents of a store are data, never code. Where a file is damaged, functions that read it raise a `StoreError`
that names it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import StorePath

from xorjax.studies.store.access import StoreError, list_names, local_folder, wait_for
from xorjax.studies.store.layout import MISSING_OUTCOME, OUTCOME, Document, Layout, Variable, node_documents
from xorjax.studies.store.seed_ranges import SeedRanges

ChunkKeys = dict[Variable, set[str]]
COUNTS = ("epochs", "solved_epoch")  # in other variables, the value for a missing member may be a value


class StudyStore(NamedTuple):
    """A study in its store."""

    store: Store
    name: str  # of the store, for messages
    metadata: Document  # the description of the study
    layout: Layout
    values: dict[str, list[float]]  # of each axis but that of the seeds
    seeds: SeedRanges  # in the order of their axis

    @property
    def engine_options(self) -> dict[str, Any]:
        """The arguments of `train_ensemble` with which its members were trained."""
        return {name: self.metadata[name] for name in ("engine", "precision", "chunk_size")}

    @property
    def folder(self) -> Path | None:
        """Its folder, if it is in the local file system."""
        return local_folder(self.store)

    def array(self, path: str, layout: Layout | None = None) -> zarr.Array:
        """Return an array of the store, as a layout has it, by default that of the study."""
        document = node_documents(layout or self.layout)[path]
        array = zarr.Array.from_dict(StorePath(self.store, path), document)
        return array.with_config({"write_empty_chunks": True})

    def shards_of(self, variable: Variable) -> zarr.Array:
        """Return the array of a variable, of full shards at the edges too: none has to be read to be written."""
        sizes = np.multiply(self.layout.shard_grid, self.layout.shard_shape).tolist()
        full = self.layout._replace(axes=dict(zip(self.layout.axes, sizes, strict=True)))
        return self.array(variable.name, full)


def list_chunks(study: StudyStore, variable: Variable) -> set[str]:
    """Return the keys of the chunks of a variable that are in the store."""
    return {f"{variable.name}/{name}" for name in list_names(study.store, variable.name) if name.startswith("c.")}


def list_all_chunks(study: StudyStore, variables: Iterable[Variable]) -> ChunkKeys:
    """Return the keys of the chunks of the outcomes and of other variables that are in the store.

    Outcomes are listed first: a shard that is committed while the others are listed then does not look incomplete.
    """
    in_order = dict.fromkeys([study.layout.outcome, *variables])
    return {variable: list_chunks(study, variable) for variable in in_order}


def read_shard(study: StudyStore, variable: Variable, shard: int) -> np.ndarray:
    """Return the values of a shard, `variable.missing` where a member has none."""
    return _read_full(study, variable, shard)[tuple(map(slice, study.layout.region_shape(shard)))]


def _read_full(study: StudyStore, variable: Variable, shard: int) -> np.ndarray:
    """Return the values of a shard and, at the edge, of members that an extension would add to it."""
    try:
        return np.asarray(study.shards_of(variable)[study.layout.full_region(shard)])
    except OSError:
        raise
    except Exception as error:  # codecs raise many kinds of errors for damaged bytes
        path = f"{study.name}/{study.layout.chunk_key(variable, shard)}"
        reason = "its checksum does not match" if "checksum" in str(error) else repr(error)
        raise StoreError(f"{path} is damaged: {reason}") from None


def read_outcomes(study: StudyStore, shard: int, chunks: ChunkKeys) -> np.ndarray:
    """Return the outcomes of the members of a shard, MISSING_OUTCOME of those that are not committed.

    It is a StoreError, too, if a file of committed members is not among the chunks in the store.
    """
    layout, outcome = study.layout, study.layout.outcome
    if layout.chunk_key(outcome, shard) not in chunks[outcome]:
        return np.full(layout.region_shape(shard), MISSING_OUTCOME, np.int8)
    for variable, keys in chunks.items():
        if (key := layout.chunk_key(variable, shard)) not in keys:
            raise StoreError(f"{study.name}/{key} is missing, though its members are committed.")
    return read_shard(study, outcome, shard)


def check_shard(study: StudyStore, shard: int, chunks: ChunkKeys) -> tuple[list[str], int]:
    """Return what is wrong with the files of a shard, and how many members it has if nothing is."""
    try:
        done = read_outcomes(study, shard, chunks) != MISSING_OUTCOME
    except StoreError as error:
        return [str(error)], 0
    damaged = []
    for variable, keys in chunks.items():
        key = study.layout.chunk_key(variable, shard)
        if variable.name == OUTCOME or key not in keys:
            continue
        try:
            is_missing = read_shard(study, variable, shard) == variable.missing
            if variable.name in COUNTS and (is_missing & done).any():
                damaged.append(f"{study.name}/{key} lacks values of members that are committed")
        except StoreError as error:
            damaged.append(str(error))
    return damaged, 0 if damaged else int(done.sum())


def iter_outcomes(
    study: StudyStore, variables: Iterable[Variable], shards: Iterable[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the outcomes of each shard (None is all), whose files of these variables must exist."""
    chunks = list_all_chunks(study, variables)
    for shard in range(study.layout.n_shards) if shards is None else shards:
        yield shard, read_outcomes(study, shard, chunks)


def find_committed(study: StudyStore, shard: int) -> np.ndarray:
    """Return which members of a shard are committed."""
    return read_shard(study, study.layout.outcome, shard) != MISSING_OUTCOME


def commit_shard(
    study: StudyStore,
    shard: int,
    trained: np.ndarray,
    values: Mapping[str, np.ndarray],
    is_ours: Callable[[], bool] = lambda: True,
) -> bool:
    """Write the results of members of a shard, beside those that are committed already; return whether it could.

    The outcomes come last: a member is committed once its outcome is in the store, which is one atomic step for
    all of them. Doing it again changes nothing.

    Args:
      study, shard: the study, and the number of its shard.
      trained: which members, in the shape of the shard's region.
      values: of each variable, (members, *shape).
      is_ours: called before each step; False if this process may not write any more, which ends it.
    """
    layout, outcome = study.layout, study.layout.outcome
    new = np.zeros(layout.shard_shape, bool)
    new[tuple(map(slice, trained.shape))] = trained
    kept = np.zeros(layout.shard_shape, bool)
    if not new.all():
        kept = ~new & (_read_full(study, outcome, shard) != MISSING_OUTCOME)
    for variable in [*(v for v in layout.variables if v is not outcome), outcome]:
        full = np.full((*layout.shard_shape, *variable.shape), variable.missing, variable.dtype)
        if kept.any():
            full[kept] = _read_full(study, variable, shard)[kept]
        full[new] = values[variable.name]
        if not is_ours():
            return False
        study.shards_of(variable)[layout.full_region(shard)] = full
    return True


def delete_shard(study: StudyStore, shard: int) -> None:
    """Remove a shard, its outcomes first, so that it counts as not trained."""
    for variable in dict.fromkeys([study.layout.outcome, *study.layout.variables]):
        wait_for(study.store.delete(study.layout.chunk_key(variable, shard)))
