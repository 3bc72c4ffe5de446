"""A study, from what is asked for: found, made or extended in its store, and trained."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import Mesh

from xorjax._checks import check_integer, check_real, check_real_array
from xorjax.ensembles.devices import check_mesh
from xorjax.ensembles.members import SEED, check_seeds
from xorjax.ensembles.scheduler import plan_schedule
from xorjax.studies.claims import LEASE_SECONDS, MAX_LEASE_SECONDS, Claims, checked_worker
from xorjax.studies.dataset import open_study
from xorjax.studies.identity import differences, header_of
from xorjax.studies.pending import MembersOfUnits, Unit
from xorjax.studies.progress import NOTHING, shown
from xorjax.studies.store import manifest as roots
from xorjax.studies.store import shards as stores
from xorjax.studies.store.layout import (
    AXIS,
    MAX_UNIT,
    RECORD,
    ROOT,
    Layout,
    members_of_unit,
    unit_shape,
    variables_of,
)
from xorjax.studies.store.seed_ranges import Runs, count, joined, runs_of, seeds_at, without
from xorjax.studies.store.shards import Stored, StoreError
from xorjax.studies.worker import Show, Work
from xorjax.training.trainer import Trainer

RESERVED = (SEED, "seeds", RECORD)


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
    or shared folder each takes units that no other has, and takes over those of one that died. (Other stores have
    no such claims: share them by `worker`, and extend them while nobody works at them.)

    Args:
      trainer: from `xj.trainer(...)`.
      seeds: a range, list or array of integers from 0 to 2^32 − 1.
      axes: hyper-parameters by name: a list of numbers is an axis of the study, a number is shared by all members.
        All are floats to the trainer.
      store: a folder, a URL such as "s3://bucket/study.zarr" (by fsspec), or a store of zarr.
      keep: what is kept of each member, by the fields of `Result`; None is all but the final parameters, "params".
      unit: about how many members are trained and committed as one, 1 to 2^24, in a new study; None is 16,384, or
        fewer where much is kept of each. It stays when the study is extended.
      worker: `(3, 16)`, or "3/16", does every 16th unit, from the third on, and returns; None does all that no
        other process works on, and then waits for these.
      engine, precision, chunk_size, mesh: as for `train_ensemble`.
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
    stored, values, runs = complete(
        trainer,
        seeds,
        axes,
        store=store,
        keep=keep,
        unit=unit,
        worker=worker,
        mesh=mesh,
        lease_seconds=lease_seconds,
        progress=progress,
        plan=plan,
        engine=engine,
        precision=precision,
        chunk_size=chunk_size,
    )
    return _in_order(open_study(store), values, runs, stored)


def complete(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray,
    axes: Mapping[str, Any] | None,
    *,
    store: Any,
    keep: Sequence[str] | None = None,
    unit: int | None = None,
    worker: tuple[int, int] | str | None = None,
    mesh: Mesh | None = None,
    lease_seconds: float = LEASE_SECONDS,
    progress: Show | bool = False,
    plan: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[Stored, dict[str, list[float]], Runs]:
    """`run_study` without opening the dataset, whose index takes memory for every seed.

    Returns:
      The study in its store; the values of each axis and the seeds that were asked for.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    share = checked_worker(worker)
    if not 0 < check_real("lease_seconds", lease_seconds) <= MAX_LEASE_SECONDS:
        raise ValueError(f"{lease_seconds=} must be above 0, and at most {MAX_LEASE_SECONDS:,}.")
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"{progress=} must be True, False, or a function of a Progress.")
    mesh = check_mesh(mesh)
    try:
        json.dumps(plan)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{plan=} must be words and numbers that JSON has: {error}.") from None
    values, shared = _axes(axes)
    runs = runs_of(check_seeds(seeds))
    how = {"engine": "auto", "precision": "float32", "chunk_size": None, **how}
    asked = _asked(trainer, values, shared, runs, store, keep, unit, how, plan)
    roots.read(asked.store, asked.name)  # before anything is written to what may be another's
    claims = Claims(at, lease_seconds) if (at := stores.folder(asked.store)) is not None else None
    with _showing(progress, trainer) as show, nullcontext() if claims is None else claims.kept():
        with nullcontext() if claims is None else claims.alone(lambda: show(NOTHING)):
            stored = _made(asked, keep)
        first = np.zeros(stored.layout.region_shape(0), bool)
        first.flat[0] = True
        like = MembersOfUnits(stored, [Unit(0, first)], shared)
        schedule = plan_schedule(trainer, like, mesh=mesh, **how)
        Work(trainer, stored, shared, schedule, share, claims, show).run()
    if claims is not None:
        claims.clean()
    return stored, values, runs


