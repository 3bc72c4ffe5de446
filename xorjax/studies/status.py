"""How far a study is, from its store alone."""

from typing import NamedTuple

import numpy as np

from xorjax.studies.claims import LEASE_SECONDS, list_claims
from xorjax.studies.store.layout import MISSING_OUTCOME
from xorjax.studies.store.shards import StudyStore, iter_outcomes
from xorjax.training.results import Outcome

RECENT_SHARDS = 32  # whose times give the rate
PAUSE = 10  # a gap of so many usual gaps between two shards, and of a lease, means that no process worked


class Status(NamedTuple):
    """The state of a study that may be under way.

    Attributes:
      committed: number of members, and `solved`: how many of these are.
      members_per_second: from the times of the last shards; None if that is unknown, or nobody works.
      workers: the processes that hold claims, and on how many shards.
    """

    committed: int
    solved: int
    members_per_second: float | None
    workers: dict[str, int]


def read_status(study: StudyStore) -> Status:
    """Return how far a study is.

    Raises:
      StoreError: if a file is damaged.
    """
    committed, solved = {}, 0
    for shard, outcomes in iter_outcomes(study, []):
        if n := int((outcomes != MISSING_OUTCOME).sum()):
            committed[shard] = n
        solved += int((outcomes == Outcome.SOLVED).sum())
    total, folder = sum(committed.values()), study.folder
    if folder is None:
        return Status(total, solved, None, {})
    workers: dict[str, int] = {}
    for worker in list_claims(folder).values():
        workers[worker] = workers.get(worker, 0) + 1
    if not workers or not committed:
        return Status(total, solved, None, workers)
    layout = study.layout
    times = {shard: (folder / layout.chunk_key(layout.outcome, shard)).stat().st_mtime for shard in committed}
    recent = sorted(committed, key=times.__getitem__)[-RECENT_SHARDS:]
    rate = _rate(np.array([times[shard] for shard in recent]), np.array([committed[shard] for shard in recent]))
    return Status(total, solved, rate, workers)


def _rate(times: np.ndarray, members: np.ndarray) -> float | None:
    """Return members a second since the study last stood still."""
    gaps = np.diff(times)
    pauses = np.flatnonzero(gaps > max(PAUSE * np.median(gaps), LEASE_SECONDS)) if len(gaps) else []
    first = pauses[-1] + 1 if len(pauses) else 0
    seconds = times[-1] - times[first]
    return float(members[first + 1 :].sum() / seconds) if seconds > 0 else None
