"""How far a study is, from its store alone."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from xorjax.studies.claims import LEASE_SECONDS, list_claims
from xorjax.studies.store.layout import MISSING_OUTCOME
from xorjax.studies.store.shards import StudyStore, iter_outcomes
from xorjax.training.results import Outcome

RECENT_SHARDS = 32  # whose times give the rate
PAUSE = 10  # a gap of so many usual gaps between two shards, and of a lease, means that no process worked


class Status(NamedTuple):
    """The state of a study that may be under way."""

    committed: int  # members
    solved: int  # of those committed
    members_per_second: float | None  # from the times of the last shards; None if unknown, or nobody works
    workers: dict[str, int]  # the processes that hold claims, and on how many shards


def read_status(study: StudyStore) -> Status:
    """Return how far a study is."""
    committed, solved = {}, 0
    for shard, outcomes in iter_outcomes(study, []):
        if n := int((outcomes != MISSING_OUTCOME).sum()):
            committed[shard] = n
        solved += int((outcomes == Outcome.SOLVED).sum())
    layout, folder, rate = study.layout, study.folder, None
    workers = dict(Counter(list_claims(folder).values()))
    if folder and workers and committed:
        files = {shard: folder / layout.chunk_key(layout.outcome, shard) for shard in committed}
        times = {shard: file.stat().st_mtime for shard, file in files.items()}
        recent = sorted(committed, key=times.__getitem__)[-RECENT_SHARDS:]
        rate = _rate(*(np.array([values[shard] for shard in recent]) for values in (times, committed)))
    return Status(sum(committed.values()), solved, rate, workers)


def _rate(times: np.ndarray, members: np.ndarray) -> float | None:
    """Return members a second since the study last stood still."""
    gaps = np.diff(times)
    pauses = np.flatnonzero(gaps > max(PAUSE * np.median(gaps), LEASE_SECONDS)) if len(gaps) else []
    first = pauses[-1] + 1 if len(pauses) else 0
    seconds = times[-1] - times[first]
    return float(members[first + 1 :].sum() / seconds) if seconds > 0 else None
