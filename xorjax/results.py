"""What training gives: the judgement of one network, or of many with a member axis in front."""

import enum
from typing import Any, NamedTuple

import numpy as np
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
