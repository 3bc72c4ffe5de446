"""How a chunk of members is executed: one module for each way, all with the contract of `Engine`.

An engine is chosen from the program and the platform, and so is its block size, never from the number of
members: a member's bits must not depend on its company.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax

from xorjax.training.problem import HParams
from xorjax.training.records import Record
from xorjax.training.results import Result
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics


def of_one(hparams: HParams) -> HParams:
    """Shapes of the hparams of one member, from those of many."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), hparams)


class Programs(NamedTuple):
    """A trainer's functions for a chunk of members; the member axis is leading, or last in the EpochMetrics.

    How a State is arranged is the engine's own affair.

    Attributes:
      init: `init(seeds, hparams) -> State`; seeds uint32 (chunk,), every leaf of hparams (chunk,).
      advance: `advance(state, hparams, epochs, members) -> (State, EpochMetrics | None)`; epochs (as the
        trainer's) and members (shards,) traced int32, those of a shard after its first `members` need not be
        trained; EpochMetrics (slots, chunk).
      observe: `observe(state, hparams) -> Record`, or None where nothing but loss and accuracy is recorded.
      finish: `finish(state, hparams) -> Result`.
      arrange: `arrange(state, hparams, order) -> (state, hparams)`, the members of a chunk in another order; None
        where training fewer than all saves nothing.
    """

    init: Callable[[Any, Any], State]
    advance: Callable[[State, Any, Any, Any], tuple[State, EpochMetrics | None]]
    observe: Callable[[State, Any], Record] | None
    finish: Callable[[State, Any], Result]
    arrange: Callable[[State, Any, Any], tuple[State, Any]] | None


class Engine(NamedTuple):
    """One way to run a chunk.

    Attributes:
      name: what `train_ensemble(engine=...)` calls it.
      block_size: members that run together, from the trainer and the hparams of one member; what the size of any
        chunk is rounded up to. None where a chunk runs as a whole.
      chunk_size: members that are started, trained and judged by one call each, unless the user says otherwise.
      programs: the jitted functions of a trainer; cached, so that a second call compiles nothing.
      compiler_options: for `advance`.
      n_shards: devices that a chunk is spread over, each with as many of its members' places.
      placed: arrays with a leading axis of members where the programs want them.
      context: in which the programs are traced.
    """

    name: str
    block_size: Callable[[Trainer, HParams], int | None]
    chunk_size: int
    programs: Callable[[Trainer], Programs]
    compiler_options: Callable[[], dict[str, str]]
    n_shards: int = 1
    placed: Callable[[Any], Any] = lambda arrays: arrays
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
