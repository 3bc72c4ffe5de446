"""The result of training: of one network, or of many with a leading member axis."""

import enum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, PyTree

from xorjax.networks.models import Params
from xorjax.networks.tasks import AnyArray


class Outcome(enum.IntEnum):
    """How a network ends: UNSOLVED, SOLVED, DIVERGED or UNFINISHED.

    A network is solved when all rows are classified right and its loss is below 0.01, unless the trainer's
    `solved` says otherwise.

    >>> int(Outcome.SOLVED), Outcome(2).name
    (1, 'DIVERGED')
    """

    UNSOLVED = 0
    """Loss and parameters are finite, and the solved rule does not hold at the end."""
    SOLVED = 1
    """The solved rule holds at the end."""
    DIVERGED = 2
    """The loss or a parameter is infinite or not a number."""
    UNFINISHED = 3
    """The ensemble's time was over before the network's last epoch."""


class History(NamedTuple):
    """The records of a run, each from before the update of its epoch; None stands for what is not recorded.

    All but `epoch` have an axis of records, and in an ensemble a leading axis of members.

    Attributes:
      epoch: the epochs recorded, (records,).
      loss: on the batch.
      accuracy: share of rows that are classified right.
      predictions: outputs for the rows of the batch, (…, n, n_out).
      params: the model's parameters.
      gradient_norm: Euclidean norm of the gradient of the loss on the whole batch.
      observed: what the trainer's `observe` returned.
    """

    epoch: Int[AnyArray, " records"]
    loss: Float[AnyArray, "*members records"]
    accuracy: Float[AnyArray, "*members records"]
    predictions: Float[AnyArray, "*members records n n_out"] | None = None
    params: Params | None = None
    gradient_norm: Float[AnyArray, "*members records"] | None = None
    observed: PyTree = None


class Result(NamedTuple):
    """The result of training; for an ensemble every array but `history.epoch` has a leading member axis.

    Attributes:
      params: the final parameters.
      loss: their loss on the whole batch, a scalar.
      accuracy: share of rows that they classify right, a scalar.
      predictions: outputs for the rows of the batch, (n, n_out).
      outcome: an `Outcome`, as an integer.
      solved_epoch: epochs trained when the solved rule first held, -1 if it never did.
      epochs: epochs trained.
      history: the records, or None.
      validation_loss: loss on the rows held out, a scalar; this and the next two are None without such rows.
      validation_accuracy: share of the rows held out that are classified right, a scalar.
      validation_predictions: outputs for the rows held out, (n_validation, n_out).
    """

    params: Params
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
        """Return a table for notebooks of outcomes, losses and accuracy; None if there are no values yet."""
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
