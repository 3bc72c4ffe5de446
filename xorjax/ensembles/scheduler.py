"""Members in padded chunks through an engine: blocks of results out, in order.

Every chunk has the same shape, so one compilation serves any number of members, and memory depends on the chunk
alone. Chunks run on as many threads as there are CPU cores, in rounds of a fraction of a second, so that a run
can report and can be interrupted; one more is always ready, so that no thread waits for who reads the results.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from xorjax._checks import check_integer, check_real
from xorjax.ensembles.chunk import Chunk, Compiled, Work, compiled, prepared, trained
from xorjax.ensembles.devices import checked_mesh, devices_here, on_devices
from xorjax.ensembles.engines.choice import choose
from xorjax.ensembles.engines.contract import Engine
from xorjax.ensembles.members import Members
from xorjax.lanes.jaxprs import platform
from xorjax.training.results import Result
from xorjax.training.trainer import Trainer

REPORT_SECONDS = 0.1
# Where members stop, chunks have so many blocks, up to so many times the others' members: a block is trained until
# its last member stops.
STOPPING_BLOCKS, STOPPING_FACTOR = 512, 32
Progress = Callable[[int, int], None]


class Cut(NamedTuple):
    """How members are cut and run: an engine on its devices, members of a chunk and of a block, and threads."""

    engine: Engine
    chunk_size: int
    block_size: int
    threads: int

    @property
    def at_once(self) -> int:
        """Members that fill all threads."""
        return self.chunk_size * self.threads

    def parts(self, members: Members) -> Iterator[tuple[Members, slice]]:
        parts = shares(len(members), self.block_size, self.chunk_size, self.threads)
        return ((members, part) for part in parts)


def cut_for(
    trainer: Trainer,
    like: Members,
    engine: str = "auto",
    precision: str = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
) -> Cut:
    """How members like these are cut and run on a checked mesh."""
    chosen, chunk_size, block_size = engine_for(trainer, like, engine, precision, chunk_size)
    spread = on_devices(chosen, devices_here(mesh))
    return Cut(spread, chunk_size * spread.n_shards, block_size, n_threads(spread.n_shards))


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
    """`train_blocks` of `Members`."""
    mesh = checked_mesh(mesh)
    cut = cut_for(trainer, members, engine, precision, chunk_size, mesh)
    if seconds is not None and not check_real("seconds", seconds) > 0:
        raise ValueError(f"{seconds=} must be above 0.")
    if progress is not None and not callable(progress):
        raise TypeError(f"{progress=} must be a function of done and total.")
    limit = math.inf if seconds is None else seconds
    return blocks_of_parts(trainer, cut, cut.parts(members), len(members), progress or _no_report, limit)


def _no_report(done: int, total: int) -> None:
    pass


def blocks_of_parts(
    trainer: Trainer,
    cut: Cut,
    parts: Iterator[tuple[Members, slice]],
    total: int,
    progress: Progress,
    seconds: float = math.inf,
) -> Generator[tuple[slice, Result]]:
    """The blocks of parts of members, each asked for when a thread will soon be free for it.

    Args:
      trainer: trains each member.
      cut: of members like these.
      parts: members, and which of them, at most a chunk.
      total: members of all parts, or the most that there may be.
      progress, seconds: as for `train_ensemble`.
    """
    work = Work()
    pending: deque[tuple[slice, Future[Result]]] = deque()
    run_with: Compiled | None = None
    given, reported = 0, 0.0

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

    pool = ThreadPoolExecutor(cut.threads, thread_name_prefix="xorjax")
    try:
        for members, part in parts:
            start = prepared(cut.engine, trainer, members, part, cut.chunk_size, cut.block_size)
            if run_with is None:
                run_with = compiled(cut.engine, trainer, start)
                work.deadline = time.perf_counter() + seconds
            chunk = Chunk(run_with, start, cut.block_size)
            given += part.stop - part.start
            pending.append((part, pool.submit(trained, trainer, chunk, work)))
            if len(pending) > cut.threads + 1:
                done, run = pending.popleft()
                yield done, finished(run)
        while pending:
            done, run = pending.popleft()
            yield done, finished(run)
        progress(given, total)
    finally:
        work.cancelled.set()
        pool.shutdown(cancel_futures=True)


def engine_for(
    trainer: Trainer, members: Members, engine: str, precision: str, chunk_size: int | None
) -> tuple[Engine, int, int]:
    """The engine of that name, the members of a chunk on one device, and those of a block."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    _, first = members[:1]
    of_member = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.result_type(leaf)), first)
    chosen = choose(engine, trainer, of_member, precision).engine
    block_size = chosen.block_size(trainer, of_member)
    if chunk_size is None:
        chunk_size = chosen.chunk_size
        if trainer.stops and block_size is not None and chosen.programs(trainer).arrange is not None:
            chunk_size = max(chunk_size, min(STOPPING_BLOCKS * block_size, STOPPING_FACTOR * chunk_size))
    chunk_size = rounded_up(check_integer("chunk_size", chunk_size, 1, 2**24), block_size or 1)
    return chosen, chunk_size, block_size or chunk_size


def shares(total: int, block_size: int, chunk_size: int, threads: int) -> Iterator[slice]:
    """Members in parts of at most a chunk and of whole blocks, as many as keep all threads at work alike."""
    n_parts = rounded_up(-(-total // chunk_size), threads)
    size = min(chunk_size, rounded_up(-(-total // n_parts), block_size))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def n_threads(n_shards: int = 1) -> int:
    """One a core where members run on cores; elsewhere one that computes and one that waits for results."""
    if platform() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if n_shards == 1 else max(2, cores // n_shards)
