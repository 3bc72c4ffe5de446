"""A sweep: every seed at every combination of some settings, gathered block by block in constant memory.

Hyper-parameters are axes of one grid of members. Numbers of hidden units are networks of their own, trained one
after the other, and an axis of the statistics all the same. One combination is a sweep without axes.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.ensemble import iter_results
from xorjax.ensembles.members import SEED, Members, grid
from xorjax.training.trainer import Trainer

HIDDEN_UNITS = "hidden_units"


class Sweep(NamedTuple):
    """Networks by their number of hidden units, and the members that each of them has.

    The seeds are the slowest axis of the members, so that an interrupt leaves every combination with as many.
    """

    trainers: Mapping[int, Trainer]  # by the number of hidden units
    seeds: range  # of every combination
    members: Members  # of each network: seeds, and the hyper-parameters with several values
    axes: Mapping[str, Sequence[float]]  # the values of each setting that has several, hidden units first

    @property
    def total(self) -> int:
        """Members, of all networks."""
        return len(self.trainers) * len(self.members)


def sweep(trainers: Mapping[int, Trainer], seeds: range, hparams: Mapping[str, Sequence[float]]) -> Sweep:
    """Combine every seed with every number of hidden units and every value; a single value is no axis."""
    several = {name: values for name, values in hparams.items() if len(values) > 1}
    shared = {name: values[0] for name, values in hparams.items() if name not in several}
    sizes = {HIDDEN_UNITS: list(trainers)} if len(trainers) > 1 else {}
    return Sweep(trainers, seeds, grid(seeds=seeds, **several, **shared), {**sizes, **several})


def gather(
    swept: Sweep, statistics: Accumulator, progress: Callable[[int, int], None]
) -> Generator[tuple[int, Any]]:
    """Train all members of a sweep, block by block, and gather statistics along all its axes.

    Yields how many members are finished, and their statistics so far, so that an interrupt leaves the last.
    `progress(done, total)` is called as by `train_ensemble`.
    """
    sizes = {axis: len(values) for axis, values in swept.axes.items()}
    gathered = statistics.init(Members({SEED: len(swept.seeds), **sizes}, swept.seeds, lambda indices: None))
    finished = 0
    for number, trainer in enumerate(swept.trainers.values()):

        def show(done: int, of_each: int, number: int = number) -> None:
            progress(number * of_each + done, len(swept.trainers) * of_each)

        with closing(iter_results(trainer, swept.members, progress=show)) as blocks:
            for part, block in blocks:
                indices = swept.members.indices(part)
                if HIDDEN_UNITS in swept.axes:
                    indices[HIDDEN_UNITS] = np.full(part.stop - part.start, number)
                gathered = statistics.update(gathered, block._replace(params=None), indices)
                finished += part.stop - part.start
                yield finished, gathered


def shorten_values(values: Sequence[float]) -> list[str]:
    """Write values in the fewest digits, from three up, that tell them apart to a hundredth of the least gap.

    >>> shorten_values([0.1, 0.5333333333333333, 1e-5])
    ['0.1', '0.533', '1e-05']
    """
    if all(isinstance(value, int) for value in values):
        return [str(value) for value in values]
    gap = np.diff(np.sort(np.asarray(values, np.float64))).min(initial=math.inf)
    tries = ([f"{value:.{digits}g}" for value in values] for digits in range(3, 18))
    return next(
        each for each in tries if all(abs(float(t) - v) <= gap / 100 for t, v in zip(each, values, strict=True))
    )
