"""Many members from one trainer: seeds and hyper-parameters in, padded chunks through an engine, results out.

Every chunk has the same shape, so one compilation serves any number of members, and memory depends on the chunk
alone. Chunks run on as many threads as there are CPU cores, in rounds of a fraction of a second, so that a run
can report and can be interrupted.
"""

import functools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from xorjax._checks import real_number, whole_number
from xorjax.chunks import Chunk, Compiled, Work, compiled, prepared, trained
from xorjax.cluster import check_alike, of_all_processes
from xorjax.engines import Engine
from xorjax.engines.choice import choose
from xorjax.jaxprs import platform
from xorjax.members import Members, members_of
from xorjax.problems import HParams
from xorjax.programs import program
from xorjax.reduction import Accumulator, combined
from xorjax.results import Result
from xorjax.rounds import rounds
from xorjax.sharding import checked_mesh, devices_here, is_shared, members_here, on_devices
from xorjax.training import Trainer

REPORT_SECONDS = 0.1
STOPPING_FACTOR = 32  # chunks are so much larger where members stop: a block is trained until its last one does
Progress = Callable[[int, int], None]


@overload
def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    reduce: None = None,
    progress: Progress | None = None,
) -> Result: ...


@overload
def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    reduce: Accumulator | Mapping[str, Accumulator],
    progress: Progress | None = None,
) -> Any: ...


def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    reduce: Accumulator | Mapping[str, Accumulator] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Trains one member for each seed, as `trainer.run(jax.random.key(seed), hparams)` does.

    Args:
      trainer: from `xj.trainer(...)`.
      seeds: a range, list or array of whole numbers from 0 to 2^32 − 1; or `Members`, from `xj.grid(...)` or
        `xj.random_search(...)`, which are seeds and hparams at once.
      hparams: a pytree whose leaves are scalars (shared by all) or have a leading axis as long as `seeds`
        (one value for each member). A list of numbers counts as an array.
      engine: "lanes" (`lane_vmap` of the trainer's loop), "vmap" (`jax.vmap` of it), "pallas" (a kernel with all
        that is learned in registers, for GPUs and TPUs), or "auto" to choose from the program and the platform:
        "pallas" where an epoch fits in one, else "lanes". ("interpret" is that kernel, interpreted: slow, for a
        look at it on a CPU.)
      precision: "fast" allows a GPU's kernel its approximate exponentials and quotients; it changes nothing
        elsewhere.
      chunk_size: members that are worked on by one thread at once, on each device, rounded up to whole blocks of
        the engine; None lets it choose. Memory grows with it. Chunks are filled up with members whose results are
        dropped, so that every chunk runs the same program.
      mesh: of the one axis "member", such as `jax.make_mesh((8,), ("member",))`: the devices to train on; None is
        all of this process. No bit depends on how many there are. In a mesh over several processes, which must
        all make the same call, each trains its `members_here(total, mesh)` and returns their results; what
        `reduce` gathers is of all members, in every process.
      seconds: after so many, compilation not counted, training ends: members that have neither trained all their
        epochs nor stopped are judged as they are, and those not solved yet end as UNFINISHED. Who has not begun is
        judged too, about a million members in a second. None is no limit.
      reduce: what to gather in place of the members' results: an `Accumulator`, such as
        `accumulators.share("solved", by=["learning_rate"])`, or several by name. No member is then kept.
      progress: called as `progress(done, total)` in this thread, with the members finished (those under way
        count by the share of their epochs, rounded down in sum) and the number of members, of those that this
        process trains.

    Returns:
      A `Result` of NumPy arrays, member axis first, in the order of `seeds`; with `reduce`, what that finds, the
      same bit for bit however the members are cut in chunks or shared among processes.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    members = members_of(seeds, hparams)
    how: dict[str, Any] = {"engine": engine, "precision": precision, "chunk_size": chunk_size, "mesh": mesh}
    blocks = train_blocks(trainer, members, **how, seconds=seconds, progress=progress)
    if reduce is not None:
        return _reduced(combined(reduce), members, blocks, mesh)
    here = members_here(len(members), mesh)
    results: Result | None = None
    for part, block in blocks:
        if results is None:
            results = _empty_like(block, here.stop - here.start)
        for whole, of_part in zip(_per_member(results), _per_member(block), strict=True):
            whole[part.start - here.start : part.stop - here.start] = of_part
    assert results is not None, "seeds are never empty here"
    return results


