"""One pass over the data: gradients of the loss and steps of the optimizer, by full batch or mini-batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from xorjax.networks.losses import Loss, accuracy, weighted
from xorjax.networks.models import Model
from xorjax.networks.tasks import AnyArray


class EpochMetrics(NamedTuple):
    """What an epoch reports and does not carry: as Keras does, from before its update.

    Attributes:
      loss: of the batch, a scalar, or with a leading axis of members or records.
      accuracy: share of rows that are classified right, likewise.
    """

    loss: Float[AnyArray, "*members"]
    accuracy: Float[AnyArray, "*members"]


class TrainState(NamedTuple):
    """What learning changes."""

    params: Any
    optimizer_state: Any


class Rows(NamedTuple):
    """Rows of data that an update is made from."""

    x: AnyArray
    y: AnyArray
    weights: Float[AnyArray, " n"] | None


Update = Callable[[TrainState, Rows], tuple[TrainState, Array, Array]]


def gradient_step(model: Model, optimizer: optax.GradientTransformationExtraArgs, loss: Loss) -> Update:
    """`update(learned, rows) -> (learned, loss, y_hat)`, the last two from before the update."""

    def update(learned: TrainState, rows: Rows) -> tuple[TrainState, Array, Array]:
        def objective(params: Any) -> tuple[Array, Array]:
            y_hat = model.apply(params, rows.x)
            return weighted(loss, y_hat, rows.y, rows.weights), y_hat

        (value, y_hat), grads = jax.value_and_grad(objective, has_aux=True)(learned.params)
        updates, optimizer_state = optimizer.update(
            grads,
            learned.optimizer_state,
            learned.params,
            value=value,  # this and what follows for the optimizers that ask for it; the others never see it
            grad=grads,
            value_fn=lambda params: objective(params)[0],
        )
        new = TrainState(optax.apply_updates(learned.params, updates), optimizer_state)
        return with_dtypes_of(new, learned), value, y_hat

    return update


def by_mini_batches(
    update: Update, learned: TrainState, rows: Rows, batch_size: int, order: Int[Array, " n"], threshold: float
) -> tuple[TrainState, EpochMetrics]:
    """Updates by batches of the rows in this order, the last with what is left; metrics are means over rows."""
    n = len(order)
    rest = n % batch_size
    rows = jax.tree.map(lambda each: jnp.asarray(each)[order], rows)

    def update_one(learned: TrainState, part: Rows) -> tuple[TrainState, EpochMetrics]:
        learned, value, y_hat = update(learned, part)
        return learned, EpochMetrics(value, accuracy(y_hat, part.y, threshold))

    def full(each: Array) -> Array:
        return each[: n - rest].reshape(n // batch_size, batch_size, *each.shape[1:])

    learned, infos = lax.scan(update_one, learned, jax.tree.map(full, rows))
    info = jax.tree.map(lambda i: jnp.sum(i) * (batch_size / n), infos)
    if rest:
        learned, last = update_one(learned, jax.tree.map(lambda each: each[n - rest :], rows))
        info = jax.tree.map(lambda i, j: i + j * (rest / n), info, last)
    return learned, info


def with_dtypes_of(new: Any, old: Any) -> Any:
    """`new` in the dtypes of `old`: an optimizer may promote (float32 rate, bfloat16 params), a loop may not."""
    return jax.tree.map(lambda n, o: n if n.dtype == o.dtype else n.astype(o.dtype), new, old)
