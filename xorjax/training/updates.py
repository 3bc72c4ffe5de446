"""The updates of an epoch: gradients of the loss and steps of the optimizer, by full batch or by mini-batches."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from xorjax.networks.losses import Loss, accuracy, weight_loss
from xorjax.networks.models import Model, Params
from xorjax.networks.tasks import AnyArray

Tree = TypeVar("Tree")


class EpochMetrics(NamedTuple):
    """The metrics of one epoch, reported and not carried; as in Keras, from before each update.

    Attributes:
      loss: of the batch, a scalar, or with a leading axis of members or records.
      accuracy: share of rows that are classified right, likewise.
    """

    loss: Float[AnyArray, "*members"]
    accuracy: Float[AnyArray, "*members"]


class TrainState(NamedTuple):
    """What an update changes: the parameters and the state of the optimizer."""

    params: Params
    optimizer_state: optax.OptState


class Rows(NamedTuple):
    """Rows of the data, with their weights (None: all count alike)."""

    x: AnyArray
    y: AnyArray
    weights: Float[AnyArray, " n"] | None


Update = Callable[[TrainState, Rows], tuple[TrainState, Array, Array]]


def build_update(model: Model, optimizer: optax.GradientTransformationExtraArgs, loss: Loss) -> Update:
    """Return `update(state, rows) -> (state, loss, y_hat)`; loss and predictions are from before the update."""

    def update(state: TrainState, rows: Rows) -> tuple[TrainState, Array, Array]:
        def objective(params: Params) -> tuple[Array, Array]:
            y_hat = model.apply(params, rows.x)
            return weight_loss(loss, y_hat, rows.y, rows.weights), y_hat

        (value, y_hat), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(
            grads,
            state.optimizer_state,
            state.params,
            value=value,  # these three are for optimizers such as lbfgs; the others never see them
            grad=grads,
            value_fn=lambda params: objective(params)[0],
        )
        new = TrainState(optax.apply_updates(state.params, updates), optimizer_state)
        return _cast_like(new, state), value, y_hat

    return update


def update_by_mini_batches(
    update: Update, state: TrainState, rows: Rows, batch_size: int, order: Int[Array, " n"], threshold: float
) -> tuple[TrainState, EpochMetrics]:
    """Make one update for each mini-batch of the rows in this order; the metrics are means over all rows.

    The last mini-batch holds the rows that are left.
    """
    n = len(order)
    rest = n % batch_size
    rows = jax.tree.map(lambda each: jnp.asarray(each)[order], rows)

    def update_once(state: TrainState, part: Rows) -> tuple[TrainState, EpochMetrics]:
        state, value, y_hat = update(state, part)
        return state, EpochMetrics(value, accuracy(y_hat, part.y, threshold))

    def split_full(each: Array) -> Array:
        return each[: n - rest].reshape(n // batch_size, batch_size, *each.shape[1:])

    state, metrics = lax.scan(update_once, state, jax.tree.map(split_full, rows))
    mean = jax.tree.map(lambda each: jnp.sum(each) * (batch_size / n), metrics)
    if rest:
        state, last = update_once(state, jax.tree.map(lambda each: each[n - rest :], rows))
        mean = jax.tree.map(lambda full, part: full + part * (rest / n), mean, last)
    return state, mean


def _cast_like(new: Tree, old: Tree) -> Tree:
    """`new` in the dtypes of `old`: an optimizer may promote (float32 rate, bfloat16 params), a loop may not."""
    return jax.tree.map(lambda n, o: n if n.dtype == o.dtype else n.astype(o.dtype), new, old)
