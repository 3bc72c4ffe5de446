"""The work that a study still has: units whose members are not all committed, and these members."""

from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xorjax.ensembles.members import SEED, AxisIndices, Members
from xorjax.studies.reduce import places_of
from xorjax.studies.store.layout import leaves
from xorjax.studies.store.seed_ranges import seeds_at
from xorjax.studies.store.shards import Stored
from xorjax.training.results import Result


class Unit(NamedTuple):
    """A unit, and which of its members are to be trained, in the shape of its region."""

    number: int
    wanted: np.ndarray

    @property
    def members(self) -> int:
        return int(self.wanted.sum())


class MembersOfUnits(Members):
    """The members of some units that are to be trained, one unit after the other."""

    def __init__(self, stored: Stored, units: Sequence[Unit], shared: dict[str, float]):
        values = {axis: np.asarray(given, np.float64) for axis, given in stored.values.items()}
        parts = [places_of(stored, unit.number, unit.wanted) for unit in units]
        self._at = {axis: np.concatenate([part[axis] for part in parts]) for axis in stored.layout.axes}
        seeds = seeds_at(stored.seeds, self._at[SEED])

        def hparams_at(indices: AxisIndices) -> dict[str, np.ndarray]:
            n = len(indices[SEED])
            of_axes = {axis: each[indices[axis]] for axis, each in values.items()}
            return of_axes | {name: np.broadcast_to(np.float64(value), (n,)) for name, value in shared.items()}

        super().__init__({SEED: len(seeds)}, seeds, hparams_at)

    def indices(self, part: slice) -> dict[str, np.ndarray]:
        return {axis: at[part] for axis, at in self._at.items()}

    def __getitem__(self, part: slice) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.asarray(self._seeds)[part], self._hparams_at(self.indices(part))


def by_unit(
    units: deque[Unit], blocks: Iterator[tuple[slice, Result]], names: Container[str]
) -> Generator[tuple[Unit, dict[str, np.ndarray]]]:
    """What is named of each unit's results, as soon as it is all there.

    Args:
      units: in the order of the blocks; others may be put behind them until the last block is there.
      blocks: of the members of these units.
      names: of what is asked for.
    """
    held: list[dict[str, np.ndarray]] = []
    n_held = 0
    for part, block in blocks:
        held.append({name: np.asarray(leaf) for name, leaf in leaves(block).items() if name in names})
        n_held += part.stop - part.start
        while units and n_held >= (n := units[0].members):
            if len(held) > 1:
                held = [{name: np.concatenate([each[name] for each in held]) for name in held[0]}]
            yield units.popleft(), {name: values[:n] for name, values in held[0].items()}
            held = [{name: values[n:] for name, values in held[0].items()}]
            n_held -= n
