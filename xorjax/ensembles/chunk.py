"""One chunk of an ensemble: its members started, trained in rounds, and judged.

Members that have stopped are put behind the others when that empties enough blocks, which are then trained no
more: work follows the epochs that members run. No bit depends on the lane that a member is in.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xorjax.ensembles.engines.contract import Engine
from xorjax.ensembles.members import Members
from xorjax.ensembles.rounds import iter_rounds, zero_epochs
from xorjax.training.problem import HParams
from xorjax.training.records import Epochs, Record, build_history
from xorjax.training.results import History, Outcome, Result
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

PACKED_SHARE = 16  # members are packed where this saves a sixteenth of the blocks: it moves all that they are


class Compiled(NamedTuple):
    """The executables of one chunk's shape; running them depends on no setting of the running thread."""

    advance: Callable[..., Any]
    observe: Callable[..., Record] | None
    finish: Callable[..., Any]
    arrange: Callable[..., Any] | None


class Work:
    """What the threads of one ensemble share: how much is done, and when to stop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cancelled = threading.Event()
        self.deadline = math.inf
        self.member_epochs = 0  # trained, or not to be trained any more

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self.deadline


class Prepared(NamedTuple):
    """A full chunk before training, on its devices.

    Attributes:
      states, hparams: of all lanes.
      order: which member of the chunk each lane holds; those that only fill it up come after the others.
      counts: how many members each device has, which are in its first lanes.
    """

    states: State
    hparams: HParams
    order: np.ndarray
    counts: np.ndarray


def prepared(
    engine: Engine, trainer: Trainer, members: Members, part: slice, chunk_size: int, block_size: int
) -> Prepared:
    """The initial states of a chunk, each device having as many blocks; the last member fills what is left.

    All that reads JAX's thread-local settings (x64, default device, …) is done here and in `compiled`, in the
    caller's thread.
    """
    seeds, hparams = members[part]
    n, lanes = len(seeds), np.arange(chunk_size // engine.n_shards)
    of_each = -(-n // engine.n_shards // block_size) * block_size
    bounds = np.minimum(np.arange(engine.n_shards + 1) * of_each, n)
    counts = np.diff(bounds).astype(np.int32)
    order = bounds[:-1, None] + lanes
    order[lanes >= counts[:, None]] = np.arange(n, chunk_size)
    held = np.minimum(order, n - 1).reshape(-1)
    seeds, hparams = engine.placed((seeds[held].astype(np.uint32), jax.tree.map(lambda leaf: leaf[held], hparams)))
    with engine.context():
        hparams = jax.tree.map(jnp.asarray, hparams)
        states = engine.programs(trainer).init(jnp.asarray(seeds), hparams)
    return Prepared(states, hparams, order.reshape(-1).astype(np.int32), counts)


def compiled(engine: Engine, trainer: Trainer, like: Prepared) -> Compiled:
    """What every chunk of this shape is run with."""
    programs: Any = engine.programs(trainer)  # jitted functions
    states, hparams, order, _ = like
    arrange = None
    with engine.context():
        if trainer.stops and programs.arrange is not None:
            arrange = programs.arrange.lower(states, hparams, order).compile()
        finish = programs.finish.lower(states, hparams).compile()
        observe = programs.observe and programs.observe.lower(states, hparams).compile()
    return Compiled(compiled_advance(engine, trainer, states, hparams), observe, finish, arrange)


def compiled_advance(engine: Engine, trainer: Trainer, states: State, hparams: HParams) -> Callable[..., Any]:
    programs: Any = engine.programs(trainer)
    with engine.context():
        none = np.zeros(engine.n_shards, np.int32)
        lowered = programs.advance.lower(states, hparams, zero_epochs(trainer), none)
        return lowered.compile(engine.compiler_options())


class Chunk:
    """The members of a chunk, each in a lane of a device, while they are trained."""

    def __init__(self, programs: Compiled, start: Prepared, block_size: int):
        self._programs, self._states, self._hparams = programs, start.states, start.hparams
        self._order = start.order.reshape(len(start.counts), -1)  # which member each lane of a device holds
        self._n_trained = start.counts  # by lanes of each device, from the first
        self.n_members, self._block_size = int(start.counts.sum()), block_size

    def train(self, epochs: Any) -> EpochMetrics | None:
        """Trains on whoever has not stopped; what is reported, (slots, members)."""
        outs = self._programs.advance(self._states, self._hparams, epochs, self._n_trained)
        self._states, infos = jax.block_until_ready(outs)
        return jax.tree.map(lambda info: self._by_member(np.asarray(info).T).T, infos)

    def observe(self) -> Record:
        """What is recorded of all members as they are now, but for loss and accuracy."""
        if self._programs.observe is None:
            return Record(None, None)
        seen = self._programs.observe(self._states, self._hparams)
        return jax.tree.map(lambda leaf: self._by_member(np.asarray(leaf)), seen)

    def pack(self, epoch: int) -> int:
        """Puts whoever has stopped before this epoch behind the others, if it pays; returns how many have not."""
        stopped = np.asarray(self._states.epoch).reshape(self._order.shape) < epoch
        is_trained = np.arange(self._order.shape[1]) < self._n_trained[:, None]
        running = (is_trained & ~stopped).sum(1, dtype=np.int32)
        blocks, needed = (-(-n // self._block_size) for n in (self._n_trained, running))
        pays = PACKED_SHARE * (blocks - needed).sum() >= blocks.sum()
        if self._programs.arrange is not None and running.any() and pays:
            order = np.argsort(np.where(is_trained, stopped, 2), axis=1, kind="stable").astype(np.int32)
            self._states, self._hparams = self._programs.arrange(self._states, self._hparams, order.reshape(-1))
            self._order, self._n_trained = np.take_along_axis(self._order, order, 1), running
        return int(running.sum())

    def finish(self) -> Result:
        """The results of all members, on the host."""
        results = self._programs.finish(self._states, self._hparams)
        return jax.tree.map(lambda leaf: self._by_member(np.asarray(leaf)), results)

    def _by_member(self, by_lane: np.ndarray) -> np.ndarray:
        by_member = np.empty_like(by_lane)
        by_member[self._order.reshape(-1)] = by_lane
        return by_member[: self.n_members]


def trained(trainer: Trainer, chunk: Chunk, work: Work) -> Result:
    """All epochs of a chunk, in rounds; the results of its members."""
    records, counted, epoch, n_members = [], 0, 0, chunk.n_members
    for done in () if work.is_over else iter_rounds(trainer, chunk.train, chunk.observe):
        epoch = done.epoch
        if done.records is not None:
            records.append(done.records)
        running = chunk.pack(done.epoch) if trainer.stops else n_members
        member_epochs = running * done.epoch + (n_members - running) * trainer.epochs
        with work.lock:
            work.member_epochs += member_epochs - counted
        counted = member_epochs
        if work.cancelled.is_set():
            raise RuntimeError("cancelled")
        if not running or work.is_over:
            break
    result = chunk.finish()
    if epoch < trainer.epochs:
        is_open = (result.epochs == epoch) & (result.outcome == Outcome.UNSOLVED)
        outcome = np.where(is_open, Outcome.UNFINISHED, result.outcome)
        result = result._replace(outcome=outcome.astype(result.outcome.dtype))
    if trainer.recorded is None:
        return result
    final = chunk.observe()._replace(loss=result.loss, accuracy=result.accuracy)
    return result._replace(history=_history(trainer.recorded, records, final, result.epochs))


def _history(recorded: Epochs, records: list[Record], final: Record, epochs: Any) -> History:
    n_missing = len(recorded) - sum(len(jax.tree.leaves(each)[0]) for each in records)  # where all have stopped

    def joined(last: np.ndarray, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate([*parts, np.zeros((n_missing, *last.shape), last.dtype)]).swapaxes(0, 1)

    return build_history(recorded, jax.tree.map(joined, final, *records), final, epochs)
