"""The contract of an engine: the functions that start, train and judge a chunk of members.

An engine is chosen from the program and the platform, and so is its block size, never from the number of
members: the bits of a member must not depend on the other members.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import jax
from jax.sharding import Sharding
from jax.stages import Wrapped

from xorjax.training.problem import HParams
from xorjax.training.trainer import Trainer

CompilerOptions = dict[str, str | bool]


def drop_member_axis(hparams: HParams) -> HParams:
    """Return the shapes of the hparams of one member, from the hparams of many."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), hparams)


class ChunkFunctions(NamedTuple):
    """The jitted functions of a trainer for a chunk of members; the member axis is first, in the metrics last.

    The layout of a State is the engine's own.

    Attributes:
      init: `init(seeds, hparams) -> State`; seeds uint32 (chunk,), every leaf of hparams (chunk, …).
      run_epochs: `run_epochs(state, hparams, epochs, members) -> (State, EpochMetrics | None)`; epochs as in
        `Trainer.run_epochs`; members int32 (shards,), traced: the lanes of a shard after its first `members` need
        not be trained; metrics (slots, chunk).
      observe: `observe(state, hparams) -> Record`, or None where nothing but loss and accuracy is recorded.
      finish: `finish(state, hparams) -> Result`.
      permute: `permute(state, hparams, order) -> (state, hparams)`, the members of a chunk in another order; None
        if the engine always trains whole chunks.
    """

    init: Wrapped
    run_epochs: Wrapped
    observe: Wrapped | None
    finish: Wrapped
    permute: Wrapped | None


class Engine(NamedTuple):
    """One way to run a chunk.

    Attributes:
      name: the name of `train_ensemble(engine=...)`.
      choose_block_size: `choose_block_size(trainer, hparams)`, with the hparams of one member: the number of
        members that run together; every chunk is rounded up to whole blocks. None where a chunk runs as a whole.
      chunk_size: members that one call starts, trains and judges, unless the user says otherwise.
      functions: the functions of a trainer; cached, so that a second call compiles nothing.
      init_options, run_options: the options of XLA for `init` and for `run_epochs`, when called.
      n_shards: number of devices that a chunk is spread over, each with the same number of lanes.
      sharding: of arrays with a leading axis of members; None for the default device.
      context: the context in which the functions are traced.
    """

    name: str
    choose_block_size: Callable[[Trainer, HParams], int | None]
    chunk_size: int
    functions: Callable[[Trainer], ChunkFunctions]
    init_options: Callable[[], CompilerOptions] = dict
    run_options: Callable[[], CompilerOptions] = dict
    n_shards: int = 1
    sharding: Sharding | None = None
    context: Callable[[], AbstractContextManager[object]] = nullcontext