def _reduced(
    reduce: Accumulator, members: Members, blocks: Iterator[tuple[slice, Result]], mesh: Mesh | None
) -> Any:
    gathered = nothing = reduce.init(members)
    for part, block in blocks:
        gathered = reduce.update(gathered, block, members.places(part))
    return reduce.finalize(_merged(gathered, nothing, reduce) if is_shared(mesh) else gathered)


def _merged(gathered: Any, nothing: Any, reduce: Accumulator) -> Any:
    """What all processes have gathered; `nothing` is what they began with, by which they know one another."""
    shapes = jax.tree.map(lambda leaf: (type(leaf).__name__, np.shape(leaf)), nothing)
    return functools.reduce(reduce.merge, of_all_processes(gathered, f"statistics {shapes}"))


def train_blocks(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Generator[tuple[slice, Result]]:
    """`train_ensemble` block by block: yields which members, and their results, in order.

    For results that need not be kept together in memory, or are wanted before the last is done. Closing the
    iterator, or an interrupt, stops the work within a round.
    """
    members = members_of(seeds, hparams)
    how = {"engine": engine, "precision": precision, "chunk_size": chunk_size, "mesh": mesh}
    blocks = blocks_of(trainer, members, **how, seconds=seconds, progress=progress)
    check_processes({"trainer": trainer}, members, engine, precision, mesh)
    return blocks


def check_processes(
    trainers: Mapping[str, Trainer], members: Members, engine: str, precision: str, mesh: Mesh | None
) -> None:
    """Checks that all processes of a mesh, if it has several, train the same.

    Raises:
      ValueError: naming what differs, and in which process.
    """
    if is_shared(mesh):
        do = {
            name: f"{trainer.epochs} epochs ({program(trainer, members).digest[:12]})"
            for name, trainer in trainers.items()
        }
        check_alike({"members": members.described(), **do, "engine": engine, "precision": precision})


def blocks_of(
    trainer: Trainer,
    members: Members,
    *,
    engine: str = "auto",
    precision: str = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Generator[tuple[slice, Result]]:
    """`train_blocks` without a word to other processes."""
    mesh = checked_mesh(mesh)
    chosen, chunk_size, block_size = engine_for(trainer, members, engine, precision, chunk_size)
    here = members_here(len(members), mesh)
    if seconds is not None and not real_number("seconds", seconds) > 0:
        raise ValueError(f"{seconds=} must be above 0.")
    if progress is not None and not callable(progress):
        raise TypeError(f"{progress=} must be a function of done and total.")
    report = progress or (lambda done, total: None)
    limit = math.inf if seconds is None else seconds
    spread = on_devices(chosen, devices_here(mesh))
    return _chunks(trainer, members, here, spread, chunk_size * spread.n_shards, block_size, limit, report)


def replay(
    trainer: Trainer,
    seed: int,
    hparams: HParams = None,
    *,
    epochs: Sequence[int],
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
) -> Result:
    """One member of any ensemble again, alone, as it was after each of these epochs, bit for bit.

    Args:
      trainer, seed, hparams: what names the member; hparams are its own.
      epochs: in ascending order, from 0 (as it started) to `trainer.epochs`.
      engine, precision: those that trained it, in chunks of the size that the engine chose.

    Returns:
      A `Result` of NumPy arrays with a leading axis of these epochs, without history. (A member that stopped stays
      as it was.)

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    own = jax.tree.map(lambda leaf: np.asarray(leaf)[None], hparams, is_leaf=lambda node: isinstance(node, list))
    members = members_of([seed], own)
    chosen, _, size = engine_for(trainer, members, engine, precision, None)
    at = [whole_number(f"epochs[{i}]", epoch, 0, trainer.epochs) for i, epoch in enumerate(epochs)]
    if not at or sorted(set(at)) != at:
        raise ValueError(f"{epochs=} must hold at least one epoch, in ascending order.")
    start = prepared(chosen, trainer, members, slice(0, 1), size, size)
    chunk = Chunk(compiled(chosen, trainer, start), start, size)
    found, done = [], 0
    for epoch in at:
        for _ in rounds(trainer._replace(epochs=epoch - done), chunk.train):
            pass
        found.append(chunk.finish())
        done = epoch
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def engine_for(
    trainer: Trainer, members: Members, engine: str, precision: str, chunk_size: int | None
) -> tuple[Engine, int, int]:
    """The engine of that name, the members of a chunk on one device, and those of a block."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    _, first = members[:1]
    of_member = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.result_type(leaf)), first)
    chosen = choose(engine, trainer, of_member, precision).engine
    if chunk_size is None:
        packs = trainer.stops and chosen.programs(trainer).arrange is not None
        chunk_size = chosen.chunk_size * (STOPPING_FACTOR if packs else 1)
    block_size = chosen.block_size(trainer, of_member)
    chunk_size = rounded_up(whole_number("chunk_size", chunk_size, 1, 2**24), block_size or 1)
    return chosen, chunk_size, block_size or chunk_size


