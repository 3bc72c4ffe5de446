"""Accumulators of single members: typical and notable ones, and the predictions of the first.

Which members these are depends on the order of the blocks, so parts of several processes are never merged.
"""

import math
from typing import Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float

from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices
from xorjax.networks.tasks import AnyArray
from xorjax.statistics.outcomes import CLASSES, classify_outcomes
from xorjax.training.results import Outcome, Result

EXTREMES = 5  # members that were solved last, that were solved first, …
SAMPLE = 64  # members of an outcome class, of which the typical one is chosen
BEST = "least loss"


class Member(NamedTuple):
    """One member: its indices along the axes, how it ended, and why the report speaks of it."""

    indices: dict[str, int]
    loss: float
    solved_epoch: int
    description: str


_Samples = dict[str, list[Member]]  # by outcome class
_Ranked = dict[str, list[tuple[float, Member]]]  # by description, the best first
_Predictions = Float[np.ndarray, "members n n_out"]


def typical_members(targets: AnyArray) -> Accumulator:
    """Find the member with the median loss among the first members of each outcome class, by class."""

    def update(gathered: _Samples, results: Result, indices: AxisIndices) -> _Samples:
        ended_as, new = classify_outcomes(results.predictions, targets), dict(gathered)
        for i in np.unique(ended_as).tolist():
            sample = new.get(CLASSES[i], [])
            first = np.flatnonzero(ended_as == i)[: SAMPLE - len(sample)]
            new[CLASSES[i]] = [*sample, *_select(results, indices, first, CLASSES[i])]
        return new

    def choose_median(sample: list[Member]) -> Member:
        return sorted(sample, key=lambda member: (math.isnan(member.loss), member.loss))[len(sample) // 2]

    def finalize(gathered: _Samples) -> dict[str, Member]:
        return {name: choose_median(sample) for name, sample in gathered.items()}

    return Accumulator(lambda members: {}, update, _refuse_merge, finalize)


def notable_members() -> Accumulator:
    """Find members that were solved last or first, that have the least or greatest loss, and some that diverged.

    The statistic is a list of `Member`, each once: of few members, some are notable in several ways.
    """

    def update(gathered: _Ranked, results: Result, indices: AxisIndices) -> _Ranked:
        loss, solved_epoch = (np.asarray(each, np.float64) for each in (results.loss, results.solved_epoch))
        outcome, is_finite = np.asarray(results.outcome), np.isfinite(loss)
        ranks = {
            "solved last": (outcome == Outcome.SOLVED, -solved_epoch),
            "solved first": (outcome == Outcome.SOLVED, solved_epoch),
            "greatest loss": (is_finite, -loss),
            BEST: (is_finite, loss),
            "diverged": (outcome == Outcome.DIVERGED, 0),
        }
        new = {}
        for description, (is_candidate, values) in ranks.items():
            rank = np.where(is_candidate, values, np.inf)
            best = np.argsort(rank, kind="stable")[:EXTREMES]
            best = best[np.isfinite(rank[best])]
            members = zip(rank[best].tolist(), _select(results, indices, best, description), strict=True)
            both = [*gathered.get(description, []), *members]
            new[description] = sorted(both, key=lambda each: each[0])[:EXTREMES]
        return new

    def finalize(gathered: _Ranked) -> list[Member]:
        notable: dict[tuple[int, ...], Member] = {}
        for _, member in (each for ranked in gathered.values() for each in ranked):
            key = tuple(member.indices.values())
            if key in notable:
                member = member._replace(description=f"{notable[key].description}, {member.description}")
            notable[key] = member
        return list(notable.values())

    return Accumulator(lambda members: {}, update, _refuse_merge, finalize)


def first_predictions(number: int) -> Accumulator:
    """Collect the predictions of the first members, at most this number, (members, n, n_out)."""

    def update(gathered: _Predictions | None, results: Result, indices: AxisIndices) -> _Predictions:
        first = np.array(results.predictions[:number])
        return first if gathered is None else np.concatenate([gathered, first])[:number]

    return Accumulator(lambda members: None, update, _refuse_merge, lambda gathered: gathered)


def _select(results: Result, indices: AxisIndices, chosen: np.ndarray, description: str) -> list[Member]:
    epochs = np.full(len(results.loss), -1) if results.solved_epoch is None else results.solved_epoch
    places = [{axis: int(at[i]) for axis, at in indices.items()} for i in chosen.tolist()]
    ends = zip(places, results.loss[chosen].tolist(), epochs[chosen].tolist(), strict=True)
    return [Member(place, loss, epoch, description) for place, loss, epoch in ends]


def _refuse_merge(one: Any, other: Any) -> NoReturn:
    raise NotImplementedError("single members are chosen in the order of the blocks, in one process")
