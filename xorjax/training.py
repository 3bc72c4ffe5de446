"""Training one network on one dataset, as pure functions. The heart: all above it is a transformation of it.

`trainer` closes over what is structure (model, data, loss, number of epochs) and leaves as traced arguments
what differs from member to member of an ensemble: the key, and the hyper-parameters.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from xorjax._checks import is_real, real_array, whole_number
from xorjax.losses import Loss, SolvedRule, accuracy, mse, solved_by_loss
from xorjax.models import Model
from xorjax.results import History, Outcome, Result
from xorjax.stopping import NEVER, StopRule, stop_rule
from xorjax.tasks import Batch, are_classes, checked_batch
from xorjax.updates import Info, Learned, by_mini_batches, gradient_step

HParams = Any  # a pytree of traced scalars
ModelLike = Model | Callable[[HParams], Model]
BatchLike = Batch | Callable[[HParams], Batch]
OptimizerLike = optax.GradientTransformation | Callable[[HParams], optax.GradientTransformation]

MAX_EPOCHS = 2**30
RECORD_SLOTS = 64


class State(NamedTuple):
    """What is carried from epoch to epoch."""

    params: Any
    optimizer_state: Any
    epoch: Int[Array, ""]  # epochs trained so far; stands still in a frozen member
    solved_epoch: Int[Array, ""]  # -1 until the solved rule first holds
    key_shuffle: PRNGKeyArray | None  # None where nothing is shuffled
    stopping: Any  # what the rule to stop by carries


class Trainer(NamedTuple):
    """Pure functions that train one network; transform them with jit, vmap, grad.

    Attributes:
      init: `init(key, hparams=None) -> State`.
      step: `step(state, hparams=None) -> (State, Info)`, one epoch.
      run: `run(key, hparams=None) -> Result`, all epochs.
      advance: `advance(state, hparams, epochs) -> (State, Info)`: trains on for `epochs`, which may be traced.
        The Info has a leading axis of `record_slots`: what every `record_every`-th epoch reported, from the
        first of these on; slots beyond `epochs` hold zeros. No more epochs than fill these slots. Without
        records it is None.
      finish: `finish(state, hparams=None) -> Result`, without history: judges the final network.
      epochs: number of epochs of `run`.
      record_every: epochs from record to record, or None.
      record_slots: records that one call of `advance` can give.
      stops: whether a network may stop before its last epoch; its `state.epoch` then stands still.
    """

    init: Callable[..., State]
    step: Callable[..., tuple[State, Info]]
    run: Callable[..., Result]
    advance: Callable[[State, HParams, Any], tuple[State, Info | None]]
    finish: Callable[..., Result]
    epochs: int
    record_every: int | None
    record_slots: int
    stops: bool


def trainer(
    model: ModelLike,
    batch: BatchLike,
    optimizer: OptimizerLike,
    *,
    epochs: int,
    loss: Loss = mse,
    batch_size: int | None = None,
    shuffle: bool = True,
    record_every: int | None = None,
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
      loss: `loss(y_hat, y) -> scalar`.
      batch_size: rows in an update; None is all of them. The last batch of an epoch holds what is left, and
        its mean is over its own rows, as in Keras.
      shuffle: whether mini-batches are drawn from a fresh permutation in each epoch, which follows from the
        member's key and the epoch. A full batch is never shuffled: its gradient does not depend on the order.
      record_every: keep loss and accuracy of the epochs 0, k, 2k, …, from before their update. With
        mini-batches they are means over the batches of the epoch, each from before its own update, as Keras's.
      solved: `rule(y_hat, y, loss) -> bool scalar`, judged on the whole batch before every update and after
        the last. None stands for `solved_by_loss(0.01)`: a loss below 0.01 and, where the targets are classes (0
        or 1, or one-hot), all rows right.
      stop: "solved" freezes a network once that rule has held, `xj.plateau(...)` once its loss gets no better,
        several of them at the first; "never" trains all epochs. A `StopRule` of your own serves too. What is
        recorded of a network that stopped is what it ended with.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if not callable(batch):
        batch = checked_batch(batch)
        _rows_of_an_update(batch_size, batch)
    epochs = whole_number("epochs", epochs, 1, MAX_EPOCHS)
    if record_every is not None:
        record_every = whole_number("record_every", record_every, 1, epochs, "epochs")
    if not isinstance(shuffle, bool):
        raise TypeError(f"{shuffle=} must be True or False.")
    rule = stop_rule(stop)
    stops = rule is not NEVER
    is_solved = solved
    if is_solved is None:
        is_solved = solved_by_loss(all_right=callable(batch) or are_classes(batch.y))
    for argument, value in {"loss": loss, "solved": is_solved}.items():
        if not callable(value):
            raise TypeError(f"{argument}={value!r} must be a function.")
    if not isinstance(model, Model) and not callable(model):
        raise TypeError(f"model must be a Model or a function from hparams to one, got {model!r}.")
    if not isinstance(optimizer, optax.GradientTransformation) and not callable(optimizer):
        raise TypeError(
            f"optimizer must be an optax GradientTransformation or a function from hparams to one, "
            f"got {optimizer!r}."
        )
    takes_hparams = callable(model) or callable(batch) or not isinstance(optimizer, optax.GradientTransformation)
    if isinstance(model, Model) and isinstance(batch, Batch):
        _check_outputs(model, batch, loss, is_solved)

    record_slots = 1 if record_every is None else min(RECORD_SLOTS, -(-epochs // record_every))

    def built(hparams: HParams) -> _Built:
        """For hparams, whose dtypes are fixed so that a member alone is as in a company."""
        if not takes_hparams and jax.tree.leaves(hparams):
            raise ValueError(
                f"{hparams=} would have no effect: give optimizer (model, batch) as a function of hparams, "
                f"such as lambda h: optax.sgd(h['learning_rate'])."
            )
        hparams = jax.tree_util.tree_map_with_path(_fixed_dtype, hparams)
        member_model = model if isinstance(model, Model) else _made("model", model, hparams)
        if not isinstance(member_model, Model):
            raise TypeError(f"model(hparams) must give a Model, got {member_model!r}.")
        transformation = optimizer
        if not isinstance(transformation, optax.GradientTransformation):
            transformation = _made("optimizer", transformation, hparams)
        if not isinstance(transformation, optax.GradientTransformation):
            raise TypeError(
                f"optimizer(hparams) must give an optax GradientTransformation, got {transformation!r}."
            )
        data = batch if isinstance(batch, Batch) else checked_batch(_made("batch", batch, hparams))
        return _Built(
            member_model, optax.with_extra_args_support(transformation), data, _rows_of_an_update(batch_size, data)
        )

    def init(key: PRNGKeyArray, hparams: HParams = None) -> State:
        if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
            raise TypeError(f"{key=} must be a typed key, such as jax.random.key(0).")
        member = built(hparams)
        if callable(model) or callable(batch):
            _check_outputs(member.model, member.batch, loss, is_solved)
        params = member.model.init(key)
        # The constant keeps this stream apart from the model's own `split(key)[i]`, which is `fold_in(key, i)`.
        key_shuffle = jax.random.fold_in(key, zlib.crc32(b"shuffle")) if member.in_parts and shuffle else None
        optimizer_state = jax.tree.map(jnp.asarray, member.optimizer.init(params))
        value = jax.eval_shape(lambda: loss(member.model.apply(params, member.batch.x), member.batch.y))
        stopping = rule.init(value.dtype)
        return State(params, optimizer_state, jnp.int32(0), jnp.int32(-1), key_shuffle, stopping)

    def step(state: State, hparams: HParams = None) -> tuple[State, Info]:
        member = built(hparams)
        data, n = member.batch, len(member.batch.x)
        update = gradient_step(member.model, member.optimizer, loss)
        learned = Learned(state.params, state.optimizer_state)
        if member.in_parts:
            order = jnp.arange(n)
            if state.key_shuffle is not None:
                order = jax.random.permutation(jax.random.fold_in(state.key_shuffle, state.epoch), n)
            learned, info = by_mini_batches(update, learned, data, member.rows, order)
            y_hat = member.model.apply(state.params, data.x)
            value = loss(y_hat, data.y)
        else:
            learned, value, y_hat = update(learned, *data)
            info = Info(value, accuracy(y_hat, data.y))

        holds = is_solved(y_hat, data.y, value)
        solved_epoch = _first_solved(state, holds)
        stopping, stopped = rule.update(state.stopping, solved_epoch >= 0, value, state.epoch)
        new = State(*learned, state.epoch + 1, solved_epoch, state.key_shuffle, stopping)
        if stops:  # the optimizer's state is left to run on: nothing that anybody sees comes of it

            def kept(old: Any, new: Any) -> Any:
                return jax.tree.map(lambda old, new: jnp.where(stopped, old, new), old, new)

            new = new._replace(
                params=kept(state.params, new.params),
                epoch=kept(state.epoch, new.epoch),
                stopping=kept(state.stopping, new.stopping),
            )
        return new, info

    def first_of(state: State, hparams: HParams, epochs: Any) -> tuple[State, Info]:
        """Trains on for `epochs`, static or traced; what the first of them reported."""

        def body(i, carry):
            state, first = carry
            state, info = step(state, hparams)
            return state, jax.tree.map(lambda new, old: jnp.where(i == 0, new, old), info, first)

        _, info = jax.eval_shape(step, state, hparams)
        none_yet = jax.tree.map(lambda i: jnp.zeros(i.shape, i.dtype), info)
        return lax.fori_loop(0, epochs, body, (state, none_yet))

    def advance(state: State, hparams: HParams, epochs: Any) -> tuple[State, Info | None]:
        every = MAX_EPOCHS if record_every is None else record_every
        if isinstance(epochs, int):
            whole_number("epochs", epochs, 0, record_slots * every, "record_slots * record_every")
        if record_every is None:
            return lax.fori_loop(0, epochs, lambda _, s: step(s, hparams)[0], state), None
        starts = jnp.arange(record_slots, dtype=jnp.int32) * every
        return lax.scan(
            lambda state, start: first_of(state, hparams, jnp.clip(epochs - start, 0, every)), state, starts
        )

    def finish(state: State, hparams: HParams = None) -> Result:
        member = built(hparams)
        data = member.batch
        y_hat = member.model.apply(state.params, data.x)
        value = loss(y_hat, data.y)
        holds = is_solved(y_hat, data.y, value)
        solved_epoch = _first_solved(state, holds)
        holds = holds | (solved_epoch == state.epoch)  # a network that stopped so is solved, whatever the last bit
        return Result(
            params=state.params,
            loss=value,
            accuracy=accuracy(y_hat, data.y),
            predictions=y_hat,
            outcome=jnp.where(
                _all_finite((value, state.params)),
                jnp.where(holds, Outcome.SOLVED, Outcome.UNSOLVED),
                Outcome.DIVERGED,
            ).astype(jnp.int32),
            solved_epoch=solved_epoch,
            epochs=state.epoch,
            history=None,
        )

    def run(key: PRNGKeyArray, hparams: HParams = None) -> Result:
        state = init(key, hparams)
        if record_every is None:
            state, _ = first_of(state, hparams, epochs)
            return finish(state, hparams)
        records, rest = divmod(epochs, record_every)
        state, info = lax.scan(lambda s, _: first_of(s, hparams, record_every), state, length=records)
        if rest:
            state, last = first_of(state, hparams, rest)
            info = jax.tree.map(lambda i, j: jnp.append(i, j), info, last)
        result = finish(state, hparams)
        recorded = jnp.arange(0, epochs, record_every, dtype=jnp.int32)
        if stops:
            ended = recorded >= result.epochs
            info = Info(jnp.where(ended, result.loss, info.loss), jnp.where(ended, result.accuracy, info.accuracy))
        return result._replace(history=History(recorded, *info))

    return Trainer(init, step, run, advance, finish, epochs, record_every, record_slots, stops)


class _Built(NamedTuple):
    """What one member trains, made from its hparams."""

    model: Model
    optimizer: optax.GradientTransformationExtraArgs
    batch: Batch
    rows: int  # of an update

    @property
    def in_parts(self) -> bool:
        """Whether an epoch is more than one update."""
        return self.rows < len(self.batch.x)


def _rows_of_an_update(batch_size: int | None, batch: Batch) -> int:
    n = len(batch.x)
    return n if batch_size is None else whole_number("batch_size", batch_size, 1, n, "n")


def _fixed_dtype(path: Any, leaf: Any) -> Array:
    """A hyper-parameter in the dtype that it has in an array, be it a Python number here."""
    name = f"hparams{jax.tree_util.keystr(path)}"
    if not isinstance(leaf, jax.Array):
        leaf = real_array(name, leaf)
    elif not is_real(leaf.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {leaf.dtype}.")
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _made(argument: str, function: Callable[[HParams], Any], hparams: HParams) -> Any:
    """`function(hparams)`, whose commonest failure is that hparams lack what it asks for."""
    try:
        return function(hparams)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        given = jax.tree.map(lambda _: "…", hparams)
        raise ValueError(
            f"{argument}(hparams) failed for hparams={given!r} with {type(error).__name__}: {error}."
        ) from error


def _check_outputs(model: Model, batch: Batch, loss: Loss, is_solved: SolvedRule) -> None:
    """Checks by shapes alone that model, data, loss and rule fit one another."""
    y_hat = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0)), batch.x))
    if getattr(y_hat, "shape", None) != batch.y.shape:
        raise ValueError(f"model gives outputs {y_hat} for batch.x; batch.y has shape {batch.y.shape}.")
    value = jax.eval_shape(lambda y_hat: loss(y_hat, batch.y), y_hat)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss(y_hat, y) must give a real scalar, got {value}.")
    holds = jax.eval_shape(lambda y_hat, value: is_solved(y_hat, batch.y, value), y_hat, value)
    if getattr(holds, "shape", None) != () or holds.dtype != jnp.bool_:
        raise ValueError(f"solved(y_hat, y, loss) must give a Boolean scalar, got {holds}.")


def _first_solved(state: State, holds: Array) -> Array:
    """The first epoch at which the rule held, now that it does or does not hold in this state."""
    return jnp.where((state.solved_epoch < 0) & holds, state.epoch, state.solved_epoch)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
