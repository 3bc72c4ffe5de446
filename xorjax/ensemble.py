"""Many members from one trainer: seeds and hyper-parameters in, padded chunks through an engine, results out.

Every chunk has the same shape, so one compilation serves any number of members, and memory depends on the chunk
alone. Chunks run on as many threads as there are CPU cores, in rounds of a fraction of a second, so that a run
can report and can be interrupted.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xorjax._checks import named, whole_number
from xorjax.engines import Engine, Programs
from xorjax.engines import lanes as lanes_engine
from xorjax.engines import vmap as vmap_engine
from xorjax.members import checked_hparams, checked_seeds
from xorjax.results import History, Result
from xorjax.rounds import rounds
from xorjax.training import HParams, Trainer

ENGINES: dict[str, Engine] = {engine.name: engine for engine in [lanes_engine.ENGINE, vmap_engine.ENGINE]}
REPORT_SECONDS = 0.1
Progress = Callable[[int, int], None]


def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Trains one member for each seed, as `trainer.run(jax.random.key(seed), hparams)` does.

    Args:
      trainer: from `xj.trainer(...)`.
      seeds: a range, list or array of whole numbers from 0 to 2^32 − 1.
      hparams: a pytree whose leaves are scalars (shared by all) or have a leading axis as long as `seeds`
        (one value for each member). A list of numbers counts as an array.
      engine: "lanes" (`lane_vmap` of the trainer's loop), "vmap" (`jax.vmap` of it), or "auto" to choose from
        the program and the platform.
      chunk_size: members that are worked on by one thread at once, rounded up to whole blocks of the engine; None
        lets it choose. Memory grows with it. Chunks are filled up with members whose results are dropped, so that
        every chunk runs the same program.
      progress: called as `progress(done, total)` in this thread, with the members finished (those under way
        count by the share of their epochs, rounded down in sum) and the number of seeds.

    Returns:
      A `Result` of NumPy arrays, member axis first, in the order of `seeds`.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    results: Result | None = None
    for members, block in train_blocks(
        trainer, seeds, hparams, engine=engine, chunk_size=chunk_size, progress=progress
    ):
        if results is None:
            results = _empty_like(block, len(seeds))
        for whole, part in zip(_per_member(results), _per_member(block), strict=True):
            whole[members] = part
    assert results is not None, "seeds are never empty here"
    return results


def train_blocks(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> Generator[tuple[slice, Result]]:
    """`train_ensemble` block by block: yields which members, and their results, in order.

    For results that need not be kept together in memory, or are wanted before the last is done. Closing the
    iterator, or an interrupt, stops the work within a round.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must come from xj.trainer(...), got {type(trainer).__name__}.")
    seeds = checked_seeds(seeds)
    hparams = checked_hparams(hparams, len(seeds))
    chosen = named("engine", engine, {"auto": lanes_engine.ENGINE, **ENGINES})
    of_member = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.result_type(leaf)), hparams)
    if chunk_size is None:
        chunk_size = chosen.chunk_size
    block_size = chosen.block_size(trainer, of_member)
    chunk_size = rounded_up(whole_number("chunk_size", chunk_size, 1, 2**24), block_size or 1)
    if progress is not None and not callable(progress):
        raise TypeError(f"{progress=} must be a function of done and total.")
    report = progress or (lambda done, total: None)
    return _chunks(trainer, seeds, hparams, chosen, chunk_size, block_size or chunk_size, report)


