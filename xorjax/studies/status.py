"""How far a study is, from its store alone."""

from typing import NamedTuple

from xorjax.results import Outcome
from xorjax.studies import store as stores
from xorjax.studies.claims import claimed
from xorjax.studies.layout import MISSING_OUTCOME
from xorjax.studies.store import Stored

LATELY = 32  # units whose times say how fast the study is


class Status(NamedTuple):
    """What is known of a study that may be under way.

    Attributes:
      committed: members, and `solved`: how many of these are.
      members_per_second: by when the last units were committed; None where that is not known.
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
        committed[unit] = int((outcomes != MISSING_OUTCOME).sum())
        solved += int((outcomes == Outcome.SOLVED).sum())
    root = stores.folder(stored.store)
    if root is None:
        return Status(sum(committed.values()), solved, None, {})
    times = sorted(
        ((root / layout.chunk(outcome, unit)).stat().st_mtime, n) for unit, n in committed.items() if n
    )[-LATELY:]
    seconds = times[-1][0] - times[0][0] if times else 0
    rate = sum(n for _, n in times[1:]) / seconds if seconds > 0 else None
    workers: dict[str, int] = {}
    for worker in claimed(root).values():
        workers[worker] = workers.get(worker, 0) + 1
    return Status(sum(committed.values()), solved, rate, workers)
