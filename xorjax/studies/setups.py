"""From what the options say of one network to its trainer."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
import typer

import xorjax as xj
from xorjax.studies.options import chosen, optimizers


class Setup(NamedTuple):
    """What the options describe of one network, ready to run."""

    trainer: xj.Trainer
    model: xj.Model
    batch: xj.Batch
    network: str  # the sizes of its layers


def set_up(
    batch: xj.Batch,
    hparams: Mapping[str, float],
    optimizer: str,
    hidden_units: int,
    epochs: int,
    network: Mapping[str, Any] | None = None,
    **how: Any,
) -> Setup:
    """A network and its trainer, for hparams such as these.

    Args:
      batch, hparams, optimizer, hidden_units, epochs: what the options are.
      network: passed on to `xj.mlp`, and `how` to `xj.trainer`.
    """
    make = chosen("--optimizer", optimizer, optimizers())
    if "momentum" in hparams and "momentum" not in inspect.signature(make).parameters:
        raise typer.BadParameter(
            f"--momentum={hparams['momentum']:g}: the optimizer {optimizer} takes none; sgd does."
        )

    def optimizer_of(h: dict[str, Any]) -> optax.GradientTransformation:
        others = {name: value for name, value in h.items() if name != "learning_rate"}
        return make(h["learning_rate"], **others)

    sizes = (batch.x.shape[1], hidden_units, 1)
    model = xj.mlp(sizes, **(network or {}))
    trainer = xj.trainer(model, batch, optimizer_of, epochs=epochs, **how)
    try:
        jax.eval_shape(trainer.run, jax.eval_shape(jax.random.key, 0), hparams)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"--optimizer={optimizer!r} can't be used here: {error}") from None
    return Setup(trainer, model, batch, "-".join(map(str, sizes)))
