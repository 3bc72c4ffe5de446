"""Running a study: what its store still lacks is trained, unit by unit, by any number of processes at once."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import Mesh

from xorjax._checks import real_array, real_number, whole_number
from xorjax.cluster import of_all_processes
from xorjax.ensemble import n_threads, train_blocks
from xorjax.members import SEED, checked_seeds
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
from xorjax.studies.progress import NOTHING, Progress
from xorjax.studies.seeds import Runs, count, joined, runs_of, seeds_at, without
from xorjax.studies.store import Stored, StoreError
from xorjax.studies.units import MembersOfUnits, Unit, by_unit
from xorjax.training import Trainer

GROUP_SECONDS = 30  # of the units that are trained together
MAX_GROUP = 2**19  # members, or one unit
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
    progress: Show | None = None,
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
      progress: called with a `Progress`, a few times a second.
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
    if progress is not None and not callable(progress):
        raise TypeError(f"{progress=} must be a function of a Progress.")
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
    if not of_mesh:
        how["mesh"] = mesh
    work = _Work(trainer, stored, shared, how, share, claims, progress or (lambda progress: None))
    with nullcontext() if claims is None else claims.kept():
        work.run()
    if of_mesh:
        of_all_processes(None, "that the study is done")
    if claims is not None:
        claims.clean()
    return _in_order(open_study(store), values, runs, stored)


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
        how: dict[str, Any],
        share: Worker | None,
        claims: Claims | None,
        show: Show,
    ):
        self._trainer, self._stored, self._shared, self._how = trainer, stored, shared, how
        self._claims, self._show = claims if share is None else None, show
        self._names = {OUTCOME, EPOCHS, *(variable.name for variable in stored.layout.variables)}
        layout = stored.layout
        self._numbers = [n for n in range(layout.n_units) if share is None or share.has(n)]
        total = sum(layout.size(n) for n in self._numbers) if share is not None else layout.members
        self._at = NOTHING._replace(total=total)
        self._rate = 0.0  # members a second

    def run(self) -> None:
        """Trains all that no other process works on, and waits for what others do."""
        pending = self._pending()
        while pending:
            if taken := self._taken(pending):
                begun = time.perf_counter()
                self._train(taken)
                self._rate = sum(unit.members for unit in taken) / (time.perf_counter() - begun)
                numbers = {unit.number for unit in taken}
                pending = [unit for unit in pending if unit.number not in numbers]
            else:  # others have all that is left; they may die
                time.sleep(WAIT_SECONDS)
            if not pending or not taken:
                pending = self._pending()

    def _pending(self) -> list[Unit]:
        """Units that are not committed yet, as the store has it now."""
        stored, done, solved, found = self._stored, 0, 0, []
        for number, outcomes in stores.outcomes_by_unit(stored, stored.layout.variables, self._numbers):
            wanted = outcomes == MISSING_OUTCOME
            done, solved = done + int((~wanted).sum()), solved + int((outcomes == Outcome.SOLVED).sum())
            if wanted.any():
                found.append(Unit(number, wanted))
        self._at = self._at._replace(done=done, committed=done, solved=solved)
        self._show(self._at)
        return found

    def _taken(self, pending: Sequence[Unit]) -> list[Unit]:
        """The next units for this process: those of about half a minute, and some for each thread at first."""
        most = min(max(self._rate * GROUP_SECONDS, n_threads() * UNIT), MAX_GROUP)
        taken: list[Unit] = []
        for unit in pending:
            if sum(each.members for each in taken) >= most:
                break
            if self._claims is None:
                taken.append(unit)
            elif self._claims.take(self._place(unit)):
                taken.append(unit._replace(wanted=~stores.committed(self._stored, unit.number)))
        return taken

    def _train(self, taken: Sequence[Unit]) -> None:
        units = [unit for unit in taken if unit.members]
        for unit in taken:
            if not unit.members:  # another has just done it
                self._release(unit)
        if not units:
            return
        members = MembersOfUnits(self._stored, units, self._shared)
        begun_at = self._at.committed

        def show(done: int, total: int) -> None:
            self._show(self._at._replace(done=max(self._at.committed, begun_at + done)))

        blocks = train_blocks(self._trainer, members, progress=show, **self._how)
        with closing(blocks):
            for unit, values in by_unit(units, blocks, self._names):
                self._commit(unit, values)
                self._release(unit)
                self._show(self._at)

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
