"""Loops over epochs: the same body however many there are, so that a program's size does not grow with them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Int

from xorjax.training.records import Epochs, Record
from xorjax.training.state import State
from xorjax.training.updates import EpochMetrics

Count = Int[ArrayLike, ""]
Step = Callable[[State], tuple[State, EpochMetrics]]


def repeat_step(step: Step, state: State, epochs: Count) -> tuple[State, EpochMetrics]:
    """Train for `epochs` epochs, static or traced; return the metrics of the first, zeros if there is none."""

    def body(i: Int[Array, ""], carry: tuple[State, EpochMetrics]) -> tuple[State, EpochMetrics]:
        state, first = carry
        state, metrics = step(state)
        return state, jax.tree.map(lambda new, old: jnp.where(i == 0, new, old), metrics, first)

    _, shapes = jax.eval_shape(step, state)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return lax.fori_loop(0, epochs, body, (state, zeros))


def run_with_records(
    train_for: Callable[[State, Count], tuple[State, Record]], state: State, recorded: Epochs, epochs: int
) -> tuple[State, Record]:
    """Train from record to record; return the final state and the records, with a leading axis.

    Args:
      train_for: `train_for(state, epochs) -> (state, Record)`, the record from before the first of these epochs.
      state: before the first epoch.
      recorded: the epochs to record.
      epochs: all epochs, 1 or more.
    """
    if not isinstance(recorded, range):
        if recorded[0]:
            state, _ = train_for(state, recorded[0])
        lengths = jnp.diff(jnp.array([*recorded, epochs], jnp.int32))
        return lax.scan(train_for, state, lengths)
    # Equal distances give loops of a static length, which reverse differentiation needs.
    count, rest = divmod(epochs, recorded.step)
    state, records = lax.scan(lambda state, _: train_for(state, recorded.step), state, length=count)
    if rest:
        state, last = train_for(state, rest)
        records = jax.tree.map(lambda each, one: jnp.concatenate([each, one[None]]), records, last)
    return state, records
