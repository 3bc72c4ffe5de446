"""Running a study: create, find or extend it in its store, and train what is missing."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import Mesh

from xorjax._checks import check_real, check_real_array
from xorjax.ensembles.devices import check_mesh
from xorjax.ensembles.members import SEED, check_seeds
from xorjax.studies.claims import LEASE_SECONDS, MAX_LEASE_SECONDS, Claims, parse_worker
from xorjax.studies.dataset import open_study
from xorjax.studies.identity import check_same_study, study_metadata
from xorjax.studies.parsing import check_distinct
from xorjax.studies.progress import NO_PROGRESS, Show, progress_bar
from xorjax.studies.store.access import StoreLocation, open_zarr
from xorjax.studies.store.layout import AXIS_NAME, RECORD, plan_layout
from xorjax.studies.store.manifest import (
    check_study,
    find_damaged_nodes,
    init_manifest,
    read_manifest,
    write_manifest,
)
from xorjax.studies.store.seed_ranges import count_seeds, extend_ranges
from xorjax.studies.store.shards import StudyStore
from xorjax.studies.worker import StudyWorker
from xorjax.training.trainer import Trainer

RESERVED = (SEED, "seeds", RECORD)
Axes = Mapping[str, float | Sequence[float] | np.ndarray]


def run_study(
    trainer: Trainer,
    seeds: range,
    axes: Axes | None = None,
    *,
    store: StoreLocation,
    keep: Sequence[str] | None = None,
    shard_size: int | None = None,
    worker: tuple[int, int] | str | None = None,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    lease_seconds: float = LEASE_SECONDS,
    progress: Show | bool = False,
    plan: Mapping[str, object] | None = None,
) -> xarray.Dataset:
    """Train every seed at every combination of hyper-parameters, into a store from which nothing is lost.

    Committed members stay: called again, in this process or any other, it trains the missing members, and the
    store is the same bit for bit as that of a run without interruption. A longer range of seeds, at either end, or
    more values of an axis extend the study, and only the new members are trained. Several processes may run it at
    once; in a local or shared folder each takes shards that no other has, and takes over those of one that died.
    (Other stores have no such claims: divide them by `worker`, and extend them while no process works at them.)

    Args:
      trainer: from `xj.trainer(...)`.
      seeds: a range of consecutive seeds, each from 0 to 2^32 − 1.
      axes: hyper-parameters by name: a list of numbers is an axis of the study, a number is shared by all members.
        The trainer gets all as floats.
      store: a folder, a URL such as "s3://bucket/study.zarr" (by fsspec), or a store of zarr.
      keep: the fields of `Result` that are kept of each member; None is all but the final parameters, "params".
      shard_size: about how many members are trained and committed together, 1 to 2^24, in a new study; None is
        16,384, or fewer if much is kept of each. It stays when the study is extended.
      worker: `(3, 16)`, or "3/16", does every 16th shard, from the third on, and returns; None does all that no
        other process works on, and then waits for the others.
      engine, precision, chunk_size, mesh: as for `train_ensemble`.
      lease_seconds: after so long without a sign of life from a process, others take over its shards.
      progress: True shows a bar of tqdm with the rate, the share solved so far and the time left, in a notebook
        too, and every ten seconds where stderr is no terminal. A function is called with a `Progress`, a few times
        a second.
      plan: words that describe how the trainer was made, kept in the store (`xorjax study` puts its file there).

    Returns:
      The dataset, opened from the store and not yet read: its dimensions are the axes and "seed", in the order
      asked for. Missing members are nan.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
      DifferentStudyError: (a ValueError) if the store holds another study, with what differs.
      OSError: naming the file that could not be written. Committed members stay.
    """
    options = {"engine": engine, "precision": precision, "chunk_size": chunk_size}
    asked = describe_study(trainer, seeds, axes, store, keep, shard_size, plan=plan, **options)
    schedule = {"worker": worker, "chunk_size": chunk_size, "mesh": mesh}
    study = train_study(trainer, asked, keep, lease_seconds=lease_seconds, progress=progress, **schedule)
    order: dict[str, Any] = {axis: each for axis, each in asked.values.items() if each != study.values[axis]}
    if len(study.seeds) > 1:
        order[SEED] = np.asarray(seeds)
    dataset = open_study(store)
    return dataset.sel(order) if order else dataset


def describe_study(
    trainer: Trainer,
    seeds: range,
    axes: Axes | None,
    store: StoreLocation,
    keep: Sequence[str] | None = None,
    shard_size: int | None = None,
    *,
    plan: Mapping[str, object] | None = None,
    **options: Any,
) -> StudyStore:
    """Return the study that the arguments of `run_study` describe, as a new store would hold it."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    try:
        json.dumps(plan)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{plan=} must be words and numbers that JSON has: {error}.") from None
    values, shared = check_axes(axes)
    if not isinstance(seeds, range) or (len(seeds) > 1 and seeds.step != 1):
        wanted = "a range of consecutive seeds, such as range(1000)"
        other = "For other seeds, run several studies, or xj.train_ensemble"
        raise TypeError(f"seeds={reprlib.repr(seeds)} must be {wanted}. {other}.")
    check_seeds(seeds)
    metadata = study_metadata(trainer, values, shared, plan=plan, **options)
    hparams = dict.fromkeys([*values, *shared], jnp.float32(0))
    result = jax.eval_shape(trainer.run, jax.eval_shape(jax.random.key, 0), hparams or None)
    sizes = {axis: len(of_axis) for axis, of_axis in values.items()} | {SEED: len(seeds)}
    layout = plan_layout(result, sizes, keep, shard_size, trainer.recorded)
    study = StudyStore(*open_zarr(store), metadata, layout, values, [[seeds[0], seeds[-1] + 1]])
    check_study(study)
    return study


