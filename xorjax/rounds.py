"""The host's loop around compiled training: rounds of bounded time, so that work can report and be interrupted."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from xorjax.training import Trainer
from xorjax.updates import Info

FIRST_ROUND = 16  # epochs
ROUND_SECONDS = 0.2
# Where networks may stop, rounds of a quarter of the epochs before them: who has stopped is trained in vain to the
# end of a round, and what it costs to look is some hundred epochs of a few blocks.
STOPPING_GROWTH, STOPPING_ROUND = 1 / 4, 64


class Round(NamedTuple):
    """What is known after a round."""

    epoch: int  # epochs trained so far
    epochs: int  # of them in this round
    records: Info | None  # of this round, on the host, a leading axis of records; None if it made none


def rounds(trainer: Trainer, train: Callable[[np.int32], Info | None]) -> Iterator[Round]:
    """Trains all epochs in rounds of about `ROUND_SECONDS`; no bit depends on how they are cut.

    Args:
      trainer: what is trained, for its epochs and records.
      train: `train(epochs)` trains on for so many, waits for it, and gives the Info of `trainer.advance`.
    """
    epoch, budget = 0, FIRST_ROUND
    while epoch < trainer.epochs:
        epochs = _round_epochs(trainer, epoch, budget)
        begun = time.perf_counter()
        infos = train(np.int32(epochs))
        seconds = max(time.perf_counter() - begun, 1e-9)
        budget = max(1, budget // 4, min(4 * budget, int(epochs * ROUND_SECONDS / seconds)))
        records = None
        if infos is not None and trainer.record_every is not None and epoch % trainer.record_every == 0:
            given = -(-epochs // trainer.record_every)
            records = Info(*(np.asarray(info)[:given] for info in infos))
        epoch += epochs
        yield Round(epoch, epochs, records)


def _round_epochs(trainer: Trainer, epoch: int, budget: int) -> int:
    """Epochs of the next round: about `budget`, in whole record intervals or within one."""
    left = trainer.epochs - epoch
    if trainer.stops:
        budget = min(budget, max(STOPPING_ROUND, int(epoch * STOPPING_GROWTH)))
    every = trainer.record_every
    if every is None:
        return min(budget, left)
    into = epoch % every
    if into or budget < every:
        return min(budget, every - into, left)
    return min(min(budget // every, trainer.record_slots) * every, left)
