"""The life of one network in three steps: start it, train it for one epoch, judge it.

Each is a function of the trainer's `Settings`, which are structure, and of traced values: the key or the state,
and the hyper-parameters.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree

from xorjax.networks.losses import SolvedRule, accuracy
from xorjax.networks.models import Params
from xorjax.networks.tasks import Batch
from xorjax.training.problem import HParams, Problem, check_fit, check_observed
from xorjax.training.records import Record
from xorjax.training.results import Outcome, Result
from xorjax.training.stopping import NEVER, StopRule, check_rule
from xorjax.training.updates import EpochMetrics, Rows, TrainState, build_update, update_by_mini_batches

Tree = TypeVar("Tree")


class Settings(NamedTuple):
    """Structure: what is the same for all networks of a trainer. Closed over, never traced.

    Attributes:
      build_problem: `build_problem(hparams) -> Problem`: model, data, optimizer and loss of one network.
      check_each: whether model or data depend on hparams, so that their fit is checked for each trace.
      is_solved: `is_solved(y_hat, y, loss) -> bool scalar`.
      stop: the rule by which a network stops.
      threshold: a single output above it stands for 1.
      shuffle: whether mini-batches are drawn from a new permutation in each epoch.
      resample: whether each network trains on its own bootstrap sample.
      validation: rows held out, or None.
      extras: what is recorded besides loss and accuracy, by name.
      observe: what is recorded too: `observe(params, hparams) -> pytree of arrays`, or None.
    """

    build_problem: Callable[[HParams], Problem]
    check_each: bool
    is_solved: SolvedRule
    stop: StopRule
    threshold: float
    shuffle: bool
    resample: bool
    validation: Batch | None
    extras: tuple[str, ...]
    observe: Callable[[Params, HParams], PyTree] | None


class State(NamedTuple):
    """What is carried from epoch to epoch.

    Attributes:
      params: the model's parameters.
      optimizer_state: the state of the optax optimizer.
      epoch: epochs trained so far; in a stopped network it stands still, as do the params.
      solved_epoch: epochs trained when the solved rule first held; -1 until it does.
      key_shuffle: key for the order of the rows in each epoch; None where nothing is shuffled.
      stopping: what the stop rule carries.
      weights: of the rows of the batch, (n,): how often each was drawn. None where all count alike.
    """

    params: Params
    optimizer_state: PyTree
    epoch: Int[Array, ""]
    solved_epoch: Int[Array, ""]
    key_shuffle: PRNGKeyArray | None
    stopping: PyTree
    weights: Float[Array, " n"] | None


def init_state(settings: Settings, key: PRNGKeyArray, hparams: HParams) -> State:
    """Return the state of a network before its first epoch.

    Raises:
      TypeError, ValueError: if the key is not a typed one, or what depends on hparams does not fit together.
    """
    if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
        raise TypeError(f"{key=} must be a typed key, such as jax.random.key(0).")
    problem = settings.build_problem(hparams)
    if settings.check_each:
        check_fit(problem, settings.is_solved, settings.validation)
    params = problem.model.init(key)
    optimizer_state = jax.tree.map(jnp.asarray, problem.optimizer.init(params))
    loss = jax.eval_shape(lambda: problem.evaluate(params, None)[1])
    check_rule(settings.stop, loss.dtype)
    if settings.observe is not None:
        check_observed(settings.observe, params, problem.hparams)
    return State(
        params,
        optimizer_state,
        epoch=jnp.int32(0),
        solved_epoch=jnp.int32(-1),
        key_shuffle=_derive_key(key, "shuffle") if problem.has_mini_batches and settings.shuffle else None,
        stopping=settings.stop.init(loss.dtype),
        weights=_draw_weights(_derive_key(key, "resample"), len(problem.batch.x)) if settings.resample else None,
    )


def train_epoch(settings: Settings, state: State, hparams: HParams) -> tuple[State, EpochMetrics]:
    """Train for one epoch; a network whose stop rule holds keeps its params and its epoch.

    The optimizer's state of a stopped network still changes: it is not used again, and restoring it would double
    the selects. Where it may be seen or differentiated, `freeze_optimizer` restores it.
    """
    problem = settings.build_problem(hparams)
    rows, n = Rows(*problem.batch, state.weights), len(problem.batch.x)
    update = build_update(problem.model, problem.optimizer, problem.loss)
    before = TrainState(state.params, state.optimizer_state)
    if problem.has_mini_batches:
        order = jnp.arange(n)
        if state.key_shuffle is not None:
            order = jax.random.permutation(jax.random.fold_in(state.key_shuffle, state.epoch), n)
        after, metrics = update_by_mini_batches(
            update, before, rows, problem.batch_size, order, settings.threshold
        )
        y_hat, loss = problem.evaluate(state.params, state.weights)
    else:
        after, loss, y_hat = update(before, rows)
        metrics = EpochMetrics(loss, accuracy(y_hat, rows.y, settings.threshold))

    solved_epoch = _first_solved_epoch(state, settings.is_solved(y_hat, rows.y, loss))
    stopping, is_stopped = settings.stop.update(state.stopping, solved_epoch >= 0, loss, state.epoch)
    new = state._replace(
        params=after.params,
        optimizer_state=after.optimizer_state,
        epoch=state.epoch + 1,
        solved_epoch=solved_epoch,
        stopping=stopping,
    )
    if settings.stop is not NEVER:
        new = new._replace(
            params=_select(is_stopped, state.params, new.params),
            epoch=_select(is_stopped, state.epoch, new.epoch),
            stopping=_select(is_stopped, state.stopping, new.stopping),
        )
    return new, metrics


def freeze_optimizer(settings: Settings, old: State, new: State) -> State:
    """Return `new` with the optimizer's state of `old` where the network has stopped.

    Without this, updates that are never applied may grow to infinity, and derivatives become nan.
    """
    if settings.stop is NEVER:
        return new
    has_stopped = new.epoch == old.epoch
    return new._replace(optimizer_state=_select(has_stopped, old.optimizer_state, new.optimizer_state))


def observe_state(settings: Settings, state: State, hparams: HParams) -> Record:
    """Return what is recorded of this state besides loss and accuracy."""
    problem, params, extras = settings.build_problem(hparams), state.params, settings.extras
    observed = None if settings.observe is None else settings.observe(params, problem.hparams)
    return Record(
        None,
        None,
        predictions=problem.model.apply(params, problem.batch.x) if "predictions" in extras else None,
        params=params if "params" in extras else None,
        gradient_norm=problem.gradient_norm(params, state.weights) if "gradient_norm" in extras else None,
        observed=jax.tree.map(jnp.asarray, observed),
    )


def judge_state(settings: Settings, state: State, hparams: HParams) -> Result:
    """Judge a network after its last epoch: loss, accuracy, predictions and outcome; no history."""
    problem = settings.build_problem(hparams)
    batch, validation = problem.batch, settings.validation
    y_hat, loss = problem.evaluate(state.params, state.weights)
    is_solved = settings.is_solved(y_hat, batch.y, loss)
    solved_epoch = _first_solved_epoch(state, is_solved)
    # A network that stopped because it was solved is solved, whatever its last bit says now.
    is_solved = is_solved | (solved_epoch == state.epoch)
    result = Result(
        params=state.params,
        loss=loss,
        accuracy=accuracy(y_hat, batch.y, settings.threshold),
        predictions=y_hat,
        outcome=jnp.where(
            _is_finite((loss, state.params)),
            jnp.where(is_solved, Outcome.SOLVED, Outcome.UNSOLVED),
            Outcome.DIVERGED,
        ).astype(jnp.int32),
        solved_epoch=solved_epoch,
        epochs=state.epoch,
    )
    if validation is None:
        return result
    y_hat, loss = problem._replace(batch=validation).evaluate(state.params, None)
    return result._replace(
        validation_loss=loss,
        validation_accuracy=accuracy(y_hat, validation.y, settings.threshold),
        validation_predictions=y_hat,
    )


def _derive_key(key: PRNGKeyArray, purpose: str) -> PRNGKeyArray:
    """A key for one purpose; its number keeps it apart from a model's `split(key)[i]`, a `fold_in(key, i)`."""
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()))


def _draw_weights(key: PRNGKeyArray, n: int) -> Float[Array, " n"]:
    """How often each of n rows comes in n draws with replacement."""
    drawn = jax.random.randint(key, (n,), 0, n, dtype=jnp.int32)
    return jnp.zeros(n, jnp.float32).at[drawn].add(1.0)


def _select(condition: Bool[ArrayLike, ""], if_true: Tree, if_false: Tree) -> Tree:
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), if_true, if_false)


def _first_solved_epoch(state: State, is_solved: Bool[Array, ""]) -> Int[Array, ""]:
    return jnp.where((state.solved_epoch < 0) & is_solved, state.epoch, state.solved_epoch)


def _is_finite(tree: PyTree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