def shares(here: slice, block_size: int, chunk_size: int, threads: int) -> Iterator[slice]:
    """Members in parts of at most a chunk and of whole blocks, as many as keep all threads at work alike."""
    total = here.stop - here.start
    n_parts = rounded_up(-(-total // chunk_size), threads)
    size = min(chunk_size, rounded_up(-(-total // n_parts), block_size))
    return (slice(start, min(start + size, here.stop)) for start in range(here.start, here.stop, size))


def rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _chunks(
    trainer: Trainer,
    members: Members,
    here: slice,
    engine: Engine,
    chunk_size: int,
    block_size: int,
    seconds: float,
    progress: Progress,
) -> Generator[tuple[slice, Result]]:
    total = here.stop - here.start
    work = Work()
    threads = n_threads(engine.n_shards)
    pending: deque[tuple[slice, Future[Result]]] = deque()

    run_with: Compiled | None = None
    reported = 0.0

    def report() -> None:
        nonlocal reported
        if time.perf_counter() - reported > REPORT_SECONDS:
            progress(min(work.member_epochs // trainer.epochs, total), total)
            reported = time.perf_counter()

    def finished(run: Future[Result]) -> Result:
        while not run.done():
            wait([run], timeout=REPORT_SECONDS)
            report()
        report()
        return run.result()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="xorjax")
    try:
        for part in shares(here, block_size, chunk_size, threads):
            start = prepared(engine, trainer, members, part, chunk_size, block_size)
            if run_with is None:
                run_with = compiled(engine, trainer, start)
                work.deadline = time.perf_counter() + seconds
            chunk = Chunk(run_with, start, block_size)
            run = pool.submit(trained, trainer, chunk, work)
            pending.append((part, run))
            if len(pending) > threads:
                done, run = pending.popleft()
                yield done, finished(run)
        while pending:
            done, run = pending.popleft()
            yield done, finished(run)
        progress(total, total)
    finally:
        work.cancelled.set()
        pool.shutdown(cancel_futures=True)


def n_threads(n_shards: int = 1) -> int:
    """One a core where members run on cores; elsewhere one that computes and one that waits for results."""
    if platform() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if n_shards == 1 else max(2, cores // n_shards)


def _empty_like(block: Result, n_members: int) -> Result:
    results = jax.tree.map(lambda a: np.empty((n_members, *a.shape[1:]), a.dtype), block)
    if block.history is None:
        return results
    return results._replace(history=results.history._replace(epoch=block.history.epoch))


def _per_member(results: Result) -> list[np.ndarray]:
    """All arrays but `history.epoch`, which the members share."""
    history = results.history and results.history._replace(epoch=None)
    return jax.tree.leaves(results._replace(history=history))
