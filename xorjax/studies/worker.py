"""One process at a study: what its store still lacks is trained and committed, unit by unit, beside any others."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import numpy as np

from xorjax.ensembles.members import Members
from xorjax.ensembles.scheduler import Schedule, train_chunks
from xorjax.studies.claims import Claims, Worker
from xorjax.studies.pending import MembersOfUnits, Unit, by_unit
from xorjax.studies.progress import NOTHING, Progress
from xorjax.studies.store import shards as stores
from xorjax.studies.store.layout import MISSING_OUTCOME, OUTCOME
from xorjax.studies.store.shards import Stored
from xorjax.training.results import Outcome
from xorjax.training.trainer import Trainer

EPOCHS = "epochs"
WAIT_SECONDS = 1.0  # between looks at what others have done

Show = Callable[[Progress], None]


class Work:
    """One process at a study."""

    def __init__(
        self,
        trainer: Trainer,
        stored: Stored,
        shared: dict[str, float],
        schedule: Schedule,
        share: Worker | None,
        claims: Claims | None,
        show: Show,
    ):
        self._trainer, self._stored, self._shared, self._schedule = trainer, stored, shared, schedule
        self._claims, self._show = claims, show
        self._names = {OUTCOME, EPOCHS, *(variable.name for variable in stored.layout.variables)}
        self._numbers = [n for n in range(stored.layout.n_units) if share is None or share.has(n)]
        layout = stored.layout
        total = layout.members if share is None else sum(map(layout.size, self._numbers))
        self._at = NOTHING._replace(total=total)
        self._settled = (0, 0)  # members of units that are done, and how many of them are solved
        self._before = 0  # members committed before what is trained now, or by others meanwhile

    def run(self) -> None:
        """Trains all that no other process works on, and waits for what others do."""
        pending = self._pending(self._numbers)
        while pending:
            before = self._at.trained
            self._train(pending)
            if self._at.trained == before:  # others have all that is left; they may die
                time.sleep(WAIT_SECONDS)
            pending = self._pending([unit.number for unit in pending])

    def _pending(self, numbers: Sequence[int]) -> list[Unit]:
        """Which of these units, that were not done before, are not done yet, as the store has it now."""
        (done, n_solved), partly, found = self._settled, np.zeros(2, int), []
        for number, outcomes in stores.outcomes_by_unit(self._stored, self._stored.layout.variables, numbers):
            wanted, solved = outcomes == MISSING_OUTCOME, outcomes == Outcome.SOLVED
            if wanted.any():  # of a unit that nobody began, as one value: there may be many
                found.append(Unit(number, np.broadcast_to(True, wanted.shape) if wanted.all() else wanted))
                partly += (~wanted).sum(), solved.sum()
            else:
                done, n_solved = done + wanted.size, n_solved + int(solved.sum())
        self._settled = done, n_solved
        committed = done + int(partly[0])
        self._at = self._at._replace(done=committed, committed=committed, solved=n_solved + int(partly[1]))
        self._show(self._at)
        return found

    def _train(self, pending: Sequence[Unit]) -> None:
        """Trains and commits those of these units that no other process works on."""
        units = deque[Unit]()
        self._before = self._at.committed

        def parts() -> Iterator[tuple[Members, slice]]:
            for taken in self._taken(pending):
                units.extend(taken)
                members = MembersOfUnits(self._stored, taken, self._shared)
                yield from self._schedule.split(members)

        def show(done: int, total: int) -> None:
            self._at = self._at._replace(done=max(self._at.done, self._before + done))
            self._show(self._at)

        total = sum(unit.members for unit in pending)
        blocks = train_chunks(self._trainer, self._schedule, parts(), total, show)
        with closing(blocks):
            for unit, values in by_unit(units, blocks, self._names):
                self._commit(unit, values)
                self._release(unit)
                self._show(self._at)

    def _taken(self, pending: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Units for this process, claimed when they are asked for: as many as fill all threads."""
        taken: list[Unit] = []
        for unit in pending:
            if self._claims is not None:
                if not self._claims.take(self._place(unit)):
                    continue
                unit = self._still_wanted(unit)
                if not unit.members:
                    self._release(unit)
                    continue
            taken.append(unit)
            if sum(each.members for each in taken) >= self._schedule.members_at_once:
                yield taken
                taken = []
        if taken:
            yield taken

    def _still_wanted(self, unit: Unit) -> Unit:
        """A unit without the members that others have committed meanwhile, who are counted."""
        outcomes = stores.read_unit(self._stored, stores.outcome_of(self._stored), unit.number)
        new = outcomes[unit.wanted & (outcomes != MISSING_OUTCOME)]
        at, n = self._at, new.size
        solved = at.solved + int((new == Outcome.SOLVED).sum())
        self._before += n
        self._at = at._replace(done=at.done + n, committed=at.committed + n, solved=solved)
        self._show(self._at)
        return unit._replace(wanted=unit.wanted & (outcomes == MISSING_OUTCOME))

    def _commit(self, unit: Unit, values: dict[str, np.ndarray]) -> None:
        def is_ours() -> bool:
            return self._claims is None or self._claims.holds(self._place(unit))

        if stores.commit(self._stored, unit.number, unit.wanted, values, is_ours):
            at, n = self._at, unit.members
            solved = at.solved + int((values[OUTCOME] == Outcome.SOLVED).sum())
            epochs = at.epochs + int(values[EPOCHS].sum(dtype=np.int64))
            committed = at.committed + n
            self._at = Progress(max(at.done, committed), at.total, committed, solved, at.trained + n, epochs)

    def _release(self, unit: Unit) -> None:
        if self._claims is not None:
            self._claims.release(self._place(unit))

    def _place(self, unit: Unit) -> str:
        return self._stored.layout.place(unit.number)
