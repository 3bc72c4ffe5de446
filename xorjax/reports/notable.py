"""What a report gathers beside shares: where losses lie, and which members it speaks of."""

import math
from typing import Any, NamedTuple

import numpy as np

from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices
from xorjax.networks.tasks import AnyArray
from xorjax.statistics.outcomes import CLASSES, classify_outcomes
from xorjax.training.results import Outcome, Result

EXTREMES = 5  # slowest members, and strangest
SAMPLE = 64  # members of an outcome class, of which the typical one is chosen
LOSS_BINS = np.arange(-12.0, 4.0001, 0.05)  # powers of ten


class Member(NamedTuple):
    """One member, and what is told of it."""

    indices: dict[str, int]
    loss: float
    solved_epoch: int
    what: str


def loss_histogram() -> Accumulator:
    """Finite losses above 0 in bins of their logarithms, and how many there are of all others."""

    def update(gathered: Any, results: Result, indices: AxisIndices) -> Any:
        losses = np.asarray(results.loss, np.float64)
        drawn = losses[np.isfinite(losses) & (losses > 0)]
        inside = np.clip(np.log10(drawn), LOSS_BINS[0], LOSS_BINS[-1])
        counts, rest = gathered
        return counts + np.histogram(inside, LOSS_BINS)[0], rest + len(losses) - len(drawn)

    nothing = np.zeros(len(LOSS_BINS) - 1, np.int64), 0
    return Accumulator(
        lambda members: nothing,
        update,
        lambda one, other: (one[0] + other[0], one[1] + other[1]),
        lambda found: found,
    )


def _members(results: Result, indices: AxisIndices, chosen: np.ndarray, what: str) -> list[Member]:
    epochs = results.solved_epoch if results.solved_epoch is not None else np.full(len(results.loss), -1)
    return [
        Member({axis: int(at[i]) for axis, at in indices.items()}, float(results.loss[i]), int(epochs[i]), what)
        for i in chosen.tolist()
    ]


def typical(targets: AnyArray) -> Accumulator:
    """Of each outcome class: how many members, and the first of them, one of which stands for all."""

    def update(gathered: Any, results: Result, indices: AxisIndices) -> Any:
        of_each, new = classify_outcomes(results.predictions, targets), dict(gathered)
        for i in np.unique(of_each).tolist():
            at = np.flatnonzero(of_each == i)
            number, sample = new.get(i, (0, []))
            wanted = at[: max(0, SAMPLE - len(sample))]
            new[i] = number + len(at), [*sample, *_members(results, indices, wanted, CLASSES[i])]
        return new

    def finalize(gathered: Any) -> list[tuple[int, Member]]:
        found = []
        for number, sample in gathered.values():
            by_loss = sorted(sample, key=lambda member: (math.isnan(member.loss), member.loss))
            found.append((number, by_loss[len(by_loss) // 2]))
        return sorted(found, key=lambda each: -each[0])

    return Accumulator(lambda members: {}, update, _never_merged, finalize)


def _never_merged(one: Any, other: Any) -> Any:
    raise NotImplementedError("of one process")


def slowest_and_strangest() -> Accumulator:
    """The members that were solved last, those with the greatest and the least loss, and some that diverged."""

    def update(gathered: Any, results: Result, indices: AxisIndices) -> Any:
        loss, first = np.asarray(results.loss, np.float64), np.asarray(results.solved_epoch)
        is_solved = np.asarray(results.outcome) == Outcome.SOLVED
        finite, diverged = np.isfinite(loss), np.asarray(results.outcome) == Outcome.DIVERGED
        ranked = {
            "solved last": np.where(is_solved, -first.astype(np.float64), np.inf),
            "solved first": np.where(is_solved, first, np.inf),
            "greatest loss": np.where(finite, -loss, np.inf),
            "least loss": np.where(finite, loss, np.inf),
            "diverged": np.where(diverged, 0, np.inf),
        }
        new = {}
        for what, rank in ranked.items():
            best = np.argsort(rank, kind="stable")[:EXTREMES]
            best = best[np.isfinite(rank[best])]
            members = zip(rank[best].tolist(), _members(results, indices, best, what), strict=True)
            both = [*gathered.get(what, []), *members]
            new[what] = sorted(both, key=lambda each: each[0])[:EXTREMES]
        return new

    def finalize(gathered: Any) -> list[Member]:
        told: dict[tuple[int, ...], Member] = {}  # each once: of few members, some stand out in several ways
        for member in (member for found in gathered.values() for _, member in found):
            indices = tuple(member.indices.values())
            before = told.get(indices)
            told[indices] = before._replace(what=f"{before.what}, {member.what}") if before else member
        return list(told.values())

    return Accumulator(lambda members: {}, update, _never_merged, finalize)
