"""Single members of which a report speaks, as accumulators: typical and notable ones, and the first predictions.

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


def typical_members(targets: AnyArray) -> Accumulator:
    """By outcome class: of its first members, the one with the median loss."""

    def update(
        gathered: dict[str, list[Member]], results: Result, indices: AxisIndices
    ) -> dict[str, list[Member]]:
        ended_as, new = classify_outcomes(results.predictions, targets), dict(gathered)
        for i in np.unique(ended_as).tolist():
            sample = new.get(CLASSES[i], [])
            first = np.flatnonzero(ended_as == i)[: SAMPLE - len(sample)]
            new[CLASSES[i]] = [*sample, *_select(results, indices, first, CLASSES[i])]
        return new

    def finalize(gathered: _Samples) -> dict[str, Member]:
        by_loss = {
            name: sorted(sample, key=lambda member: (math.isnan(member.loss), member.loss))
            for name, sample in gathered.items()
        }
        return {name: sample[len(sample) // 2] for name, sample in by_loss.items()}

    return Accumulator(lambda members: {}, update, _refuse_merge, finalize)


_Samples = dict[str, list[Member]]
_Ranked = dict[str, list[tuple[float, Member]]]


def notable_members() -> Accumulator:
    """Members that were solved last or first, that have the least or the greatest loss, and some that diverged.

    The statistic is a list of `Member`, each once: of few members, some are notable in several ways.
    """

    def update(gathered: _Ranked, results: Result, indices: AxisIndices) -> _Ranked:
        loss, solved_epoch = np.asarray(results.loss, np.float64), np.asarray(results.solved_epoch, np.float64)
        is_solved = np.asarray(results.outcome) == Outcome.SOLVED
        is_finite, is_diverged = np.isfinite(loss), np.asarray(results.outcome) == Outcome.DIVERGED
        ranks = {
            "solved last": np.where(is_solved, -solved_epoch, np.inf),
            "solved first": np.where(is_solved, solved_epoch, np.inf),
            "greatest loss": np.where(is_finite, -loss, np.inf),
            BEST: np.where(is_finite, loss, np.inf),
            "diverged": np.where(is_diverged, 0, np.inf),
        }
        new = {}
        for description, rank in ranks.items():
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
    """The predictions of the first members, at most this number, (members, n, n_out)."""

    def update(
        gathered: Float[np.ndarray, "members n n_out"] | None, results: Result, indices: AxisIndices
    ) -> Float[np.ndarray, "members n n_out"]:
        if gathered is None:
            return np.array(results.predictions[:number])
        if len(gathered) >= number:
            return gathered
        return np.concatenate([gathered, np.asarray(results.predictions[: number - len(gathered)])])

    return Accumulator(lambda members: None, update, _refuse_merge, lambda gathered: gathered)


def _select(results: Result, indices: AxisIndices, chosen: np.ndarray, description: str) -> list[Member]:
    return [
        Member(
            {axis: int(at[i]) for axis, at in indices.items()},
            float(results.loss[i]),
            -1 if results.solved_epoch is None else int(results.solved_epoch[i]),
            description,
        )
        for i in chosen.tolist()
    ]


def _refuse_merge(one: Any, other: Any) -> NoReturn:
    raise NotImplementedError("single members are chosen in the order of the blocks, in one process")
