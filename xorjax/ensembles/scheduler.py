"""Members in padded chunks through an engine: ranges of members with their results out, in order.

Every chunk has the same shape, so one compilation serves any number of members, and memory depends on the chunk
alone. Chunks run on as many threads as there are CPU cores, in rounds of a fraction of a second, so that a run
can report and can be interrupted. One more chunk is always ready, so that no thread waits for the caller.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh

from xorjax._checks import check_integer
from xorjax.ensembles.chunk import (
    CompiledChunk,
    SharedProgress,
    compile_chunk,
    init_chunk,
    place_members,
    train_chunk,
)
from xorjax.ensembles.devices import list_devices, spread_engine
from xorjax.ensembles.engines.choice import choose_engine
from xorjax.ensembles.engines.contract import Engine, drop_member_axis
from xorjax.ensembles.members import Members
from xorjax.lanes.jaxprs import platform
from xorjax.training.results import Result
from xorjax.training.trainer import Trainer

REPORT_SECONDS = 0.1
# Where members may stop, a chunk has this many blocks, so that lanes can be compacted often; but at most this many
# times the members of another chunk.
STOPPING_BLOCKS, STOPPING_FACTOR = 512, 32
Progress = Callable[[int, int], None]


class Schedule(NamedTuple):
    """How members are split and run.

    Attributes:
      engine: on its devices.
      chunk_size: members of a chunk, on all devices.
      block_size: members of a block.
      threads: number of threads.
    """

    engine: Engine
    chunk_size: int
    block_size: int
    threads: int

    @property
    def members_at_once(self) -> int:
        """Number of members that occupy all threads."""
        return self.chunk_size * self.threads

    def split(self, members: Members) -> Iterator[tuple[Members, slice]]:
        """Yield the members with one range of them for each chunk."""
        for member_range in partition(len(members), self.block_size, self.chunk_size, self.threads):
            yield members, member_range


def plan_schedule(
    trainer: Trainer,
    like: Members,
    engine: str = "auto",
    precision: str = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
) -> Schedule:
    """Return the schedule of members such as these on the devices of a mesh, which must have been checked."""
    chosen, chunk_size, block_size = plan_chunk(trainer, like, engine, precision, chunk_size)
    spread = spread_engine(chosen, list_devices(mesh))
    return Schedule(spread, chunk_size * spread.n_shards, block_size, count_threads(spread.n_shards))


def train_chunks(
    trainer: Trainer,
    schedule: Schedule,
    chunks: Iterable[tuple[Members, slice]],
    total: int,
    progress: Progress,
    seconds: float = math.inf,
) -> Generator[tuple[slice, Result]]:
    """Train chunk by chunk; yield the range and the results of each. A chunk is taken shortly before it starts.

    Args:
      trainer: trains each member.
      schedule: for members such as these.
      chunks: members, and a range of them, at most a chunk.
      total: number of members of all chunks, or an upper bound.
      progress, seconds: as for `train_ensemble`.
    """
    shared = SharedProgress()
    pending: deque[tuple[slice, Future[Result]]] = deque()
    compiled: CompiledChunk | None = None
    n_started, last_report = 0, 0.0

    def report() -> None:
        nonlocal last_report
        if time.perf_counter() - last_report > REPORT_SECONDS:
            progress(min(shared.member_epochs // trainer.epochs, total), total)
            last_report = time.perf_counter()

    def wait_for_next() -> tuple[slice, Result]:
        member_range, run = pending.popleft()
        while not run.done():
            wait([run], timeout=REPORT_SECONDS)
            report()
        report()
        return member_range, run.result()

    pool = ThreadPoolExecutor(schedule.threads, thread_name_prefix="xorjax")
    try:
        for members, member_range in chunks:
            placed = place_members(
                schedule.engine, members, member_range, schedule.chunk_size, schedule.block_size
            )
            if compiled is None:
                compiled = compile_chunk(schedule.engine, trainer, placed)
                shared.deadline = time.perf_counter() + seconds
            chunk = init_chunk(compiled, placed, schedule.block_size)
            n_started += member_range.stop - member_range.start
            pending.append((member_range, pool.submit(train_chunk, trainer, chunk, shared)))
            if len(pending) > schedule.threads + 1:
                yield wait_for_next()
        while pending:
            yield wait_for_next()
        progress(n_started, total)
    finally:
        shared.cancelled.set()
        pool.shutdown(cancel_futures=True)


def plan_chunk(
    trainer: Trainer, members: Members, engine: str, precision: str, chunk_size: int | None
) -> tuple[Engine, int, int]:
    """Return the engine of that name, the members of a chunk on one device, and the members of a block."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    if isinstance(jnp.zeros(()), Tracer):
        raise ValueError("train_ensemble compiles by itself: call it outside of jax.jit, or use trainer.run.")
    _, first = members[:1]
    hparams = drop_member_axis(
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.result_type(leaf)), first)
    )
    chosen = choose_engine(engine, trainer, hparams, precision).engine
    block_size = chosen.choose_block_size(trainer, hparams)
    if chunk_size is None:
        chunk_size = chosen.chunk_size
        if trainer.stops and block_size is not None and chosen.functions(trainer).permute is not None:
            chunk_size = max(chunk_size, min(STOPPING_BLOCKS * block_size, STOPPING_FACTOR * chunk_size))
    chunk_size = round_up(check_integer("chunk_size", chunk_size, 1, 2**24), block_size or 1)
    return chosen, chunk_size, block_size or chunk_size


def partition(total: int, block_size: int, chunk_size: int, threads: int) -> Iterator[slice]:
    """Split members into ranges of whole blocks, at most a chunk each, such that all threads have equal work."""
    n_ranges = round_up(-(-total // chunk_size), threads)
    size = min(chunk_size, round_up(-(-total // n_ranges), block_size))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def round_up(number: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-number // multiple) * multiple


def count_threads(n_shards: int = 1) -> int:
    """Return one thread for each core that computes; on an accelerator two, to compute and to wait for results."""
    if platform() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if n_shards == 1 else max(2, cores // n_shards)