def shares(total: int, block_size: int, chunk_size: int) -> Iterator[slice]:
    """All members in parts of at most a chunk and of whole blocks, as many as keep all threads at work alike."""
    n_parts = rounded_up(-(-total // chunk_size), n_threads())
    size = min(chunk_size, rounded_up(-(-total // n_parts), block_size))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class _Compiled(NamedTuple):
    """The executables of one chunk's shape; running them depends on no setting of the running thread."""

    advance: Callable[..., Any]
    finish: Callable[..., Any]


class _Work:
    """What the threads of one ensemble share: how much is done, and whether to stop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cancelled = threading.Event()
        self.member_epochs = 0


def _chunks(
    trainer: Trainer,
    seeds: Any,
    hparams: HParams,
    engine: Engine,
    chunk_size: int,
    block_size: int,
    progress: Progress,
) -> Generator[tuple[slice, Result]]:
    total = len(seeds)
    programs = engine.programs(trainer)
    work = _Work()
    threads = n_threads()
    pending: deque[tuple[slice, Future[Result]]] = deque()

    compiled: _Compiled | None = None
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
        for members in shares(total, block_size, chunk_size):
            states, chunk_hparams = prepared(programs, seeds, hparams, members, chunk_size)
            compiled = compiled or _compiled(engine, programs, states, chunk_hparams)
            run = pool.submit(_run, trainer, compiled, states, chunk_hparams, members.stop - members.start, work)
            pending.append((members, run))
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


def prepared(
    programs: Programs, seeds: Any, hparams: HParams, members: slice, chunk_size: int
) -> tuple[Any, HParams]:
    """Initial states and hyper-parameters of a full chunk, on the device; the last member fills what is left.

    All that reads JAX's thread-local settings (x64, default device, …) is done here and in `_compiled`, in the
    caller's thread.
    """

    def filled(values: Any) -> np.ndarray:
        part = np.asarray(values[members])
        return np.concatenate([part, np.repeat(part[-1:], chunk_size - len(part), axis=0)])

    chunk_seeds = jnp.asarray(filled(seeds).astype(np.uint32))
    chunk_hparams = jax.tree.map(lambda leaf: jnp.asarray(filled(leaf)), hparams)
    return programs.init(chunk_seeds, chunk_hparams), chunk_hparams


def _compiled(engine: Engine, programs: Programs, states: Any, hparams: HParams) -> _Compiled:
    """What every chunk of this shape is run with."""
    return _Compiled(
        compiled_advance(engine, programs, states, hparams),
        programs.finish.lower(states, hparams).compile(),  # type: ignore[attr-defined]
    )


def compiled_advance(engine: Engine, programs: Programs, states: Any, hparams: HParams) -> Callable[..., Any]:
    lowered = programs.advance.lower(states, hparams, np.int32(0), np.int32(0))  # type: ignore[attr-defined]
    return lowered.compile(engine.compiler_options())


def _run(
    trainer: Trainer, compiled: _Compiled, states: Any, hparams: HParams, members: int, work: _Work
) -> Result:
    """All epochs of the first `members` of a chunk, in rounds; their results, on the host."""
    records = []

    def advance(states: Any, hparams: HParams, epochs: Any) -> Any:
        return compiled.advance(states, hparams, epochs, np.int32(members))

    for done in rounds(trainer, advance, states, hparams):
        states = done.state
        if done.records is not None:
            records.append(done.records)
        with work.lock:
            work.member_epochs += done.epochs * members
        if work.cancelled.is_set():
            raise RuntimeError("cancelled")
    result = jax.tree.map(lambda a: np.asarray(a)[:members], compiled.finish(states, hparams))
    if trainer.record_every is None:
        return result
    loss, accuracy = (np.concatenate(parts)[:, :members].T for parts in zip(*records, strict=True))
    recorded = np.arange(0, trainer.epochs, trainer.record_every, dtype=np.int32)
    return result._replace(history=History(recorded, loss, accuracy))


def n_threads() -> int:
    """One a core where members run on cores; elsewhere one that computes and one that waits for results."""
    if jax.default_backend() != "cpu":
        return 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _empty_like(block: Result, n_members: int) -> Result:
    results = jax.tree.map(lambda a: np.empty((n_members, *a.shape[1:]), a.dtype), block)
    if block.history is None:
        return results
    return results._replace(history=results.history._replace(epoch=block.history.epoch))


def _per_member(results: Result) -> list[np.ndarray]:
    """All arrays but `history.epoch`, which the members share."""
    history = results.history and results.history._replace(epoch=None)
    return jax.tree.leaves(results._replace(history=history))