def train_study(
    trainer: Trainer,
    asked: StudyStore,
    keep: Sequence[str] | None = None,
    *,
    worker: tuple[int, int] | str | None = None,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    lease_seconds: float = LEASE_SECONDS,
    progress: Show | bool = False,
) -> StudyStore:
    """Train a described study, without opening the dataset, whose index takes memory for every seed.

    Arguments as for `run_study`. Returns the study that is then in the store, which may have more members.
    """
    part, mesh = parse_worker(worker), check_mesh(mesh)
    if not 0 < check_real("lease_seconds", lease_seconds) <= MAX_LEASE_SECONDS:
        raise ValueError(f"{lease_seconds=} must be above 0, and at most {MAX_LEASE_SECONDS:,}.")
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"{progress=} must be True, False, or a function of a Progress.")
    read_manifest(asked.store, asked.name)  # before anything is written into a folder of other files
    claims = Claims(asked.folder, lease_seconds)
    bar = progress_bar("members") if trainer.stops else progress_bar("epochs", trainer.epochs)
    shown = bar if progress is True else nullcontext(progress or (lambda at: None))
    with shown as show, claims.keep_alive():
        with claims.hold_study(lambda: show(NO_PROGRESS)):
            study = _create_or_extend(asked, keep)
        numbers = None if worker is None else range(study.layout.n_shards)[part]
        StudyWorker(trainer, study, claims, show, numbers, chunk_size=chunk_size, mesh=mesh).run()
    claims.clean()
    return study


def check_axes(axes: Axes | None) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the hyper-parameters that are axes, and those that all members share."""
    values: dict[str, list[float]] = {}
    shared: dict[str, float] = {}
    if not isinstance(axes, Mapping | None):
        raise TypeError(f"{axes=} must be a dictionary of numbers, or lists of them, by name.")
    dtype = jnp.result_type(float)
    for name, given in (axes or {}).items():
        if not isinstance(name, str) or not AXIS_NAME.fullmatch(name) or name in RESERVED:
            raise ValueError(f"axes has the name {name!r}; it must be a word that is not in {RESERVED}.")
        array = check_real_array(f"axes[{name!r}]", given).astype(np.float64)
        with np.errstate(over="ignore"):
            trained = array.astype(dtype)
        if array.ndim > 1 or not array.size or not np.isfinite(trained).all():
            wanted = f"a finite number, or a list of at least one, in {dtype}"
            raise ValueError(f"axes[{name!r}]={given!r} must be {wanted}.")
        if array.ndim == 0:
            shared[name] = float(array)
        else:
            check_distinct(f"axes[{name!r}]", given, dtype)
            values[name] = array.tolist()
    return values, shared


def _create_or_extend(asked: StudyStore, keep: Sequence[str] | None) -> StudyStore:
    """Return the study in its store: created, or found there and extended by what is asked for."""
    stored = read_manifest(asked.store, asked.name)
    if stored is None:
        init_manifest(asked)
        return asked

    def describe(study: StudyStore) -> dict[str, Any]:
        kept = {} if keep is None else {"keep": sorted(variable.name for variable in study.layout.variables)}
        return {**study.metadata, "axes": list(study.layout.axes), "record": study.layout.record, **kept}

    message = f"store={asked.name!r} holds another study, which differs in:"
    check_same_study(describe(stored), describe(asked), message)
    return _extend(stored, asked)


def _extend(stored: StudyStore, asked: StudyStore) -> StudyStore:
    """Return the study in a store with all seeds and values that are asked for, as the store then has it."""
    values = {}
    for axis, of_axis in stored.values.items():
        if gone := [value for value in of_axis if value not in asked.values[axis]]:
            has = f"which the study in {asked.name!r} has; it can be extended, not cut"
            raise ValueError(f"axes[{axis!r}] lacks {gone[:5]}, {has}.")
        values[axis] = [*of_axis, *(value for value in asked.values[axis] if value not in of_axis)]
    seeds = range(*asked.seeds[0])
    try:
        ranges = extend_ranges(stored.seeds, seeds)
    except ValueError as error:
        raise ValueError(f"seeds={seeds} can't be those of the study in {asked.name!r}: {error}.") from None
    if values == stored.values and ranges == stored.seeds:
        if find_damaged_nodes(stored):  # by an extension that was cut short, say
            write_manifest(stored)
        return stored
    axes = {axis: len(of_axis) for axis, of_axis in values.items()} | {SEED: count_seeds(ranges)}
    wider = stored._replace(layout=stored.layout._replace(axes=axes), values=values, seeds=ranges)
    check_study(wider)
    write_manifest(wider, seeds_before=count_seeds(stored.seeds))
    return wider
