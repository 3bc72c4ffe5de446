"""A sweep: every seed at every combination of some settings, gathered group by group in constant memory.

Hyper-parameters are axes of one grid of members; numbers of hidden units are programs of their own, trained one
after the other, and an axis of what is found all the same.
"""

import functools
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from xorjax import statistics as accumulators
from xorjax.ensembles.accumulator import Accumulator, combine
from xorjax.ensembles.ensemble import iter_results
from xorjax.ensembles.members import SEED, Members, grid
from xorjax.ensembles.scheduler import Progress
from xorjax.statistics import Moments, Shares, Times
from xorjax.training.trainer import Trainer

HIDDEN_UNITS = "hidden_units"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ALL, _NONE = "all axes", "no axis"


class Sweep(NamedTuple):
    """Networks by their number of hidden units, and the members that each of them has.

    Attributes:
      trainers: by the number of hidden units.
      holds_out: whether the trainers judge rows held out.
      members: seeds, and the hyper-parameters with several values; the seeds are the slowest axis, so that an
        interrupt leaves every combination with as many.
      axes: the values of each setting that has several, hidden units first.
    """

    trainers: Mapping[int, Trainer]
    holds_out: bool
    members: Members
    axes: Mapping[str, Sequence[float]]

    @property
    def total(self) -> int:
        """Members, of all networks."""
        return len(self.trainers) * len(self.members)


def sweep(
    trainers: Mapping[int, Trainer], seeds: range, hparams: Mapping[str, Sequence[float]], holds_out: bool = False
) -> Sweep:
    """Every seed with every combination of hidden units and values; a single value is no axis."""
    several = {name: values for name, values in hparams.items() if len(values) > 1}
    shared = {name: values[0] for name, values in hparams.items() if name not in several}
    sizes = {HIDDEN_UNITS: list(trainers)} if len(trainers) > 1 else {}
    return Sweep(trainers, holds_out, grid(seeds=seeds, **several, **shared), {**sizes, **several})


def labels(values: Sequence[float]) -> list[str]:
    """Values in as few digits, from three up, as tell them apart: to a hundredth of the least gap between them.

    >>> labels([0.1, 0.5333333333333333, 1e-5])
    ['0.1', '0.533', '1e-05']
    """
    if all(isinstance(value, int) for value in values):
        return [str(value) for value in values]
    gap = np.diff(np.sort(np.asarray(values, np.float64))).min(initial=math.inf)
    tries = ([f"{value:.{digits}g}" for value in values] for digits in range(3, 18))
    return next(
        each for each in tries if all(abs(float(t) - v) <= gap / 100 for t, v in zip(each, values, strict=True))
    )


class Groups(NamedTuple):
    """What members end as; arrays with an axis for each axis that they are grouped by."""

    solved: Shares
    all_right: Shares
    diverged: Shares
    held_out: Moments | None  # accuracy on the rows held out, if any are
    loss: Float[np.ndarray, "*groups quantiles"]  # at QUANTILES, within 1/256; nan of no member
    epochs_to_solve: Float[np.ndarray, "*groups"]  # the Kaplan-Meier median; infinite where it is never reached


class Gathered(NamedTuple):
    """What a sweep has come to: the groups by number of hidden units, not yet made statistics of."""

    groups: Mapping[int, Any]
    members: int
    epochs: int  # trained by all of them


class Found(NamedTuple):
    """What a sweep has found.

    Attributes:
      groups: by all axes of the sweep.
      by_axis: by each axis alone, over all values of the others.
      members: how many finished.
      epochs: trained by all of these.
    """

    groups: Groups
    by_axis: dict[str, Groups]
    members: int
    epochs: int


def train(sweep: Sweep, progress: Progress) -> Generator[Gathered]:
    """Trains all members; yields what was gathered, again after every block, so that an interrupt leaves the last.

    Args:
      sweep: what to train.
      progress: called as `progress(done, total)` with the members finished, as for `train_ensemble`.
    """
    statistics = _statistics(sweep)
    gathered = Gathered({units: statistics.init(sweep.members) for units in sweep.trainers}, 0, 0)
    yield gathered
    for number, (units, trainer) in enumerate(sweep.trainers.items()):

        def show(done: int, of_each: int, number: int = number) -> None:
            progress(number * of_each + done, len(sweep.trainers) * of_each)

        with closing(iter_results(trainer, sweep.members, progress=show)) as blocks:
            for part, block in blocks:
                indices = sweep.members.indices(part)
                groups, members, epochs = gathered
                gathered = Gathered(
                    {**groups, units: statistics.update(groups[units], block, indices)},
                    members + part.stop - part.start,
                    epochs + int(np.asarray(block.epochs, np.int64).sum()),
                )
                yield gathered


def found(sweep: Sweep, gathered: Gathered) -> Found:
    """The statistics of what was gathered so far; of a group without members they are nan."""
    statistics = _statistics(sweep)
    of_each = [statistics.finalize(groups) for groups in gathered.groups.values()]
    of_all = statistics.finalize(functools.reduce(statistics.merge, gathered.groups.values()))
    if HIDDEN_UNITS not in sweep.axes:
        return Found(of_all[_ALL], {axis: of_all[axis] for axis in sweep.axes}, *gathered[1:])
    by_axis = {axis: of_all[axis] for axis in sweep.axes if axis != HIDDEN_UNITS}
    by_units = {HIDDEN_UNITS: _stacked([each[_NONE] for each in of_each])}
    return Found(_stacked([each[_ALL] for each in of_each]), {**by_units, **by_axis}, *gathered[1:])


def _statistics(sweep: Sweep) -> Accumulator:
    """Of the members of one network: by all axes, by each of them, and by none."""
    axes = [axis for axis in sweep.members.axes if axis != SEED]
    groupings = {_ALL: axes, _NONE: [], **{axis: [axis] for axis in axes}}
    return combine({name: _of_groups(by, sweep.holds_out) for name, by in groupings.items()})


def _of_groups(by: Sequence[str], holds_out: bool) -> Accumulator:
    times = accumulators.times(by=by)
    held_out = {"held_out": accumulators.moments("validation_accuracy", by=by)} if holds_out else {}
    of_each = combine(
        {
            "solved": accumulators.share("solved", by=by),
            "all_right": accumulators.share("all_right", by=by),
            "diverged": accumulators.share("diverged", by=by),
            "loss": accumulators.quantiles(QUANTILES, "loss", by=by),
            "epochs_to_solve": times._replace(finalize=lambda gathered: _medians(times.finalize(gathered))),
            **held_out,
        }
    )
    return of_each._replace(finalize=lambda gathered: Groups(**{"held_out": None, **of_each.finalize(gathered)}))


def _medians(times: Any) -> np.ndarray:
    if isinstance(times, Times):
        return np.array(times.median)
    return np.array([each.median for each in times.flat]).reshape(times.shape)


def _stacked(groups: Sequence[Groups]) -> Groups:
    return jax.tree.map(lambda *each: np.stack(each), *groups)