def _showing(progress: Show | bool, trainer: Trainer) -> AbstractContextManager[Show]:
    if callable(progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(lambda at: None)
    each, unit = (1, "members/s") if trainer.stops else (trainer.epochs, "epochs/s")
    return shown(each, unit)


def _axes(axes: Mapping[str, Any] | None) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Those with several values, and those that are shared."""
    values: dict[str, list[float]] = {}
    shared: dict[str, float] = {}
    if not isinstance(axes, Mapping | None):
        raise TypeError(f"{axes=} must be a dictionary of numbers, or lists of them, by name.")
    as_trained = jnp.result_type(float)
    for name, given in (axes or {}).items():
        if not isinstance(name, str) or not AXIS.fullmatch(name) or name in RESERVED:
            raise ValueError(f"axes has the name {name!r}; it must be a word that is not in {RESERVED}.")
        array = check_real_array(f"axes[{name!r}]", given).astype(np.float64)
        with np.errstate(over="ignore"):
            trained = array.astype(as_trained)
        if array.ndim > 1 or not array.size or not np.isfinite(trained).all():
            raise ValueError(
                f"axes[{name!r}]={given!r} must be a finite number, or a list of at least one, in {as_trained}."
            )
        if array.ndim == 0:
            shared[name] = float(array)
        elif len(set(trained.tolist())) < len(array):
            raise ValueError(f"axes[{name!r}]={given!r} must hold each value once, in {as_trained}.")
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
    variables = variables_of(result, keep)
    for variable in variables:
        for name in (variable.name.partition("/")[0], *variable.dims):
            if name in values:
                raise ValueError(f"axes has the name {name!r}, which {variable.name!r} has in a store.")
    usual = members_of_unit(variables)
    of_unit = usual if unit is None else check_integer("unit", unit, 1, MAX_UNIT)
    record = None
    if trainer.recorded is not None and any(variable.name.startswith("history/") for variable in variables):
        record = tuple(trainer.recorded)
    layout = Layout(sizes, unit_shape(list(sizes.values()), of_unit, usual), variables, record)
    zarr_store, name = stores.opened(where)
    asked = Stored(zarr_store, name, header, layout, values, runs)
    roots.check(asked)
    return asked


def _made(asked: Stored, keep: Sequence[str] | None) -> Stored:
    """The study in its store: made, or found there, or extended by what is asked for."""
    stored = roots.read(asked.store, asked.name)
    if stored is None:
        if stores.present(asked, stores.outcome_of(asked)):
            raise StoreError(
                f"{asked.name} has members of a study, but no {ROOT} that says of which; {roots.COPY} is a copy."
            )
        roots.write(asked)
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
        if roots.damaged_documents(stored):  # by an extension that was cut short, say
            roots.write(stored)
        return stored
    axes = {axis: len(given) for axis, given in values.items()} | {SEED: count(seeds)}
    wider = stored._replace(layout=stored.layout._replace(axes=axes), values=values, seeds=seeds)
    roots.check(wider)
    roots.write(wider, seeds_before=count(stored.seeds))
    return wider


def _in_order(
    dataset: xarray.Dataset, values: dict[str, list[float]], seeds: Runs, stored: Stored
) -> xarray.Dataset:
    """The dataset with its axes in the order that was asked for, which may not be that of the store."""
    order: dict[str, Any] = {axis: given for axis, given in values.items() if given != stored.values[axis]}
    if joined(seeds) != stored.seeds:
        order[SEED] = seeds_at(seeds, np.arange(count(seeds)))
    return dataset.sel(order) if order else dataset
