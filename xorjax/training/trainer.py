"""`trainer`: one network trained on one dataset, as pure functions. All above it is a transformation of it.

A trainer closes over structure (model, data, loss, number of epochs). What differs between the members of an
ensemble is a traced argument: the key and the hyper-parameters.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Int, PRNGKeyArray, PyTree

from xorjax._checks import check_integer, check_real
from xorjax.networks.losses import Loss, SolvedRule, mse, sigmoid_cross_entropy, solved_by_loss
from xorjax.networks.models import Params
from xorjax.networks.tasks import Batch, are_classes, check_batch
from xorjax.training.loops import Count, repeat_step, run_with_records
from xorjax.training.problem import (
    BatchLike,
    HParams,
    ModelLike,
    OptimizerLike,
    check_fit,
    check_mean_over_rows,
    define_problem,
)
from xorjax.training.records import (
    MAX_EPOCHS,
    Epochs,
    Record,
    build_history,
    check_extras,
    check_recorded_epochs,
)
from xorjax.training.results import Result
from xorjax.training.state import (
    Settings,
    State,
    freeze_optimizer,
    init_state,
    judge_state,
    observe_state,
    train_epoch,
)
from xorjax.training.stopping import NEVER, StopRule, check_stop
from xorjax.training.updates import EpochMetrics

RECORD_SLOTS = 64


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
        metrics: entry i is of the first epoch of part i, or 0 if epochs[i] is 0. (The optimizer's state of a
        stopped network still changes here: it is not used again, and restoring it takes time.)
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
    run_epochs: Callable[[State, HParams, ArrayLike], tuple[State, EpochMetrics | None]]
    run_until_record: Callable[[State, HParams, Count], tuple[State, EpochMetrics | None]]
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
    observe: Callable[[Params, HParams], PyTree] | None = None,
    threshold: float | None = None,
    solved: SolvedRule | None = None,
    stop: Literal["never", "solved"] | StopRule | Sequence[str | StopRule] = "never",
) -> Trainer:
    """Return the pure functions that train `model` on `batch`.

    A network is solved when all rows are classified right and its loss is below 0.01, unless `solved` says
    otherwise.

    Args:
      model: a `Model`, or a function from hparams to one (to make an initialisation scale a hyper-parameter).
        The member with seed s starts from `model.init(jax.random.key(s))`.
      batch: inputs (n, n_in) and targets (n, n_out), finite real numbers; or a function from hparams to them, for
        data that differ by member: `lambda h: Batch(x, h["targets"])`. Such targets are taken to be classes.
      optimizer: any optax optimizer, or a function from hparams to one:
        `lambda h: optax.sgd(h["learning_rate"], h["momentum"])`. Optimizers that need the value or the gradient
        of the loss (`polyak_sgd`, `lbfgs`) get it.
      epochs: passes over the data, 1 to 2^30.
      loss: `loss(y_hat, y) -> scalar`: `xj.mse`, or one of `xj.losses`, such as `sigmoid_cross_entropy`.
      batch_size: rows in an update; None is all of them. The last batch of an epoch holds the rows that are left,
        and its mean is over its own rows, as in Keras.
      shuffle: whether mini-batches are drawn from a new permutation in each epoch, which follows from the
        member's key and the epoch. A full batch is never shuffled: its gradient does not depend on the order.
      resample: whether each member trains on a sample of its own (Efron's bootstrap): as many rows as there are,
        drawn with replacement by its key, so that a row counts as often as it was drawn. The loss, which must be
        a mean over rows, is of this sample, wherever it is reported; predictions and accuracy are of all rows.
        `trainer.init(key).weights` says how often each row was drawn.
      validation: rows held out; the `Result` has their loss, accuracy and predictions too.
      record_every: record the epochs 0, k, 2k, …, each before its update. With mini-batches, loss and accuracy
        are means over the batches of the epoch, each from before its own update, as in Keras.
      record_at: record these epochs instead, ascending, from 0 to `epochs`; see `xj.training.log_spaced`.
        (To differentiate `run`, use `record_every`.)
      record: what to record besides loss and accuracy: "predictions", "params", "gradient_norm" (Euclidean norm
        of the gradient on the whole batch).
      observe: `observe(params, hparams) -> pytree of arrays`, recorded too.
      threshold: a single output above it stands for 1. None is 0.5, but 0 with `sigmoid_cross_entropy`, whose
        outputs are logarithms of odds. (A `solved` rule of your own has its own.)
      solved: `rule(y_hat, y, loss) -> bool scalar`, judged on the whole batch before every update and after
        the last. None is `solved_by_loss(0.01)`; where the targets are not classes (0 or 1, or one-hot), the loss
        alone decides.
      stop: when a network stops before its last epoch: "never"; "solved", once it was solved; a rule such as
        `xj.training.plateau(...)`, once its loss no longer improves, or your own `StopRule`; of a list, whichever
        comes first. After a network has stopped, its records repeat its final values.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import jax, xorjax as xj
    >>> rate = lambda h: optax.sgd(h["learning_rate"])
    >>> by_rate = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), rate, epochs=10)
    >>> result = jax.jit(by_rate.run)(jax.random.key(7), {"learning_rate": 0.5})
    >>> int(result.epochs), result.predictions.shape
    (10, (4, 1))
    """
    build_problem = define_problem(model, batch, optimizer, loss, batch_size)
    epochs = check_integer("epochs", epochs, 1, MAX_EPOCHS)
    recorded = check_recorded_epochs(record_every, record_at, epochs)
    extras = check_extras(record, observe, recorded)
    for argument, flag in {"shuffle": shuffle, "resample": resample}.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{argument}={flag!r} must be True or False.")
    if validation is not None:
        validation = check_batch(validation, "validation")
    threshold = _check_threshold(threshold, loss)
    rule = check_stop(stop)
    if solved is None:
        solved = solved_by_loss(all_right=callable(batch) or are_classes(batch.y), threshold=threshold)
    for argument, value in {"loss": loss, "solved": solved}.items():
        if not callable(value):
            raise TypeError(f"{argument}={value!r} must be a function.")
    depends_on_hparams = callable(model) or callable(batch)
    if not depends_on_hparams:
        problem = define_problem(model, batch, optax.identity(), loss, batch_size)(None)
        check_fit(problem, solved, validation)
        if resample:
            check_mean_over_rows(problem)
    settings = Settings(
        build_problem, depends_on_hparams, solved, rule, threshold, shuffle, resample, validation, extras, observe
    )
    return _build_trainer(settings, epochs, recorded)


def _build_trainer(settings: Settings, epochs: int, recorded: Epochs | None) -> Trainer:
    has_extras = bool(settings.extras) or settings.observe is not None
    record_slots = None
    if recorded is not None:  # extras are observed between two calls of `run_epochs`
        record_slots = 1 if has_extras else min(RECORD_SLOTS, len(recorded))

    def init(key: PRNGKeyArray, hparams: HParams = None) -> State:
        return init_state(settings, key, hparams)

    def step(state: State, hparams: HParams = None) -> tuple[State, EpochMetrics]:
        new, metrics = train_epoch(settings, state, hparams)
        return freeze_optimizer(settings, state, new), metrics

    def finish(state: State, hparams: HParams = None) -> Result:
        return judge_state(settings, state, hparams)

    def observe(state: State, hparams: HParams) -> Record:
        return observe_state(settings, state, hparams)

    def record(metrics: EpochMetrics | Result, state: State, hparams: HParams) -> Record:
        extras = observe(state, hparams) if has_extras else Record(None, None)
        return extras._replace(loss=metrics.loss, accuracy=metrics.accuracy)

    def run(key: PRNGKeyArray, hparams: HParams = None) -> Result:
        def train_for(state: State, epochs: Count) -> tuple[State, Record]:
            new, metrics = repeat_step(lambda state: step(state, hparams), state, epochs)
            return new, record(metrics, state, hparams)

        state = init(key, hparams)
        if recorded is None:
            state, _ = repeat_step(lambda state: step(state, hparams), state, epochs)
            return finish(state, hparams)
        state, records = run_with_records(train_for, state, recorded, epochs)
        result = finish(state, hparams)
        final = record(result, state, hparams)
        return result._replace(history=build_history(recorded, records, final, result.epochs, jnp.where))

    def run_until_record(state: State, hparams: HParams, epochs: Count) -> tuple[State, EpochMetrics | None]:
        def loose_step(state: State) -> tuple[State, EpochMetrics]:
            return train_epoch(settings, state, hparams)

        if record_slots is None:
            return lax.fori_loop(0, epochs, lambda _, state: loose_step(state)[0], state), None
        return repeat_step(loose_step, state, epochs)

    def run_epochs(state: State, hparams: HParams, epochs: ArrayLike) -> tuple[State, EpochMetrics | None]:
        shape = jnp.shape(epochs)
        if record_slots is None:
            if shape:
                raise ValueError(f"epochs has shape {shape}; it must be a scalar without records.")
            return run_until_record(state, hparams, epochs)
        if shape != (record_slots,):
            raise ValueError(f"epochs has shape {shape}; it must be {(record_slots,)}, {record_slots=}.")

        def train_for(state: State, epochs: Int[Array, ""]) -> tuple[State, EpochMetrics | None]:
            return run_until_record(state, hparams, epochs)

        return lax.scan(train_for, state, jnp.asarray(epochs, jnp.int32))

    return Trainer(
        init,
        step,
        run,
        finish,
        epochs,
        recorded,
        stops=settings.stop is not NEVER,
        run_epochs=run_epochs,
        run_until_record=run_until_record,
        observe=observe if has_extras else None,
        record_slots=record_slots,
    )


def _check_threshold(threshold: float | None, loss: Loss) -> float:
    if threshold is None:
        return 0.0 if loss is sigmoid_cross_entropy else 0.5
    if not math.isfinite(value := check_real("threshold", threshold)):
        raise ValueError(f"{threshold=} must be finite.")
    return value
