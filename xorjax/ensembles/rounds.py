"""The host's loop around compiled training: rounds of bounded time, so that work can report and be interrupted."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from xorjax.training.records import Record
from xorjax.training.trainer import Trainer
from xorjax.training.updates import EpochMetrics

FIRST_ROUND = 16  # epochs
ROUND_SECONDS = 0.2
# Where networks may stop, rounds of a quarter of the epochs before them: who has stopped is trained in vain to the
# end of a round, and what it costs to look is some hundred epochs of a few blocks.
STOPPING_GROWTH, STOPPING_ROUND = 1 / 4, 64


class Round(NamedTuple):
    """What is known after a round."""

    epoch: int  # epochs trained so far
    records: Record | None  # of this round, on the host, a leading axis of records; None if it made none


def zero_epochs(trainer: Trainer) -> np.ndarray:
    """What `trainer.run_epochs` is called with to train for none."""
    return np.zeros(() if trainer.record_slots is None else trainer.record_slots, np.int32)


def iter_rounds(
    trainer: Trainer, train: Callable[[Any], EpochMetrics | None], observe: Callable[[], Record] | None = None
) -> Iterator[Round]:
    """Trains all epochs in rounds of about `ROUND_SECONDS`; no bit depends on how they are cut.

    Args:
      trainer: what is trained, for its epochs and records.
      train: `train(epochs)` trains on, waits for it, and gives the EpochMetrics of `trainer.run_epochs`.
      observe: `observe()` gives the Record of `trainer.observe`, of what is trained as it is now.
    """
    epoch, budget = 0, FIRST_ROUND
    while epoch < trainer.epochs:
        most = max(STOPPING_ROUND, int(epoch * STOPPING_GROWTH)) if trainer.stops else budget
        bounds = _bounds(trainer, epoch, min(epoch + budget, epoch + most, trainer.epochs))
        spans, slots = np.diff(bounds).astype(np.int32), trainer.record_slots
        is_recorded = trainer.recorded is not None and epoch in trainer.recorded
        seen = observe() if is_recorded and observe is not None else Record(None, None)
        begun = time.perf_counter()
        infos = train(spans[0] if slots is None else np.pad(spans, (0, slots - len(spans))))
        seconds = max(time.perf_counter() - begun, 1e-9)
        epochs = bounds[-1] - epoch
        budget = max(1, budget // 4, min(4 * budget, int(epochs * ROUND_SECONDS / seconds)))
        first = int(not is_recorded)  # a round may begin between two records
        records = None
        if infos is not None and first < len(spans):
            loss, accuracy = (np.asarray(each)[first : len(spans)] for each in infos)
            records = jax.tree.map(lambda each: np.asarray(each)[None], seen)._replace(
                loss=loss, accuracy=accuracy
            )
        epoch = bounds[-1]
        yield Round(epoch, records)


def _bounds(trainer: Trainer, epoch: int, end: int) -> list[int]:
    """Where the spans of a round begin, at records but for the first, and where the last of them ends."""
    if trainer.recorded is None or trainer.record_slots is None:
        return [epoch, end]
    first = bisect_right(trainer.recorded, epoch)
    last = min(bisect_left(trainer.recorded, end), first + trainer.record_slots)
    return [epoch, *trainer.recorded[first:last], end][: trainer.record_slots + 1]
