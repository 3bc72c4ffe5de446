"""How a block of members is executed: one module for each way, all with the contract of `Engine`.

An engine is chosen from the program and the platform, and so is its block size, never from the number of
members: a member's bits must not depend on its company.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from xorjax.results import Result
from xorjax.training import HParams, State, Trainer
from xorjax.updates import Info


class Programs(NamedTuple):
    """A trainer's functions for a block of members; the member axis is leading, or last in the Info.

    Attributes:
      init: `init(seeds, hparams) -> State`; seeds uint32 (block,), every leaf of hparams (block,).
      advance: `advance(state, hparams, epochs) -> (State, Info)`; epochs a traced int32, Info (slots, block), or
        None without records.
      finish: `finish(state, hparams) -> Result`.
    """

    init: Callable[[Any, Any], State]
    advance: Callable[[State, Any, Any], tuple[State, Info | None]]
    finish: Callable[[State, Any], Result]


class Engine(NamedTuple):
    """One way to run a block.

    Attributes:
      name: what `train_ensemble(engine=...)` calls it.
      block_size: members in a block unless the user says otherwise, from the trainer and hparams of one member.
      multiple: what any number of members in a block is rounded up to.
      programs: the jitted functions of a trainer; cached, so that a second call compiles nothing.
      compiler_options: for `advance`.
    """

    name: str
    block_size: Callable[[Trainer, HParams], int]
    multiple: Callable[[Trainer, HParams], int]
    programs: Callable[[Trainer], Programs]
    compiler_options: Callable[[], dict[str, str]]
