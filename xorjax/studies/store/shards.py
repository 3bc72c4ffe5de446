"""The members of a study in its store: read and written shard by shard, each committed by one atomic last step.

The contents of a store are data, never code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import StorePath

from xorjax.studies.store.access import StoreError, delete, list_names, local_folder
from xorjax.studies.store.layout import (
    MISSING_OUTCOME,
    Document,
    Layout,
    Variable,
    node_documents,
    variable_document,
)
from xorjax.studies.store.seed_ranges import SeedRanges

ChunkKeys = dict[Variable, set[str]]


class StudyStore(NamedTuple):
    """A study in its store.

    Attributes:
      store: zarr's.
      name: of the store, for messages.
      metadata: the description of the study.
      layout: the layout of its arrays.
      values: of each axis but that of the seeds.
      seeds: in the order of their axis.
    """

    store: Store
    name: str
    metadata: Document
    layout: Layout
    values: dict[str, list[float]]
    seeds: SeedRanges

    @property
    def engine_options(self) -> dict[str, Any]:
        """The arguments of `train_ensemble` with which its members were trained."""
        return {name: self.metadata[name] for name in ("engine", "precision", "chunk_size")}

    @property
    def folder(self) -> Path | None:
        """Its folder, if it is in the local file system."""
        return local_folder(self.store)

    def array(self, path: str) -> zarr.Array:
        """Return an array of the store, as the layout has it."""
        return self._array(path, node_documents(self.layout)[path])

    def shards_of(self, variable: Variable) -> zarr.Array:
        """Return the array of a variable, of full shards at the edges too: none has to be read to be written."""
        document = variable_document(self.layout, variable)
        sizes = (n * of_shard for n, of_shard in zip(self.layout.shard_grid, self.layout.shard_shape, strict=True))
        return self._array(variable.name, {**document, "shape": [*sizes, *variable.shape]})

    def _array(self, path: str, document: Document) -> zarr.Array:
        array = zarr.Array.from_dict(StorePath(self.store, path), document)
        return array.with_config({"write_empty_chunks": True})


def list_chunks(study: StudyStore, variable: Variable) -> set[str]:
    """Return the keys of the chunks of a variable that are in the store."""
    return {f"{variable.name}/{name}" for name in list_names(study.store, variable.name) if name.startswith("c.")}


def list_all_chunks(study: StudyStore, variables: Iterable[Variable]) -> ChunkKeys:
    """Return the keys of the chunks of the outcomes and of other variables that are in the store.

    Outcomes are listed first: a shard that is committed while the others are listed then does not look incomplete.
    """
    return {
        variable: list_chunks(study, variable) for variable in dict.fromkeys([study.layout.outcome, *variables])
    }


def read_shard(study: StudyStore, variable: Variable, shard: int) -> np.ndarray:
    """Return the values of a shard, `variable.missing` where a member has none.

    Raises:
      StoreError: naming the file, if it is damaged.
    """
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

    Args:
      study: the study.
      shard: its number.
      chunks: the chunks in the store, by variable.

    Raises:
      StoreError: naming the file, if it is damaged, or if a file of committed members is missing.
    """
    layout, outcome = study.layout, study.layout.outcome
    if layout.chunk_key(outcome, shard) not in chunks[outcome]:
        return np.full(layout.region_shape(shard), MISSING_OUTCOME, np.int8)
    for variable, keys in chunks.items():
        if (key := layout.chunk_key(variable, shard)) not in keys:
            raise StoreError(f"{study.name}/{key} is missing, though its members are committed.")
    return read_shard(study, outcome, shard)


def iter_outcomes(
    study: StudyStore, variables: Iterable[Variable], shards: Iterable[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the outcomes of each shard (None is all), whose files of these variables must exist."""
    chunks = list_all_chunks(study, variables)
    for shard in range(study.layout.n_shards) if shards is None else shards:
        yield shard, read_outcomes(study, shard, chunks)


def committed_members(study: StudyStore, shard: int) -> np.ndarray:
    """Return which members of a shard are committed."""
    return read_shard(study, study.layout.outcome, shard) != MISSING_OUTCOME


def commit_shard(
    study: StudyStore,
    shard: int,
    trained: np.ndarray,
    values: Mapping[str, np.ndarray],
    is_ours: Callable[[], bool] = lambda: True,
) -> bool:
    """Write the results of members of a shard, beside those that are committed already.

    The outcomes come last: a member is committed once its outcome is in the store, which is one atomic step for
    all of them. Doing it again changes nothing.

    Args:
      study: the study.
      shard: its number.
      trained: which members, in the shape of the shard's region.
      values: of each variable, (members, *shape).
      is_ours: called before each step; False if this process may not write any more, which ends it.

    Returns:
      Whether it was committed.
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
        delete(study.store, study.layout.chunk_key(variable, shard))
