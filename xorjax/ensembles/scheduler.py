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

from xorjax._checks import check_integer
from xorjax.ensembles.chunk import Chunk, Compiled, Work, compiled, prepared, trained
from xorjax.ensembles.devices import devices_here, on_devices
from xorjax.ensembles.engines.choice import choose_engine
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


class Schedule(NamedTuple):
    """How members are cut and run: an engine on its devices, members of a chunk and of a block, and threads."""

    engine: Engine
    chunk_size: int
    block_size: int
    threads: int

    @property
    def members_at_once(self) -> int:
        """Members that fill all threads."""
        return self.chunk_size * self.threads

    def split(self, members: Members) -> Iterator[tuple[Members, slice]]:
        parts = partition(len(members), self.block_size, self.chunk_size, self.threads)
        return ((members, part) for part in parts)


def plan_schedule(
    trainer: Trainer,
    like: Members,
    engine: str = "auto",
    precision: str = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
) -> Schedule:
    """How members like these are cut and run on a checked mesh."""
    chosen, chunk_size, block_size = plan_chunk(trainer, like, engine, precision, chunk_size)
    spread = on_devices(chosen, devices_here(mesh))
    return Schedule(spread, chunk_size * spread.n_shards, block_size, count_threads(spread.n_shards))


def train_chunks(
    trainer: Trainer,
    schedule: Schedule,
    parts: Iterator[tuple[Members, slice]],
    total: int,
    progress: Progress,
    seconds: float = math.inf,
) -> Generator[tuple[slice, Result]]:
    """The blocks of parts of members, each asked for when a thread will soon be free for it.

    Args:
      trainer: trains each member.
      schedule: of members like these.
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

    pool = ThreadPoolExecutor(schedule.threads, thread_name_prefix="xorjax")
    try:
        for members, part in parts:
            start = prepared(schedule.engine, trainer, members, part, schedule.chunk_size, schedule.block_size)
            if run_with is None:
                run_with = compiled(schedule.engine, trainer, start)
                work.deadline = time.perf_counter() + seconds
            chunk = Chunk(run_with, start, schedule.block_size)
            given += part.stop - part.start
            pending.append((part, pool.submit(trained, trainer, chunk, work)))
            if len(pending) > schedule.threads + 1:
                done, run = pending.popleft()
                yield done, finished(run)
        while pending:
            done, run = pending.popleft()
            yield done, finished(run)
        progress(given, total)
    finally:
        work.cancelled.set()
        pool.shutdown(cancel_futures=True)


def plan_chunk(
    trainer: Trainer, members: Members, engine: str, precision: str, chunk_size: int | None
) -> tuple[Engine, int, int]:
    """The engine of that name, the members of a chunk on one device, and those of a block."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    _, first = members[:1]
    of_member = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.result_type(leaf)), first)
    chosen = choose_engine(engine, trainer, of_member, precision).engine
    block_size = chosen.block_size(trainer, of_member)
    if chunk_size is None:
        chunk_size = chosen.chunk_size
        if trainer.stops and block_size is not None and chosen.programs(trainer).arrange is not None:
            chunk_size = max(chunk_size, min(STOPPING_BLOCKS * block_size, STOPPING_FACTOR * chunk_size))
    chunk_size = round_up(check_integer("chunk_size", chunk_size, 1, 2**24), block_size or 1)
    return chosen, chunk_size, block_size or chunk_size


def partition(total: int, block_size: int, chunk_size: int, threads: int) -> Iterator[slice]:
    """Members in parts of at most a chunk and of whole blocks, as many as keep all threads at work alike."""
    n_parts = round_up(-(-total // chunk_size), threads)
    size = min(chunk_size, round_up(-(-total // n_parts), block_size))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def count_threads(n_shards: int = 1) -> int:
    """One a core where members run on cores; elsewhere one that computes and one that waits for results."""
    if platform() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if n_shards == 1 else max(2, cores // n_shards)
