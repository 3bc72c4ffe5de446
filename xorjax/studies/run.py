"""Running a study: what its store still lacks is trained, unit by unit, by any number of processes at once."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import Mesh

from xorjax._checks import real_array, real_number, whole_number
from xorjax.blocks import Cut, blocks_of_parts, cut_for
from xorjax.cluster import of_all_processes
from xorjax.members import SEED, Members, checked_seeds
from xorjax.results import Outcome
from xorjax.sharding import checked_mesh, is_shared
from xorjax.studies import store as stores
from xorjax.studies.claims import LEASE_SECONDS, Claims, Worker, checked_worker
from xorjax.studies.dataset import open_study
from xorjax.studies.description import differences, header_of
from xorjax.studies.layout import (
    AXIS,
    MAX_UNIT,
    MISSING_OUTCOME,
    OUTCOME,
    RECORD,
    ROOT,
    UNIT,
    Layout,
    unit_shape,
    variables_of,
)
from xorjax.studies.progress import NOTHING, Progress, shown
from xorjax.studies.seeds import Runs, count, joined, runs_of, seeds_at, without
from xorjax.studies.store import Stored, StoreError
from xorjax.studies.units import MembersOfUnits, Unit, by_unit
from xorjax.training import Trainer

EPOCHS = "epochs"
WAIT_SECONDS = 1.0  # between looks at what others have done


Show = Callable[[Progress], None]


def run_study(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray,
    axes: Mapping[str, Any] | None = None,
    *,
    store: Any,
    keep: Sequence[str] | None = None,
    unit: int | None = None,
    worker: tuple[int, int] | str | None = None,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    lease_seconds: float = LEASE_SECONDS,
    progress: Show | bool = False,
    plan: Mapping[str, Any] | None = None,
) -> xarray.Dataset:
    """Trains every seed at every combination of hyper-parameters, into a store that survives whatever happens.

    What is committed stays: called again, in this process or any other, this trains what is missing, and the
    store is the same bit for bit as that of a run without interruption. With more seeds or more values of an axis
    the study is extended, and only the new members are trained. Several processes may run it at once; in a local
    or shared folder each takes units that no other has, and takes over those of one that died.

    Args:
      trainer: from `xj.trainer(...)`.
      seeds: a range, list or array of whole numbers from 0 to 2^32 − 1.
      axes: hyper-parameters by name: a list of numbers is an axis of the study, a number is shared by all members.
      store: a folder, a URL such as "s3://bucket/study.zarr" (by fsspec), or a store of zarr.
      keep: what is kept of each member, by the fields of `Result`; None is all but the final parameters, "params".
      unit: about how many members are trained and committed as one, 1 to 2^24; None is 16,384. For a new study.
      worker: `(3, 16)`, or "3/16", does every 16th unit, from the third on, and returns; None does all that no
        other process works on, and then waits for these.
      engine, precision, chunk_size: as for `train_ensemble`.
      mesh: of several processes (`xorjax.cluster.joined()`), which share the units among them.
      lease_seconds: after so long without a sign of life, what a process was working on is taken over.
      progress: True shows a bar with the rate, the share solved so far and the time left, in a notebook too; lines
        where stderr is no terminal. A function is called with a `Progress`, a few times a second.
      plan: words that describe how the trainer was made, kept in the store (`xorjax study` puts its file there).

    Returns:
      The dataset, opened from the store and not yet read: dimensions are the axes and "seed", in the order that
      was asked for. Members that are missing are nan.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed; where the store holds another
        study, what differs.
      OSError: naming the file that could not be written. What was committed stays.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    share = checked_worker(worker)
    if not real_number("lease_seconds", lease_seconds) > 0:
        raise ValueError(f"{lease_seconds=} must be above 0.")
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"{progress=} must be True, False, or a function of a Progress.")
    of_mesh = is_shared(checked_mesh(mesh))
    if of_mesh:
        if share is not None:
            raise ValueError(f"{worker=} must be None, since the processes of the mesh are the workers.")
        share = Worker(jax.process_index() + 1, jax.process_count())
    values, shared = _axes(axes)
    runs = runs_of(checked_seeds(seeds))
    how = {"engine": engine, "precision": precision, "chunk_size": chunk_size}
    asked = _asked(trainer, values, shared, runs, store, keep, unit, how, plan)
    stores.read(asked.store, asked.name)  # before anything is written to what may be another's
    claims = Claims(at, lease_seconds) if (at := stores.folder(asked.store)) is not None else None
    stored = _made(asked, keep, claims)
    like = MembersOfUnits(stored, [Unit(0, np.ones(stored.layout.region_shape(0), bool))], shared)
    cut = cut_for(trainer, like, mesh=None if of_mesh else mesh, **how)
    with _showing(progress, trainer) as show, nullcontext() if claims is None else claims.kept():
        _Work(trainer, stored, shared, cut, share, claims, show).run()
    if of_mesh:
        of_all_processes(None, "that the study is done")
    if claims is not None:
        claims.clean()
    return _in_order(open_study(store), values, runs, stored)


