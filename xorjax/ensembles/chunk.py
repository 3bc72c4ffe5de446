"""One chunk of an ensemble: its members are started, trained in rounds, and judged.

Members that have stopped are moved to the last lanes once that empties a sixteenth of the blocks; empty blocks
are skipped. So the work follows the epochs that members run. No bit depends on the lane of a member.
"""

import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.stages import Compiled, Wrapped

from xorjax.ensembles.engines.contract import ChunkFunctions, CompilerOptions, Engine
from xorjax.ensembles.members import Members
from xorjax.ensembles.rounds import iter_rounds, zero_epochs
from xorjax.training.problem import HParams
from xorjax.training.records import Epochs, Record, build_history
from xorjax.training.results import History, Outcome, Result
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

COMPACT_SHARE = 16  # compact lanes when that frees a sixteenth of the blocks; it copies the state of every member


class SharedProgress:
    """What the threads of one ensemble share: how much is done, and when to stop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cancelled = threading.Event()
        self.deadline = math.inf
        self.member_epochs = 0  # trained, or not to be trained any more

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return time.perf_counter() >= self.deadline


class PlacedMembers(NamedTuple):
    """The members of a full chunk in the lanes of its devices.

    Attributes:
      seeds, hparams: of all lanes.
      order: the index in the chunk of the member that each lane holds; lanes that only fill the chunk come last.
      counts: number of members of each device, which are in its first lanes.
    """

    seeds: Array
    hparams: HParams
    order: np.ndarray
    counts: np.ndarray


class CompiledChunk(NamedTuple):
    """The executables for the shape of one chunk; running them depends on no setting of the running thread."""

    init: Compiled
    run_epochs: Compiled
    observe: Compiled | None
    finish: Compiled
    permute: Compiled | None


def place_members(
    engine: Engine, members: Members, member_range: slice, chunk_size: int, block_size: int
) -> PlacedMembers:
    """Put a range of members into the lanes of a chunk, as many blocks on each device.

    The last member fills the lanes that are left.

    All that reads JAX's thread-local settings (x64, default device, …) happens here and in `compile_chunk`, in the
    caller's thread.
    """
    seeds, hparams = members[member_range]
    n, lanes = len(seeds), np.arange(chunk_size // engine.n_shards)
    of_each = -(-n // engine.n_shards // block_size) * block_size
    bounds = np.minimum(np.arange(engine.n_shards + 1) * of_each, n)
    counts = np.diff(bounds).astype(np.int32)
    order = bounds[:-1, None] + lanes
    order[lanes >= counts[:, None]] = np.arange(n, chunk_size)
    held = np.minimum(order, n - 1).reshape(-1)
    arrays = seeds[held].astype(np.uint32), jax.tree.map(lambda leaf: leaf[held], hparams)
    if engine.sharding is not None:
        arrays = jax.device_put(arrays, engine.sharding)
    with engine.context():
        seeds, hparams = jax.tree.map(jnp.asarray, arrays)
    return PlacedMembers(seeds, hparams, order.reshape(-1).astype(np.int32), counts)


def compile_chunk(engine: Engine, trainer: Trainer, like: PlacedMembers) -> CompiledChunk:
    """Compile what runs every chunk of this shape: trace in this thread, and compile in others meanwhile."""
    functions: ChunkFunctions = engine.functions(trainer)
    seeds, hparams, order, counts = like
    with engine.context(), ThreadPoolExecutor() as pool:

        def start(function: Wrapped, *args: object, options: CompilerOptions | None = None) -> Future[Compiled]:
            return pool.submit(function.lower(*args).compile, options)

        init = start(functions.init, seeds, hparams, options=engine.init_options())
        states = jax.tree.map(
            lambda leaf: leaf.update(sharding=engine.sharding), jax.eval_shape(functions.init, seeds, hparams)
        )
        finish = start(functions.finish, states, hparams)
        run_options, epochs = engine.run_options(), zero_epochs(trainer)
        run_epochs = start(functions.run_epochs, states, hparams, epochs, counts, options=run_options)
        observe = start(functions.observe, states, hparams) if functions.observe else None
        permutes = functions.permute if trainer.stops else None
        permute = start(permutes, states, hparams, order) if permutes else None
        return CompiledChunk(
            init.result(),
            run_epochs.result(),
            observe.result() if observe else None,
            finish.result(),
            permute.result() if permute else None,
        )


class Chunk:
    """The members of a chunk, each in a lane of a device, while they are trained."""

    def __init__(self, compiled: CompiledChunk, states: State, placed: PlacedMembers, block_size: int):
        self._compiled, self._states, self._hparams = compiled, states, placed.hparams
        self._order = placed.order.reshape(len(placed.counts), -1)  # the member in each lane of each device
        self._n_trained = placed.counts  # lanes of each device that are trained, from the first
        self.n_members, self._block_size = int(placed.counts.sum()), block_size

    def run_epochs(self, epochs: np.ndarray) -> EpochMetrics | None:
        """Train all members that have not stopped; return the metrics, (slots, members)."""
        outs = self._compiled.run_epochs(self._states, self._hparams, epochs, self._n_trained)
        self._states, metrics = jax.block_until_ready(outs)
        return jax.tree.map(lambda each: self._by_member(np.asarray(each).T).T, metrics)

    def observe(self) -> Record:
        """Return the record of all members as they are now, without loss and accuracy."""
        if self._compiled.observe is None:
            return Record(None, None)
        record = self._compiled.observe(self._states, self._hparams)
        return jax.tree.map(lambda leaf: self._by_member(np.asarray(leaf)), record)

    def compact(self, epoch: int) -> int:
        """Move members that stopped before this epoch behind the others, if it pays; return how many still run."""
        stopped = np.asarray(self._states.epoch).reshape(self._order.shape) < epoch
        is_trained = np.arange(self._order.shape[1]) < self._n_trained[:, None]
        running = (is_trained & ~stopped).sum(1, dtype=np.int32)
        blocks, needed = (-(-n // self._block_size) for n in (self._n_trained, running))
        pays = COMPACT_SHARE * (blocks - needed).sum() >= blocks.sum()
        if self._compiled.permute is not None and running.any() and pays:
            order = np.argsort(np.where(is_trained, stopped, 2), axis=1, kind="stable").astype(np.int32)
            self._states, self._hparams = self._compiled.permute(self._states, self._hparams, order.reshape(-1))
            self._order, self._n_trained = np.take_along_axis(self._order, order, 1), running
        return int(running.sum())

    def finish(self) -> Result:
        """Return the results of all members, on the host."""
        results = self._compiled.finish(self._states, self._hparams)
        return jax.tree.map(lambda leaf: self._by_member(np.asarray(leaf)), results)

    def _by_member(self, by_lane: np.ndarray) -> np.ndarray:
        by_member = np.empty_like(by_lane)
        by_member[self._order.reshape(-1)] = by_lane
        return by_member[: self.n_members]


def init_chunk(compiled: CompiledChunk, placed: PlacedMembers, block_size: int) -> Chunk:
    """Return a chunk whose members are as before their first epoch."""
    return Chunk(compiled, compiled.init(placed.seeds, placed.hparams), placed, block_size)


def train_chunk(trainer: Trainer, chunk: Chunk, progress: SharedProgress) -> Result:
    """Train all epochs of a chunk, in rounds; return the results of its members."""
    records, counted, epoch, n_members = [], 0, 0, chunk.n_members
    for done in () if progress.is_over else iter_rounds(trainer, chunk.run_epochs, chunk.observe):
        epoch = done.epoch
        if done.records is not None:
            records.append(done.records)
        running = chunk.compact(epoch) if trainer.stops else n_members
        member_epochs = running * epoch + (n_members - running) * trainer.epochs
        with progress.lock:
            progress.member_epochs += member_epochs - counted
        counted = member_epochs
        if progress.cancelled.is_set():
            raise RuntimeError("cancelled")
        if not running or progress.is_over:
            break
    result = chunk.finish()
    if epoch < trainer.epochs:
        is_open = (result.epochs == epoch) & (result.outcome == Outcome.UNSOLVED)
        outcome = np.where(is_open, Outcome.UNFINISHED, result.outcome)
        result = result._replace(outcome=outcome.astype(result.outcome.dtype))
    if trainer.recorded is None:
        return result
    final = chunk.observe()._replace(loss=result.loss, accuracy=result.accuracy)
    return result._replace(history=_history(trainer.recorded, records, final, np.asarray(result.epochs)))


def _history(recorded: Epochs, records: list[Record], final: Record, epochs: np.ndarray) -> History:
    n_missing = len(recorded) - sum(len(jax.tree.leaves(each)[0]) for each in records)  # where all have stopped

    def concatenate(last: np.ndarray, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate([*parts, np.zeros((n_missing, *last.shape), last.dtype)]).swapaxes(0, 1)

    return build_history(recorded, jax.tree.map(concatenate, final, *records), final, epochs)
