"""What one network is trained on and by: the parts that a user gives, checked, and made from its hparams."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from xorjax._checks import check_integer, check_real_array, is_real_dtype
from xorjax.networks.losses import Loss, SolvedRule, weighted
from xorjax.networks.models import Model
from xorjax.networks.tasks import Batch, check_batch

HParams = Any  # a pytree of traced scalars
ModelLike = Model | Callable[[HParams], Model]
BatchLike = Batch | Callable[[HParams], Batch]
OptimizerLike = optax.GradientTransformation | Callable[[HParams], optax.GradientTransformation]


class Problem(NamedTuple):
    """What one member trains."""

    hparams: HParams  # in dtypes that are the same for a member alone and in company
    model: Model
    optimizer: optax.GradientTransformationExtraArgs
    batch: Batch
    loss: Loss
    rows: int  # of an update

    @property
    def in_parts(self) -> bool:
        """Whether an epoch is more than one update."""
        return self.rows < len(self.batch.x)

    def judged(self, params: Any, weights: Array | None) -> tuple[Array, Array]:
        """Predictions for the whole batch, and their loss."""
        y_hat = self.model.apply(params, self.batch.x)
        return y_hat, weighted(self.loss, y_hat, self.batch.y, weights)

    def gradient_norm(self, params: Any, weights: Array | None) -> Float[Array, ""]:
        """Euclidean norm of the gradient of the loss on the whole batch."""
        return optax.tree.norm(jax.grad(lambda params: self.judged(params, weights)[1])(params))


def problem_from(
    model: ModelLike, batch: BatchLike, optimizer: OptimizerLike, loss: Loss, batch_size: int | None
) -> Callable[[HParams], Problem]:
    """The function from hparams to what is to be trained.

    Raises:
      TypeError, ValueError: now or when it is called, naming the argument, its value and what is allowed.
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
        _rows_of_an_update(batch_size, batch)
    takes_hparams = callable(model) or callable(batch) or not isinstance(optimizer, optax.GradientTransformation)

    def problem(hparams: HParams) -> Problem:
        if not takes_hparams and jax.tree.leaves(hparams):
            raise ValueError(
                f"{hparams=} would have no effect: give optimizer (model, batch) as a function of hparams, "
                f"such as lambda h: optax.sgd(h['learning_rate'])."
            )
        hparams = jax.tree_util.tree_map_with_path(_fixed_dtype, hparams)
        member_model = model if isinstance(model, Model) else made("model", model, hparams)
        if not isinstance(member_model, Model):
            raise TypeError(f"model(hparams) must give a Model, got {member_model!r}.")
        transformation = optimizer
        if not isinstance(transformation, optax.GradientTransformation):
            transformation = made("optimizer", transformation, hparams)
        if not isinstance(transformation, optax.GradientTransformation):
            raise TypeError(
                f"optimizer(hparams) must give an optax GradientTransformation, got {transformation!r}."
            )
        data = batch if isinstance(batch, Batch) else check_batch(made("batch", batch, hparams))
        return Problem(
            hparams,
            member_model,
            optax.with_extra_args_support(transformation),
            data,
            loss,
            _rows_of_an_update(batch_size, data),
        )

    return problem


def check_mean_over_rows(problem: Problem) -> None:
    """Checks on the first network that the loss is what weights on rows need it to be.

    Raises:
      ValueError: if it is no mean over the rows.
    """
    y_hat, value = problem.judged(problem.model.init(jax.random.key(0)), None)
    weighed = weighted(problem.loss, y_hat, problem.batch.y, jnp.ones(len(y_hat)))
    if not jnp.allclose(weighed, value, rtol=1e-2, equal_nan=True):
        raise ValueError(
            f"loss must be a mean over the rows for resample=True: of all rows it is {value:.6g}, and the mean of "
            f"what it is of each is {weighed:.6g}."
        )


def check_observed(observe: Callable[[Any, HParams], Any], params: Any, hparams: HParams) -> None:
    """Checks by shapes alone that a user's function gives what can be recorded.

    Raises:
      TypeError, ValueError: if it fails, or gives something that is no number and no array of them.
    """

    def look(params: Any, hparams: HParams) -> None:
        try:
            seen = observe(params, hparams)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            given = jax.tree.map(lambda _: "…", (params, hparams))
            raise ValueError(
                f"observe(params, hparams) failed for params={given[0]!r}, hparams={given[1]!r} with "
                f"{type(error).__name__}: {error}."
            ) from error
        for path, leaf in jax.tree_util.tree_leaves_with_path(seen):
            try:
                is_number = jnp.issubdtype(jnp.result_type(leaf), jnp.number) or jnp.result_type(leaf) == jnp.bool_
            except (TypeError, ValueError):
                is_number = False
            if not is_number:
                where = jax.tree_util.keystr(path)
                raise TypeError(
                    f"observe(params, hparams){where} must be a number or an array of them, got {leaf!r}."
                )

    jax.eval_shape(look, params, hparams)


def _rows_of_an_update(batch_size: int | None, batch: Batch) -> int:
    n = len(batch.x)
    return n if batch_size is None else check_integer("batch_size", batch_size, 1, n, "n")


def _fixed_dtype(path: Any, leaf: Any) -> Array:
    """A hyper-parameter in the dtype that it has in an array, be it a Python number here."""
    name = f"hparams{jax.tree_util.keystr(path)}"
    if not isinstance(leaf, jax.Array):
        leaf = check_real_array(name, leaf)
    elif not is_real_dtype(leaf.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {leaf.dtype}.")
    return jnp.asarray(leaf, jnp.result_type(leaf))


def made(argument: str, function: Callable[[HParams], Any], hparams: HParams) -> Any:
    """`function(hparams)`, whose commonest failure is that hparams lack what it asks for."""
    try:
        return function(hparams)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        given = jax.tree.map(lambda _: "…", hparams)
        raise ValueError(
            f"{argument}(hparams) failed for hparams={given!r} with {type(error).__name__}: {error}."
        ) from error


def check_fit(problem: Problem, is_solved: SolvedRule, validation: Batch | None) -> None:
    """Checks by shapes alone that model, data, loss and rule fit one another."""
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
        for name, held_out, trained in zip(("x", "y"), validation, batch, strict=True):
            if held_out.shape[1] != trained.shape[1]:
                raise ValueError(
                    f"validation.{name} has {held_out.shape[1]} columns and batch.{name} has {trained.shape[1]}; "
                    f"they must be equal."
                )
        y_hat = jax.eval_shape(lambda params: model.apply(params, validation.x), params)
        try:
            value = jax.eval_shape(lambda y_hat: loss(y_hat, validation.y), y_hat)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"loss(y_hat, y) failed for the {len(validation.x)} rows of validation: {error}"
            ) from error
        if getattr(value, "shape", None) != ():
            raise ValueError(f"loss(y_hat, y) must give a real scalar for validation too, got {value}.")
