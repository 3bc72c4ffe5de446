"""Training one network on one dataset, as pure functions. The heart: all above it is a transformation of it.

`trainer` closes over what is structure (model, data, loss, number of epochs) and leaves as traced arguments
what differs from member to member of an ensemble: the key, and the hyper-parameters.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from xorjax._checks import check_integer, check_real
from xorjax.networks.losses import Loss, SolvedRule, accuracy, mse, sigmoid_cross_entropy, solved_by_loss
from xorjax.networks.tasks import Batch, are_classes, check_batch
from xorjax.training.problem import (
    BatchLike,
    HParams,
    ModelLike,
    OptimizerLike,
    check_fit,
    check_mean_over_rows,
    check_observed,
    problem_from,
)
from xorjax.training.records import Epochs, Record, checked_extras, history_of, recorded_epochs
from xorjax.training.results import Outcome, Result
from xorjax.training.stopping import NEVER, StopRule, check_rule, stop_rule
from xorjax.training.updates import EpochMetrics, Rows, TrainState, by_mini_batches, gradient_step

MAX_EPOCHS = 2**30
RECORD_SLOTS = 64


class State(NamedTuple):
    """What is carried from epoch to epoch.

    Attributes:
      params: the model's parameters.
      optimizer_state: what optax carries.
      epoch: epochs trained so far; stands still, as the params, in a network that stopped.
      solved_epoch: epochs trained when the solved rule first held; -1 until it does.
      key_shuffle: from which the order of the rows follows; None where nothing is shuffled.
      stopping: what the rule to stop by carries.
      weights: of the rows of the batch, (n,): how often each was drawn. None where all count alike.
    """

    params: Any
    optimizer_state: Any
    epoch: Int[Array, ""]
    solved_epoch: Int[Array, ""]
    key_shuffle: PRNGKeyArray | None
    stopping: Any
    weights: Float[Array, " n"] | None


class Trainer(NamedTuple):
    """Pure functions that train one network; transform them with jit, vmap, grad.

    Attributes:
      init: `init(key, hparams=None) -> State`, the network before its first epoch.
      step: `step(state, hparams=None) -> (State, EpochMetrics)`, one epoch.
      run: `run(key, hparams=None) -> Result`, all epochs.
      finish: `finish(state, hparams=None) -> Result`, without history: judges the final network.
      epochs: number of epochs of `run`.
      recorded: the epochs that are recorded, or None.
      stops: whether a network may stop before its last epoch; its `state.epoch` then stands still.
      run_epochs: for engines. `run_epochs(state, hparams, epochs) -> (State, EpochMetrics | None)` trains for
        `epochs`, which may be traced. With records, `epochs` has the shape (record_slots,), and so have the
        metrics: entry i is of the first of the epochs[i] epochs, or 0 where there are none. (The optimizer's
        state of a stopped network still changes here: nothing reads it, and freezing it takes time.)
      run_until_record: for engines. One entry of `run_epochs`: the same for a scalar `epochs`.
      observe: for engines. `observe(state, hparams) -> Record` of what is recorded besides loss and accuracy, or
        None where nothing is.
      record_slots: for engines. How many records one call of `run_epochs` makes, or None.
    """

    init: Callable[..., State]
    step: Callable[..., tuple[State, EpochMetrics]]
    run: Callable[..., Result]
    finish: Callable[..., Result]
    epochs: int
    recorded: Epochs | None
    stops: bool
    run_epochs: Callable[[State, HParams, Any], tuple[State, EpochMetrics | None]]
    run_until_record: Callable[[State, HParams, Any], tuple[State, EpochMetrics | None]]
    observe: Callable[[State, HParams], Record] | None
    record_slots: int | None


def trainer(
    model: ModelLike,
    batch: BatchLike,
    optimizer: OptimizerLike,
    *,
    epochs: int,
    loss: Loss = mse,
    batch_size: int | None = None,
    shuffle: bool = True,
    resample: bool = False,
    validation: Batch | None = None,
    record_every: int | None = None,
    record_at: Sequence[int] | np.ndarray | None = None,
    record: Sequence[Literal["predictions", "params", "gradient_norm"]] = (),
    observe: Callable[[Any, HParams], Any] | None = None,
    threshold: float | None = None,
    solved: SolvedRule | None = None,
    stop: Literal["never", "solved"] | StopRule | Sequence[str | StopRule] = "never",
) -> Trainer:
    """The pure functions that train `model` on `batch`.

    Args:
      model: a `Model`, or a function from hparams to one (to make an initialisation scale a hyper-parameter).
        The member of seed s starts from `model.init(jax.random.key(s))`.
      batch: inputs (n, n_in) and targets (n, n_out), finite real numbers; or a function from hparams to them, for
        data that differ by member: `lambda h: Batch(x, h["targets"])`. Such targets are taken to be classes.
      optimizer: any optax optimizer, or a function from hparams to one:
        `lambda h: optax.sgd(h["learning_rate"], h["momentum"])`. Optimizers that ask for the value or the
        gradient of the loss (`polyak_sgd`, `lbfgs`) get it.
      epochs: passes over the data, 1 to 2^30.
      loss: `loss(y_hat, y) -> scalar`: `xj.mse`, or one of `xj.losses`, such as `sigmoid_cross_entropy`.
      batch_size: rows in an update; None is all of them. The last batch of an epoch holds what is left, and
        its mean is over its own rows, as in Keras.
      shuffle: whether mini-batches are drawn from a fresh permutation in each epoch, which follows from the
        member's key and the epoch. A full batch is never shuffled: its gradient does not depend on the order.
      resample: whether each member trains on a sample of its own (Efron's bootstrap): as many rows as there are,
        drawn with replacement by its key, so that a row counts as often as it was drawn. The loss, which must be
        a mean over rows, is of this sample, wherever it is reported; predictions and accuracy are of all rows.
        `trainer.init(key).weights` says how often each row was drawn.
      validation: rows held out, whose loss, accuracy and predictions the `Result` has too.
      record_every: record the epochs 0, k, 2k, …, from before their update. With mini-batches, loss and accuracy
        are means over the batches of the epoch, each from before its own update, as Keras's.
      record_at: or these epochs, ascending, from 0 to `epochs`; see `xj.training.log_spaced`. (Gradients by
        `jax.grad` of `run` want `record_every`, whose loops have lengths known beforehand.)
      record: what to record besides loss and accuracy: "predictions", "params", "gradient_norm" (Euclidean, of
        the gradient on the whole batch).
      observe: `observe(params, hparams) -> pytree of arrays`, recorded too.
      threshold: what a single output must be above to stand for 1; None is 0.5, and with `sigmoid_cross_entropy`,
        for which outputs are logarithms of odds, 0. (A `solved` rule of your own has its own.)
      solved: `rule(y_hat, y, loss) -> bool scalar`, judged on the whole batch before every update and after
        the last. None stands for `solved_by_loss(0.01)`: a loss below 0.01 and, where the targets are classes (0
        or 1, or one-hot), all rows right.
      stop: "solved" freezes a network once that rule has held, `xj.training.plateau(...)` once its loss gets no
        better, several of them at the first; "never" trains all epochs. A `StopRule` of your own serves too. What
        is recorded of a network that stopped is what it ended with.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import xorjax as xj
    >>> rate = lambda h: optax.sgd(h["learning_rate"])
    >>> by_rate = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), rate, epochs=10)
    >>> result = jax.jit(by_rate.run)(jax.random.key(7), {"learning_rate": 0.5})
    >>> int(result.epochs), result.predictions.shape
    (10, (4, 1))
    """
    problem = problem_from(model, batch, optimizer, loss, batch_size)
    epochs = check_integer("epochs", epochs, 1, MAX_EPOCHS)
    recorded = recorded_epochs(record_every, record_at, epochs)
    extras = checked_extras(record, observe, recorded)
    for argument, flag in {"shuffle": shuffle, "resample": resample}.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{argument}={flag!r} must be True or False.")
    if validation is not None:
        validation = check_batch(validation, "validation")
    above = 0.0 if loss is sigmoid_cross_entropy else 0.5
    if threshold is not None:
        above = check_real("threshold", threshold)
        if not math.isfinite(above):
            raise ValueError(f"{threshold=} must be finite.")
    rule = stop_rule(stop)
    stops = rule is not NEVER
    is_solved = solved
    if is_solved is None:
        is_solved = solved_by_loss(all_right=callable(batch) or are_classes(batch.y), threshold=above)
    for argument, value in {"loss": loss, "solved": is_solved}.items():
        if not callable(value):
            raise TypeError(f"{argument}={value!r} must be a function.")
    is_fixed = not callable(model) and not callable(batch)
    if is_fixed:
        fixed = problem_from(model, batch, optax.identity(), loss, batch_size)(None)
        check_fit(fixed, is_solved, validation)
        if resample:
            check_mean_over_rows(fixed)

    has_extras = bool(extras) or observe is not None
    record_slots = None
    if recorded is not None:  # what training does not report is observed between two calls of `run_epochs`
        record_slots = 1 if has_extras else min(RECORD_SLOTS, len(recorded))

    def init(key: PRNGKeyArray, hparams: HParams = None) -> State:
        if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
            raise TypeError(f"{key=} must be a typed key, such as jax.random.key(0).")
        member = problem(hparams)
        if not is_fixed:
            check_fit(member, is_solved, validation)
        params = member.model.init(key)
        optimizer_state = jax.tree.map(jnp.asarray, member.optimizer.init(params))
        value = jax.eval_shape(lambda: member.judged(params, None)[1])
        check_rule(rule, value.dtype)
        if observe is not None:
            check_observed(observe, params, member.hparams)
        return State(
            params,
            optimizer_state,
            epoch=jnp.int32(0),
            solved_epoch=jnp.int32(-1),
            key_shuffle=_stream(key, "shuffle") if member.in_parts and shuffle else None,
            stopping=rule.init(value.dtype),
            weights=_times_drawn(_stream(key, "resample"), len(member.batch.x)) if resample else None,
        )

    def step(state: State, hparams: HParams = None) -> tuple[State, EpochMetrics]:
        new, info = loose_step(state, hparams)
        if stops:  # updates that are never made would some day be infinite, and a derivative nan
            has_stopped = new.epoch == state.epoch
            frozen = _where(has_stopped, state.optimizer_state, new.optimizer_state)
            new = new._replace(optimizer_state=frozen)
        return new, info

    def loose_step(state: State, hparams: HParams) -> tuple[State, EpochMetrics]:
        """`step`, but that the optimizer's state of a network that stopped runs on: half of the selects."""
        member = problem(hparams)
        rows, n = Rows(*member.batch, state.weights), len(member.batch.x)
        update = gradient_step(member.model, member.optimizer, loss)
        learned = TrainState(state.params, state.optimizer_state)
        if member.in_parts:
            order = jnp.arange(n)
            if state.key_shuffle is not None:
                order = jax.random.permutation(jax.random.fold_in(state.key_shuffle, state.epoch), n)
            learned, info = by_mini_batches(update, learned, rows, member.rows, order, above)
            y_hat, value = member.judged(state.params, state.weights)
        else:
            learned, value, y_hat = update(learned, rows)
            info = EpochMetrics(value, accuracy(y_hat, rows.y, above))

        holds = is_solved(y_hat, rows.y, value)
        solved_epoch = _first_solved(state, holds)
        stopping, stopped = rule.update(state.stopping, solved_epoch >= 0, value, state.epoch)
        new = state._replace(
            params=learned.params,
            optimizer_state=learned.optimizer_state,
            epoch=state.epoch + 1,
            solved_epoch=solved_epoch,
            stopping=stopping,
        )
        if stops:
            new = new._replace(
                params=_where(stopped, state.params, new.params),
                epoch=_where(stopped, state.epoch, new.epoch),
                stopping=_where(stopped, state.stopping, new.stopping),
            )
        return new, info

    def observed(state: State, hparams: HParams) -> Record:
        member, params = problem(hparams), state.params
        seen = None if observe is None else observe(params, member.hparams)
        return Record(
            None,
            None,
            predictions=member.model.apply(params, member.batch.x) if "predictions" in extras else None,
            params=params if "params" in extras else None,
            gradient_norm=member.gradient_norm(params, state.weights) if "gradient_norm" in extras else None,
            observed=jax.tree.map(jnp.asarray, seen),
        )

    def first_of(step: Any, state: State, hparams: HParams, epochs: Any) -> tuple[State, EpochMetrics]:
        """Trains on for `epochs`, static or traced; what the first of them reported."""

        def body(i, carry):
            state, first = carry
            state, info = step(state, hparams)
            return state, jax.tree.map(lambda new, old: jnp.where(i == 0, new, old), info, first)

        _, info = jax.eval_shape(step, state, hparams)
        none_yet = jax.tree.map(lambda i: jnp.zeros(i.shape, i.dtype), info)
        return lax.fori_loop(0, epochs, body, (state, none_yet))

    def recorded_span(state: State, hparams: HParams, epochs: Any) -> tuple[State, Record]:
        new, info = first_of(step, state, hparams, epochs)
        return new, record_of(info, state, hparams)

    def record_of(info: Any, state: State, hparams: HParams) -> Record:
        seen = observed(state, hparams) if has_extras else Record(None, None)
        return seen._replace(loss=info.loss, accuracy=info.accuracy)

    def run_epochs(state: State, hparams: HParams, epochs: Any) -> tuple[State, EpochMetrics | None]:
        if record_slots is None:
            if jnp.shape(epochs):
                raise ValueError(f"epochs has shape {jnp.shape(epochs)}; it must be a scalar without records.")
            return run_until_record(state, hparams, epochs)
        if jnp.shape(epochs) != (record_slots,):
            raise ValueError(
                f"epochs has shape {jnp.shape(epochs)}; it must be {(record_slots,)}, {record_slots=}."
            )
        spans = jnp.asarray(epochs, jnp.int32)
        return lax.scan(lambda state, each: run_until_record(state, hparams, each), state, spans)

    def run_until_record(state: State, hparams: HParams, epochs: Any) -> tuple[State, EpochMetrics | None]:
        if record_slots is not None:
            return first_of(loose_step, state, hparams, epochs)
        return lax.fori_loop(0, epochs, lambda _, s: loose_step(s, hparams)[0], state), None

    def finish(state: State, hparams: HParams = None) -> Result:
        member = problem(hparams)
        data = member.batch
        y_hat, value = member.judged(state.params, state.weights)
        holds = is_solved(y_hat, data.y, value)
        solved_epoch = _first_solved(state, holds)
        holds = holds | (solved_epoch == state.epoch)  # a network that stopped so is solved, whatever the last bit
        result = Result(
            params=state.params,
            loss=value,
            accuracy=accuracy(y_hat, data.y, above),
            predictions=y_hat,
            outcome=jnp.where(
                _all_finite((value, state.params)),
                jnp.where(holds, Outcome.SOLVED, Outcome.UNSOLVED),
                Outcome.DIVERGED,
            ).astype(jnp.int32),
            solved_epoch=solved_epoch,
            epochs=state.epoch,
        )
        if validation is None:
            return result
        y_hat, value = member._replace(batch=validation).judged(state.params, None)
        return result._replace(
            validation_loss=value,
            validation_accuracy=accuracy(y_hat, validation.y, above),
            validation_predictions=y_hat,
        )

    def run(key: PRNGKeyArray, hparams: HParams = None) -> Result:
        state = init(key, hparams)
        if recorded is None:
            state, _ = first_of(step, state, hparams, epochs)
            return finish(state, hparams)
        state, records = _spans(recorded_span, state, hparams, recorded, epochs)
        result = finish(state, hparams)
        final = record_of(result, state, hparams)
        return result._replace(history=history_of(recorded, records, final, result.epochs, jnp.where))

    looks = observed if has_extras else None
    return Trainer(
        init, step, run, finish, epochs, recorded, stops, run_epochs, run_until_record, looks, record_slots
    )