def _showing(progress: Show | bool, trainer: Trainer) -> AbstractContextManager[Show]:
    if callable(progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(lambda at: None)
    return shown(1, "members/s") if trainer.stops else shown(trainer.epochs, "epochs/s")


def _axes(axes: Mapping[str, Any] | None) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Those with several values, and those that are shared."""
    values: dict[str, list[float]] = {}
    shared: dict[str, float] = {}
    for name, given in ({} if axes is None else axes).items():
        if not isinstance(name, str) or not AXIS.fullmatch(name) or name in (SEED, RECORD):
            raise ValueError(f"axes has the name {name!r}; it must be a word that is not {SEED!r} or {RECORD!r}.")
        array = real_array(f"axes[{name!r}]", given).astype(np.float64)
        if array.ndim > 1 or not array.size or not np.isfinite(array).all():
            raise ValueError(f"axes[{name!r}]={given!r} must be a finite number, or a list of at least one.")
        if array.ndim == 0:
            shared[name] = float(array)
        elif len(set(array.tolist())) < len(array):
            raise ValueError(f"axes[{name!r}]={given!r} must hold each value once.")
        else:
            values[name] = array.tolist()
    return values, shared


def _asked(
    trainer: Trainer,
    values: dict[str, list[float]],
    shared: dict[str, float],
    runs: Runs,
    where: Any,
    keep: Sequence[str] | None,
    unit: int | None,
    how: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
) -> Stored:
    """The study as a new store would have it."""
    header = header_of(trainer, values, shared, plan=plan, **how)
    hparams = {name: jnp.float32(0) for name in (*values, *shared)}
    result = jax.eval_shape(trainer.run, jax.eval_shape(jax.random.key, 0), hparams or None)
    sizes = {axis: len(given) for axis, given in values.items()} | {SEED: count(runs)}
    of_unit = UNIT if unit is None else whole_number("unit", unit, 1, MAX_UNIT)
    variables = variables_of(result, keep)
    for variable in variables:
        if variable.name.partition("/")[0] in values:
            raise ValueError(f"axes has the name {variable.name!r}, which is one of what is kept.")
    record = None
    if trainer.recorded is not None and any(variable.name.startswith("history/") for variable in variables):
        record = tuple(trainer.recorded)
    layout = Layout(sizes, unit_shape(list(sizes.values()), of_unit), variables, record)
    zarr_store, name = stores.opened(where)
    return Stored(zarr_store, name, header, layout, values, runs)


def _made(asked: Stored, keep: Sequence[str] | None, claims: Claims | None) -> Stored:
    """The study in its store: made, or found there, or extended by what is asked for."""
    with nullcontext() if claims is None else claims.alone():
        stored = stores.read(asked.store, asked.name)
        if stored is None:
            if stores.present(asked, stores.outcome_of(asked)):
                raise StoreError(f"{asked.name} has members of a study, but no {ROOT} that says of which.")
            stores.write(asked)
            return asked
        given = {**asked.header, "axes": list(asked.layout.axes), "record": asked.layout.record}
        found = {**stored.header, "axes": list(stored.layout.axes), "record": stored.layout.record}
        if keep is not None:
            given["keep"], found["keep"] = (sorted(v.name for v in s.layout.variables) for s in (asked, stored))
        if differing := differences(found, given):
            lines = "".join(f"\n- {line}" for line in differing)
            raise ValueError(f"store={asked.name!r} holds another study, which differs in:{lines}")
        values = {}
        for axis, there in stored.values.items():
            new = [value for value in asked.values[axis] if value not in there]
            if gone := [value for value in there if value not in asked.values[axis]]:
                raise ValueError(
                    f"axes[{axis!r}] lacks {gone[:5]}, which the study in {asked.name!r} has; it can be extended, "
                    f"not cut."
                )
            values[axis] = [*there, *new]
        if gone := without(stored.seeds, asked.seeds):
            raise ValueError(
                f"seeds lack those from {gone[0][0]} to {gone[0][1] - 1}, which the study in {asked.name!r} has; "
                f"it can be extended, not cut."
            )
        seeds = joined([*stored.seeds, *without(asked.seeds, stored.seeds)])
        if values == stored.values and seeds == stored.seeds:
            return stored
        axes = {axis: len(given) for axis, given in values.items()} | {SEED: count(seeds)}
        wider = stored._replace(layout=stored.layout._replace(axes=axes), values=values, seeds=seeds)
        stores.write(wider, seeds_before=count(stored.seeds))
        return wider


class _Work:
    """One process at a study."""

    def __init__(
        self,
        trainer: Trainer,
        stored: Stored,
        shared: dict[str, float],
        cut: Cut,
        share: Worker | None,
        claims: Claims | None,
        show: Show,
    ):
        self._trainer, self._stored, self._shared, self._cut = trainer, stored, shared, cut
        self._claims, self._show = claims if share is None else None, show
        self._names = {OUTCOME, EPOCHS, *(variable.name for variable in stored.layout.variables)}
        self._numbers = [n for n in range(stored.layout.n_units) if share is None or share.has(n)]
        self._at = NOTHING._replace(total=sum(map(stored.layout.size, self._numbers)))
        self._settled = (0, 0)  # members of units that are done, and how many of them are solved

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
            if wanted.any():
                found.append(Unit(number, wanted))
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
        begun_at, units = self._at.committed, deque[Unit]()

        def parts() -> Iterator[tuple[Members, slice]]:
            for taken in self._taken(pending):
                units.extend(taken)
                members = MembersOfUnits(self._stored, taken, self._shared)
                yield from self._cut.parts(members, slice(0, len(members)))

        def show(done: int, total: int) -> None:
            self._show(self._at._replace(done=max(self._at.committed, begun_at + done)))

        total = sum(unit.members for unit in pending)
        blocks = blocks_of_parts(self._trainer, self._cut, parts(), total, show)
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
                unit = unit._replace(wanted=~stores.committed(self._stored, unit.number))
                if not unit.members:  # another has just done it
                    self._release(unit)
                    continue
            taken.append(unit)
            if sum(each.members for each in taken) >= self._cut.at_once:
                yield taken
                taken = []
        if taken:
            yield taken

    def _commit(self, unit: Unit, values: dict[str, np.ndarray]) -> None:
        def is_ours() -> bool:
            return self._claims is None or self._claims.holds(self._place(unit))

        if stores.commit(self._stored, unit.number, unit.wanted, values, is_ours):
            at, n = self._at, unit.members
            solved = at.solved + int((values[OUTCOME] == Outcome.SOLVED).sum())
            epochs = at.epochs + int(values[EPOCHS].sum(dtype=np.int64))
            self._at = Progress(at.committed + n, at.total, at.committed + n, solved, at.trained + n, epochs)

    def _release(self, unit: Unit) -> None:
        if self._claims is not None:
            self._claims.release(self._place(unit))

    def _place(self, unit: Unit) -> str:
        return self._stored.layout.place(unit.number)


def _in_order(
    dataset: xarray.Dataset, values: dict[str, list[float]], seeds: Runs, stored: Stored
) -> xarray.Dataset:
    """The dataset with its axes in the order that was asked for, which may not be that of the store."""
    order: dict[str, Any] = {axis: given for axis, given in values.items() if given != stored.values[axis]}
    if joined(seeds) != stored.seeds:
        order[SEED] = seeds_at(seeds, np.arange(count(seeds)))
    return dataset.sel(order) if order else dataset
