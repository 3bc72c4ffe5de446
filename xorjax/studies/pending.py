"""The members that a study still lacks: shards that are not complete, and their results put together again."""

from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xorjax.ensembles.members import SEED, AxisIndices, Members
from xorjax.studies.reduce import find_indices
from xorjax.studies.store.layout import name_arrays
from xorjax.studies.store.seed_ranges import seeds_at
from xorjax.studies.store.shards import StudyStore
from xorjax.training.results import Result


class PendingShard(NamedTuple):
    """A shard, and which of its members are to be trained, in the shape of its region."""

    number: int
    wanted: np.ndarray

    @property
    def members(self) -> int:
        return int(self.wanted.sum())


class PendingMembers(Members):
    """The members of some shards that are to be trained, one shard after the other."""

    def __init__(self, study: StudyStore, shards: Sequence[PendingShard]):
        values = {axis: np.asarray(of_axis, np.float64) for axis, of_axis in study.values.items()}
        parts = [find_indices(study, shard.number, shard.wanted) for shard in shards]
        self._at = {axis: np.concatenate([part[axis] for part in parts]) for axis in study.layout.axes}
        seeds = seeds_at(study.seeds, self._at[SEED])

        def hparams_at(indices: AxisIndices) -> dict[str, np.ndarray]:
            n = len(indices[SEED])
            of_axes = {axis: each[indices[axis]] for axis, each in values.items()}
            shared = study.metadata["shared"].items()
            return of_axes | {name: np.broadcast_to(np.float64(value), (n,)) for name, value in shared}

        super().__init__({SEED: len(seeds)}, seeds, hparams_at)

    def indices(self, part: slice) -> dict[str, np.ndarray]:
        return {axis: at[part] for axis, at in self._at.items()}

    def __getitem__(self, part: slice) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.asarray(self._seeds)[part], self._hparams_at(self.indices(part))


def group_by_shard(
    shards: deque[PendingShard], blocks: Iterator[tuple[slice, Result]], names: Container[str]
) -> Generator[tuple[PendingShard, dict[str, np.ndarray]]]:
    """Yield each shard with its results of these names, as soon as all of them have come in the blocks.

    The shards have the order of the blocks; more may be appended until the last block has come.
    """
    held: list[dict[str, np.ndarray]] = []
    n_held = 0
    for part, block in blocks:
        held.append({name: np.asarray(leaf) for name, leaf in name_arrays(block).items() if name in names})
        n_held += part.stop - part.start
        while shards and n_held >= (n := shards[0].members):
            if len(held) > 1:
                held = [{name: np.concatenate([each[name] for each in held]) for name in held[0]}]
            yield shards.popleft(), {name: values[:n] for name, values in held[0].items()}
            held = [{name: values[n:] for name, values in held[0].items()}]
            n_held -= n
