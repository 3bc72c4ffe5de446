"""One process at a study: it trains and commits the missing members, shard by shard, beside other processes."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
from jax.sharding import Mesh

from xorjax.ensembles.members import Members
from xorjax.ensembles.scheduler import plan_schedule, train_chunks
from xorjax.studies.claims import Claims
from xorjax.studies.pending import PendingMembers, PendingShard, group_by_shard
from xorjax.studies.progress import NO_PROGRESS, Progress, Show
from xorjax.studies.store.layout import MISSING_OUTCOME, OUTCOME
from xorjax.studies.store.shards import StudyStore, commit_shard, iter_outcomes, read_shard
from xorjax.training.results import Outcome
from xorjax.training.trainer import Trainer

EPOCHS = "epochs"
WAIT_SECONDS = 1.0  # between looks at the work of other processes


class StudyWorker:
    """One process at a study."""

    def __init__(
        self,
        trainer: Trainer,
        study: StudyStore,
        claims: Claims,
        show: Show,
        numbers: Sequence[int] | None = None,  # of the shards to train; None is all
        *,
        chunk_size: int | None = None,
        mesh: Mesh | None = None,
    ):
        self._trainer, self._study, self._claims, self._show = trainer, study, claims, show
        layout, options = study.layout, study.engine_options
        if chunk_size is not None:
            options["chunk_size"] = chunk_size
        first = np.zeros(layout.region_shape(0), bool)
        first.flat[0] = True
        like = PendingMembers(study, [PendingShard(0, first)])
        self._schedule = plan_schedule(trainer, like, mesh=mesh, **options)
        self._names = {OUTCOME, EPOCHS, *(variable.name for variable in layout.variables)}
        self._numbers = range(layout.n_shards) if numbers is None else numbers
        total = layout.members if numbers is None else sum(map(layout.size, numbers))
        self._at = NO_PROGRESS._replace(total=total)
        self._complete = (0, 0)  # members of complete shards, and how many of them are solved
        self._before = 0  # members committed before the present training, or by others meanwhile

    def run(self) -> None:
        """Train all shards that no other process works on, and wait for the others."""
        pending = self._find_pending(self._numbers)
        while pending:
            before = self._at.trained
            self._train(pending)
            if self._at.trained == before:  # other processes have all that is left; they may die
                time.sleep(WAIT_SECONDS)
            pending = self._find_pending([shard.number for shard in pending])

    def _find_pending(self, numbers: Sequence[int]) -> list[PendingShard]:
        """Return which of these shards are not complete in the store now."""
        (done, n_solved), partly, pending = self._complete, np.zeros(2, int), []
        for number, outcomes in iter_outcomes(self._study, self._study.layout.variables, numbers):
            wanted, solved = outcomes == MISSING_OUTCOME, outcomes == Outcome.SOLVED
            if wanted.any():  # of a shard that nobody began, as one value: there may be many
                wanted = np.broadcast_to(True, wanted.shape) if wanted.all() else wanted
                pending.append(PendingShard(number, wanted))
                partly += (~wanted).sum(), solved.sum()
            else:
                done, n_solved = done + wanted.size, n_solved + int(solved.sum())
        self._complete = done, n_solved
        committed = done + int(partly[0])
        self._note(done=committed, committed=committed, solved=n_solved + int(partly[1]))
        return pending

    def _note(self, **changes: int) -> None:
        self._at = self._at._replace(**changes)
        self._show(self._at)

    def _train(self, pending: Sequence[PendingShard]) -> None:
        """Train and commit those of these shards that no other process works on."""
        shards = deque[PendingShard]()
        self._before = self._at.committed

        def parts() -> Iterator[tuple[Members, slice]]:
            for claimed in self._claim(pending):
                shards.extend(claimed)
                yield from self._schedule.split(PendingMembers(self._study, claimed))

        def show(done: int, total: int) -> None:
            self._note(done=max(self._at.done, self._before + done))

        total = sum(shard.members for shard in pending)
        with closing(train_chunks(self._trainer, self._schedule, parts(), total, show)) as blocks:
            for shard, values in group_by_shard(shards, blocks, self._names):
                self._commit(shard, values)

    def _claim(self, pending: Sequence[PendingShard]) -> Iterator[list[PendingShard]]:
        """Yield shards for this process, claimed when they are asked for: as many as fill all threads."""
        claimed: list[PendingShard] = []
        for shard in pending:
            if self._claims.take(self._label(shard)):
                shard = self._look_again(shard)
                if shard.members:
                    claimed.append(shard)
                else:
                    self._claims.release(self._label(shard))
            if sum(each.members for each in claimed) >= self._schedule.members_at_once:
                yield claimed
                claimed = []
        if claimed:
            yield claimed

    def _look_again(self, shard: PendingShard) -> PendingShard:
        """Return a shard without the members that others have committed meanwhile, and count these."""
        outcomes = read_shard(self._study, self._study.layout.outcome, shard.number)
        new = outcomes[shard.wanted & (outcomes != MISSING_OUTCOME)]
        at, solved = self._at, int((new == Outcome.SOLVED).sum())
        self._before += new.size
        self._note(done=at.done + new.size, committed=at.committed + new.size, solved=at.solved + solved)
        return shard._replace(wanted=shard.wanted & (outcomes == MISSING_OUTCOME))

    def _commit(self, shard: PendingShard, values: dict[str, np.ndarray]) -> None:
        def is_ours() -> bool:
            return self._claims.holds(self._label(shard))

        if commit_shard(self._study, shard.number, shard.wanted, values, is_ours):
            at, n = self._at, shard.members
            solved = at.solved + int((values[OUTCOME] == Outcome.SOLVED).sum())
            epochs = at.epochs + int(values[EPOCHS].sum(dtype=np.int64))
            committed = at.committed + n
            self._at = Progress(max(at.done, committed), at.total, committed, solved, at.trained + n, epochs)
        self._claims.release(self._label(shard))
        self._show(self._at)

    def _label(self, shard: PendingShard) -> str:
        return self._study.layout.label(shard.number)
