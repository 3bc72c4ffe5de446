"""How far a study is, from its store alone."""

from typing import NamedTuple

import numpy as np

from xorjax.studies.claims import LEASE_SECONDS, claimed
from xorjax.studies.store import shards as stores
from xorjax.studies.store.layout import MISSING_OUTCOME
from xorjax.studies.store.shards import Stored
from xorjax.training.results import Outcome

LATELY = 32  # units whose times say how fast the study is
PAUSE = 10  # times the usual time between two units, and a lease: the study stood still


class Status(NamedTuple):
    """What is known of a study that may be under way.

    Attributes:
      committed: members, and `solved`: how many of these are.
      members_per_second: by when the last units were committed; None where that is not known, or nobody works.
      workers: who holds claims, and on how many units.
    """

    committed: int
    solved: int
    members_per_second: float | None
    workers: dict[str, int]


def status_of(stored: Stored) -> Status:
    """How far a study is.

    Raises:
      StoreError: if a file is damaged.
    """
    layout, outcome = stored.layout, stores.outcome_of(stored)
    committed, solved = {}, 0
    for unit, outcomes in stores.outcomes_by_unit(stored, []):
        if n := int((outcomes != MISSING_OUTCOME).sum()):
            committed[unit] = n
        solved += int((outcomes == Outcome.SOLVED).sum())
    root = stores.folder(stored.store)
    if root is None:
        return Status(sum(committed.values()), solved, None, {})
    workers: dict[str, int] = {}
    for worker in claimed(root).values():
        workers[worker] = workers.get(worker, 0) + 1
    rate = None
    if workers and committed:
        at = {unit: (root / layout.chunk(outcome, unit)).stat().st_mtime for unit in committed}
        lately = sorted(committed, key=at.__getitem__)[-LATELY:]
        rate = _rate(np.array([at[unit] for unit in lately]), np.array([committed[unit] for unit in lately]))
    return Status(sum(committed.values()), solved, rate, workers)


def _rate(times: np.ndarray, members: np.ndarray) -> float | None:
    """Members a second, since the study last stood still."""
    gaps = np.diff(times)
    stood = np.flatnonzero(gaps > max(PAUSE * np.median(gaps), LEASE_SECONDS)) if len(gaps) else []
    first = stood[-1] + 1 if len(stood) else 0
    seconds = times[-1] - times[first]
    return float(members[first + 1 :].sum() / seconds) if seconds > 0 else None