def _spans(
    span: Callable[..., tuple[State, Record]],
    state: State,
    hparams: HParams,
    recorded: Epochs,
    epochs: int,
) -> tuple[State, Record]:
    """Trains from record to record. Spans of one length are of a static length, which `grad` wants of a loop."""
    if not isinstance(recorded, range):
        if recorded[0]:
            state, _ = run_until_record(state, hparams, recorded[0])
        lengths = jnp.diff(jnp.array([*recorded, epochs], jnp.int32))
        return lax.scan(lambda state, length: run_until_record(state, hparams, length), state, lengths)
    count, rest = divmod(epochs, recorded.step)
    state, records = lax.scan(
        lambda state, _: run_until_record(state, hparams, recorded.step), state, length=count
    )
    if rest:
        state, last = run_until_record(state, hparams, rest)
        records = jax.tree.map(lambda each, one: jnp.concatenate([each, one[None]]), records, last)
    return state, records


def _stream(key: PRNGKeyArray, purpose: str) -> PRNGKeyArray:
    """A key of its own: the constant keeps it apart from a model's `split(key)[i]`, which is `fold_in(key, i)`."""
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()))


def _times_drawn(key: PRNGKeyArray, n: int) -> Float[Array, " n"]:
    """How often each of n rows comes in n draws with replacement."""
    drawn = jax.random.randint(key, (n,), 0, n, dtype=jnp.int32)
    return jnp.zeros(n, jnp.float32).at[drawn].add(1.0)


def _where(holds: Any, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(holds, one, other), one, other)


def _first_solved(state: State, holds: Array) -> Array:
    """The first epoch at which the rule held, now that it does or does not hold in this state."""
    return jnp.where((state.solved_epoch < 0) & holds, state.epoch, state.solved_epoch)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
