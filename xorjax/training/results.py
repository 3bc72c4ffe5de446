"""What training gives: the judgement of one network, or of many with a member axis in front."""

import enum
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from xorjax.networks.tasks import AnyArray


class Outcome(enum.IntEnum):
    """What a network ends as: UNSOLVED, SOLVED, DIVERGED or UNFINISHED.

    >>> int(Outcome.SOLVED), Outcome(2).name
    (1, 'DIVERGED')
    """

    UNSOLVED = 0
    """Finite, and the solved rule does not hold."""
    SOLVED = 1
    """The solved rule holds at the end."""
    DIVERGED = 2
    """The loss or a parameter is infinite or not a number."""
    UNFINISHED = 3
    """The time for the ensemble was over before the network's last epoch."""


class History(NamedTuple):
    """The records of a run, each from before the update of its epoch; None is not recorded.

    All but `epoch` have the axis of the records, and in an ensemble one of the members in front of it.

    Attributes:
      epoch: the epochs recorded, (records,).
      loss: on the batch.
      accuracy: share of rows that are classified right.
      predictions: outputs for the rows of the batch, (…, n, n_out).
      params: the model's parameters.
      gradient_norm: Euclidean norm of the gradient of the loss on the whole batch.
      observed: what the trainer's `observe` gave.
    """

    epoch: Int[AnyArray, " records"]
    loss: Float[AnyArray, "*members records"]
    accuracy: Float[AnyArray, "*members records"]
    predictions: Float[AnyArray, "*members records n n_out"] | None = None
    params: Any = None
    gradient_norm: Float[AnyArray, "*members records"] | None = None
    observed: Any = None


class Result(NamedTuple):
    """What training gives; for an ensemble every array but `history.epoch` has a leading member axis.

    Attributes:
      params: the final parameters.
      loss: of these on the whole batch, a scalar.
      accuracy: share of rows that they classify right, a scalar.
      predictions: outputs for the rows of the batch, (n, n_out).
      outcome: an `Outcome`, as an integer.
      solved_epoch: epochs trained when the solved rule first held, -1 if it never did.
      epochs: epochs trained.
      history: what was recorded, or None.
      validation_loss: of the rows held out, a scalar; None, as the following two, if there are none.
      validation_accuracy: share of them that is classified right, a scalar.
      validation_predictions: outputs for them, (n_validation, n_out).
    """

    params: Any
    loss: Float[AnyArray, "*members"]
    accuracy: Float[AnyArray, "*members"]
    predictions: Float[AnyArray, "*members n n_out"]
    outcome: Int[AnyArray, "*members"]
    solved_epoch: Int[AnyArray, "*members"]
    epochs: Int[AnyArray, "*members"]
    history: History | None = None
    validation_loss: Float[AnyArray, "*members"] | None = None
    validation_accuracy: Float[AnyArray, "*members"] | None = None
    validation_predictions: Float[AnyArray, "*members n_validation n_out"] | None = None

    def _repr_html_(self) -> str | None:
        """A table for notebooks: how many ended as what, and where their losses lie; None without values."""
        try:
            outcomes, losses = np.ravel(self.outcome), np.ravel(self.loss).astype(np.float64)
        except TypeError:  # shapes alone, or traced
            return None
        total, finite = outcomes.size, np.sort(losses[np.isfinite(losses)])
        rows = [("networks", f"{total:,}")]
        for outcome in Outcome:
            if number := int((outcomes == outcome).sum()):
                rows.append((outcome.name.lower(), f"{number:,} ({100 * number / total:.1f} %)"))
        if finite.size:
            quantiles = finite[[0, (finite.size - 1) // 2, -1]]
            rows.append(("loss", "least {:.3g}, median {:.3g}, greatest {:.3g}".format(*quantiles)))
        rows.append(("all rows right", f"{100 * np.mean(np.ravel(self.accuracy) == 1):.1f} %"))
        if self.history is not None:
            rows.append(("records", f"of {len(self.history.epoch):,} epochs"))
        return "<table>" + "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows) + "</table>"
