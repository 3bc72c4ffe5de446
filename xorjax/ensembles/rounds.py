"""The host's loop around compiled training: rounds of bounded time, so that it can report and be interrupted."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from xorjax.training.records import Record
from xorjax.training.trainer import Trainer
from xorjax.training.updates import EpochMetrics

FIRST_ROUND = 16  # epochs
ROUND_SECONDS = 0.2
# If networks may stop, a round lasts at most a quarter of the epochs so far (or 64), because a stopped member is
# still computed until the round ends. The end of a round costs as much as a hundred epochs of a few blocks.
STOPPING_GROWTH, STOPPING_ROUND = 1 / 4, 64


class Round(NamedTuple):
    """The state of training after a round.

    Attributes:
      epoch: epochs trained so far.
      records: the records of this round, on the host, with a leading axis; None if it has none.
    """

    epoch: int
    records: Record | None


def zero_epochs(trainer: Trainer) -> np.ndarray:
    """Return the argument `epochs` of `trainer.run_epochs` that trains for none."""
    return np.zeros(() if trainer.record_slots is None else trainer.record_slots, np.int32)


def iter_rounds(
    trainer: Trainer,
    train: Callable[[np.ndarray], EpochMetrics | None],
    observe: Callable[[], Record] | None = None,
) -> Iterator[Round]:
    """Train all epochs in rounds of about `ROUND_SECONDS`; no bit depends on the rounds.

    Args:
      trainer: gives the epochs, and which of them are recorded.
      train: `train(epochs)` trains on, waits for the end, and returns the EpochMetrics of `trainer.run_epochs`.
      observe: `observe()` returns the Record of `trainer.observe`, of the networks as they are now.
    """
    epoch, budget = 0, FIRST_ROUND
    while epoch < trainer.epochs:
        most = max(STOPPING_ROUND, int(epoch * STOPPING_GROWTH)) if trainer.stops else budget
        bounds = _bounds(trainer, epoch, min(epoch + budget, epoch + most, trainer.epochs))
        lengths, slots = np.diff(bounds).astype(np.int32), trainer.record_slots
        is_recorded = trainer.recorded is not None and epoch in trainer.recorded
        observed = observe() if is_recorded and observe is not None else Record(None, None)
        begin = time.perf_counter()
        metrics = train(lengths[0] if slots is None else np.pad(lengths, (0, slots - len(lengths))))
        seconds = max(time.perf_counter() - begin, 1e-9)
        epochs = bounds[-1] - epoch
        budget = max(1, budget // 4, min(4 * budget, int(epochs * ROUND_SECONDS / seconds)))
        first = int(not is_recorded)  # a round may begin between two records
        records = None
        if metrics is not None and first < len(lengths):
            loss, accuracy = (np.asarray(each)[first : len(lengths)] for each in metrics)
            records = jax.tree.map(lambda each: np.asarray(each)[None], observed)._replace(
                loss=loss, accuracy=accuracy
            )
        epoch = bounds[-1]
        yield Round(epoch, records)


def _bounds(trainer: Trainer, epoch: int, end: int) -> list[int]:
    """Return the epochs where a round begins, where it records, and where it ends."""
    if trainer.recorded is None or trainer.record_slots is None:
        return [epoch, end]
    first = bisect_right(trainer.recorded, epoch)
    last = min(bisect_left(trainer.recorded, end), first + trainer.record_slots)
    return [epoch, *trainer.recorded[first:last], end][: trainer.record_slots + 1]
