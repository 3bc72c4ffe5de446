"""What training gives: the judgement of one network, or of many with a member axis in front."""

import enum
from typing import Any, NamedTuple

from jaxtyping import Float, Int

from xorjax.tasks import AnyArray


class Outcome(enum.IntEnum):
    """What a network ends as."""

    UNSOLVED = 0
    """Finite, and the solved rule does not hold."""
    SOLVED = 1
    """The solved rule holds at the end."""
    DIVERGED = 2
    """The loss or a parameter is infinite or not a number."""
    UNFINISHED = 3
    """The time for the ensemble was over before the network's last epoch."""


class History(NamedTuple):
    """The records of a run, each from before the update of its epoch; None is not recorded."""

    epoch: Int[AnyArray, " records"]
    loss: Float[AnyArray, "*members records"]
    accuracy: Float[AnyArray, "*members records"]
    predictions: Float[AnyArray, "*members records n n_out"] | None = None
    params: Any = None
    gradient_norm: Float[AnyArray, "*members records"] | None = None
    observed: Any = None  # what the trainer's `observe` gave


class Result(NamedTuple):
    """What training gives; for an ensemble every array but `history.epoch` has a leading member axis."""

    params: Any
    loss: Float[AnyArray, "*members"]  # of the final params on the whole batch
    accuracy: Float[AnyArray, "*members"]
    predictions: Float[AnyArray, "*members n n_out"]
    outcome: Int[AnyArray, "*members"]  # an `Outcome`
    solved_epoch: Int[AnyArray, "*members"]  # epochs trained when the rule first held, -1 if it never did
    epochs: Int[AnyArray, "*members"]  # epochs trained
    history: History | None = None
    validation_loss: Float[AnyArray, "*members"] | None = None  # these three of the rows held out, if any are
    validation_accuracy: Float[AnyArray, "*members"] | None = None
    validation_predictions: Float[AnyArray, "*members n_validation n_out"] | None = None
