"""The problem of one network: model, data, optimizer and loss, checked, and built from its hyper-parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from xorjax._checks import check_integer, check_real_array, is_real_dtype
from xorjax.networks.losses import Loss, SolvedRule, weight_loss
from xorjax.networks.models import Model, Params
from xorjax.networks.tasks import Batch, check_batch

T = TypeVar("T")
HParams = Any  # a pytree of numbers and scalar arrays, traced or not
ModelLike = Model | Callable[[HParams], Model]
BatchLike = Batch | Callable[[HParams], Batch]
OptimizerLike = optax.GradientTransformation | Callable[[HParams], optax.GradientTransformation]


class Problem(NamedTuple):
    """What one network trains.

    Attributes:
      hparams: in dtypes that do not depend on how they were given.
      model: with functions `init` and `apply`.
      optimizer: an optax optimizer.
      batch: inputs (n, n_in) and targets (n, n_out).
      loss: `loss(y_hat, y) -> scalar`.
      batch_size: rows in an update, n or less.
    """

    hparams: HParams
    model: Model
    optimizer: optax.GradientTransformationExtraArgs
    batch: Batch
    loss: Loss
    batch_size: int

    @property
    def has_mini_batches(self) -> bool:
        """Whether an epoch has more than one update."""
        return self.batch_size < len(self.batch.x)

    def evaluate(self, params: Params, weights: Float[Array, " n"] | None) -> tuple[Array, Array]:
        """Return predictions for the whole batch, and their loss."""
        y_hat = self.model.apply(params, self.batch.x)
        return y_hat, weight_loss(self.loss, y_hat, self.batch.y, weights)

    def gradient_norm(self, params: Params, weights: Float[Array, " n"] | None) -> Float[Array, ""]:
        """Return the Euclidean norm of the gradient of the loss on the whole batch."""
        return optax.tree.norm(jax.grad(lambda params: self.evaluate(params, weights)[1])(params))


def define_problem(
    model: ModelLike, batch: BatchLike, optimizer: OptimizerLike, loss: Loss, batch_size: int | None
) -> Callable[[HParams], Problem]:
    """Return `build(hparams) -> Problem`.

    Raises:
      TypeError, ValueError: now, or when `build` is called, naming the argument, its value and what is allowed.
    """
    if not isinstance(model, Model) and not callable(model):
        raise TypeError(f"model must be a Model or a function from hparams to one, got {model!r}.")
    if not isinstance(optimizer, optax.GradientTransformation) and not callable(optimizer):
        raise TypeError(
            f"optimizer must be an optax GradientTransformation or a function from hparams to one, "
            f"got {optimizer!r}."
        )
    if not callable(batch):
        batch = check_batch(batch)
        _check_batch_size(batch_size, batch)
    takes_hparams = callable(model) or callable(batch) or not isinstance(optimizer, optax.GradientTransformation)

    def build(hparams: HParams) -> Problem:
        if not takes_hparams and jax.tree.leaves(hparams):
            raise ValueError(
                f"{hparams=} would have no effect: give optimizer (model, batch) as a function of hparams, "
                f"such as lambda h: optax.sgd(h['learning_rate'])."
            )
        hparams = jax.tree_util.tree_map_with_path(_fix_dtype, hparams)
        own_model, own_optimizer, own_batch = model, optimizer, batch
        if not isinstance(own_model, Model):
            own_model = _call("model", own_model, hparams)
            if not isinstance(own_model, Model):
                raise TypeError(f"model(hparams) must give a Model, got {own_model!r}.")
        if not isinstance(own_optimizer, optax.GradientTransformation):
            own_optimizer = _call("optimizer", own_optimizer, hparams)
            if not isinstance(own_optimizer, optax.GradientTransformation):
                raise TypeError(
                    f"optimizer(hparams) must give an optax GradientTransformation, got {own_optimizer!r}."
                )
        if not isinstance(own_batch, Batch):
            own_batch = check_batch(_call("batch", own_batch, hparams))
        own_optimizer = optax.with_extra_args_support(own_optimizer)
        return Problem(
            hparams, own_model, own_optimizer, own_batch, loss, _check_batch_size(batch_size, own_batch)
        )

    return build


def check_mean_over_rows(problem: Problem) -> None:
    """Check on one network, unless its data are traced, that the loss is a mean over rows, as weights require.

    Raises:
      ValueError: if it is not.
    """

    def losses() -> tuple[Array, Array]:
        y_hat, value = problem.evaluate(problem.model.init(jax.random.key(0)), None)
        return value, weight_loss(problem.loss, y_hat, problem.batch.y, jnp.ones(len(y_hat)))

    if any(isinstance(rows, Tracer) for rows in problem.batch):  # of which the values are not known
        return
    with jax.ensure_compile_time_eval():  # also where a trainer is made within a trace
        value, mean = map(np.asarray, jax.jit(losses)())
    if not np.allclose(mean, value, rtol=1e-2, equal_nan=True):
        raise ValueError(
            f"loss must be a mean over the rows for resample=True: the loss of all rows is {value:.6g}, and the "
            f"mean of the losses of each row is {mean:.6g}."
        )


def check_fit(problem: Problem, is_solved: SolvedRule, validation: Batch | None) -> None:
    """Check by shapes alone that model, data, loss and solved rule fit one another.

    Raises:
      ValueError: naming what does not fit.
    """
    model, batch, loss = problem.model, problem.batch, problem.loss
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    y_hat = jax.eval_shape(lambda params: model.apply(params, batch.x), params)
    if getattr(y_hat, "shape", None) != batch.y.shape:
        raise ValueError(f"model gives outputs {y_hat} for batch.x; batch.y has shape {batch.y.shape}.")
    value = jax.eval_shape(lambda y_hat: loss(y_hat, batch.y), y_hat)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss(y_hat, y) must give a real scalar, got {value}.")
    holds = jax.eval_shape(lambda y_hat, value: is_solved(y_hat, batch.y, value), y_hat, value)
    if getattr(holds, "shape", None) != () or holds.dtype != jnp.bool_:
        raise ValueError(f"solved(y_hat, y, loss) must give a Boolean scalar, got {holds}.")
    if validation is not None:
        _check_validation(problem, params, validation)


def check_observed(observe: Callable[[Params, HParams], PyTree], params: Params, hparams: HParams) -> None:
    """Check by shapes alone that `observe` returns numbers and arrays of numbers.

    Raises:
      TypeError, ValueError: if it fails, or returns something else.
    """

    def check(params: Params, hparams: HParams) -> None:
        try:
            observed = observe(params, hparams)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"observe(params, hparams) failed for params={given[0]}, hparams={given[1]} with "
                f"{type(error).__name__}: {error}."
            ) from error
        for path, leaf in jax.tree_util.tree_leaves_with_path(observed):
            try:
                is_number = jnp.issubdtype(jnp.result_type(leaf), jnp.number) or jnp.result_type(leaf) == jnp.bool_
            except (TypeError, ValueError):
                is_number = False
            if not is_number:
                where = jax.tree_util.keystr(path)
                raise TypeError(
                    f"observe(params, hparams){where} must be a number or an array of them, got {leaf!r}."
                )

    given = _show(params), _show(hparams)
    jax.eval_shape(check, params, hparams)


def _check_validation(problem: Problem, params: Params, validation: Batch) -> None:
    for name, held_out, trained in zip(("x", "y"), validation, problem.batch, strict=True):
        if held_out.shape[1] != trained.shape[1]:
            raise ValueError(
                f"validation.{name} has {held_out.shape[1]} columns and batch.{name} has {trained.shape[1]}; "
                f"they must be equal."
            )
    y_hat = jax.eval_shape(lambda params: problem.model.apply(params, validation.x), params)
    try:
        value = jax.eval_shape(lambda y_hat: problem.loss(y_hat, validation.y), y_hat)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"loss(y_hat, y) failed for the {len(validation.x)} rows of validation: {error}"
        ) from error
    if getattr(value, "shape", None) != ():
        raise ValueError(f"loss(y_hat, y) must give a real scalar for validation too, got {value}.")


def _check_batch_size(batch_size: int | None, batch: Batch) -> int:
    """Rows in an update: `batch_size`, or all of them."""
    n = len(batch.x)
    return n if batch_size is None else check_integer("batch_size", batch_size, 1, n, "n")


def _fix_dtype(path: Any, leaf: Any) -> Array:
    """A hyper-parameter in the dtype that it has in an array, even if it is a Python number here."""
    name = f"hparams{jax.tree_util.keystr(path)}"
    if not isinstance(leaf, jax.Array):
        leaf = check_real_array(name, leaf)
    elif not is_real_dtype(leaf.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {leaf.dtype}.")
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _call(argument: str, function: Callable[[HParams], T], hparams: HParams) -> T:
    """`function(hparams)`; most often it fails because hparams lack a value that it asks for."""
    try:
        return function(hparams)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{argument}(hparams) failed for hparams={_show(hparams)} with {type(error).__name__}: {error}."
        ) from error


class _Text(str):
    __repr__ = str.__str__


def _show(tree: PyTree) -> str:
    """A tree for a message: numbers as they are, arrays and traced values by dtype and shape."""

    def show_leaf(leaf: Array) -> _Text:
        if isinstance(leaf, Tracer) or leaf.ndim:
            return _Text(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]")
        return _Text(leaf)

    return repr(jax.tree.map(show_leaf, tree))
