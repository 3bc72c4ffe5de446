"""How a network is judged: by its loss, its accuracy, and the rules that call it solved.

Loss and accuracy are defined as in Keras, so that numbers can be compared.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from xorjax._checks import check_real

Loss = Callable[[Array, ArrayLike], Array]
SolvedRule = Callable[[Array, ArrayLike, Array], Array]


def mse(y_hat: Shaped[ArrayLike, "*rows n_out"], y: Shaped[ArrayLike, "*rows n_out"]) -> Float[Array, ""]:
    """Mean squared error: mean of (ŷ − y)² over the outputs, then over the rows; no ½ in front.

    The convention is Keras's. The literature of 1986 sums over the rows, with a ½: on n rows its gradient is n/2
    times as large.

    Args:
      y_hat: predictions, (n, n_out).
      y: targets of the same shape, converted to the dtype of the predictions.

    Raises:
      ValueError: if the shapes differ, or have fewer than two axes.

    >>> float(mse(jnp.array([[0.5], [1.0]]), jnp.array([[0.0], [1.0]])))
    0.125
    """
    y_hat, y = _match(y_hat, y)
    return jnp.mean(jnp.mean(jnp.square(y_hat - y), axis=-1))


def sigmoid_cross_entropy(
    logits: Shaped[ArrayLike, "*rows n_out"], y: Shaped[ArrayLike, "*rows n_out"]
) -> Float[Array, ""]:
    """Binary cross-entropy of sigmoid(logits), a mean over outputs and rows; computed by optax.

    −y · log σ(z) − (1 − y) · log(1 − σ(z)) for a logit z and its target y.

    For a model whose output is linear: `xj.mlp((2, 2, 1), output="linear")`. Keras calls it
    `BinaryCrossentropy(from_logits=True)`.

    Args:
      logits: outputs before the sigmoid, (n, n_out).
      y: targets from 0 to 1, of the same shape.

    Raises:
      ValueError: if the shapes differ, or have fewer than two axes.

    >>> round(float(sigmoid_cross_entropy(jnp.zeros((4, 1)), jnp.ones((4, 1)))), 4)  # log 2
    0.6931
    """
    return jnp.mean(optax.sigmoid_binary_cross_entropy(*_match(logits, y)))


def softmax_cross_entropy(
    logits: Shaped[ArrayLike, "*rows n_out"], y: Shaped[ArrayLike, "*rows n_out"]
) -> Float[Array, ""]:
    """Cross-entropy of softmax(logits), a mean over rows; computed by optax.

    −Σ_k y_k · log softmax(z)_k for the logits z of a row and its targets y.

    For a model whose output is linear, of at least two classes. Keras calls it
    `CategoricalCrossentropy(from_logits=True)`.

    Args:
      logits: outputs before the softmax, (n, n_out).
      y: one-hot targets, or shares of classes, of the same shape.

    Raises:
      ValueError: if the shapes differ, have fewer than two axes, or have only one output.

    >>> round(float(softmax_cross_entropy(jnp.zeros((1, 3)), jnp.array([[0.0, 1.0, 0.0]]))), 4)  # log 3
    1.0986
    """
    logits, y = _match(logits, y)
    if logits.shape[-1] < 2:
        raise ValueError(f"logits have shape {logits.shape}; softmax needs at least two outputs.")
    return jnp.mean(optax.softmax_cross_entropy(logits, y))


def weight_loss(
    loss: Loss,
    y_hat: Float[Array, "n n_out"],
    y: Shaped[ArrayLike, "n n_out"],
    weights: Float[ArrayLike, " n"] | None,
) -> Float[Array, ""]:
    """Return a loss, which is a mean over rows, with a weight for each row; without weights, the loss itself.

    A row of weight 0 has no influence, even if its loss or the derivative is infinite.

    Args:
      loss: a mean over rows.
      y_hat, y: predictions and targets of shape (n, n_out).
      weights: a number for each row, 0 or more; or None.
    """
    if weights is None:
        return loss(y_hat, y)
    weights = jnp.asarray(weights)
    counts = weights > 0
    y_hat = jnp.where(counts[:, None], y_hat, jnp.zeros_like(y_hat))
    each = jax.vmap(lambda row, target: loss(row[None], target[None]))(y_hat, jnp.asarray(y))
    return jnp.mean(jnp.where(counts, weights.astype(each.dtype) * each, jnp.zeros_like(each)))


def accuracy(
    y_hat: Shaped[ArrayLike, "*rows n_out"], y: Shaped[ArrayLike, "*rows n_out"], threshold: float = 0.5
) -> Float[Array, ""]:
    """Share of rows that are classified right.

    A single output stands for 1 if it is strictly above the threshold, as in Keras's BinaryAccuracy. Of several
    outputs the largest stands for the class, as in Keras's CategoricalAccuracy.

    Args:
      y_hat: predictions, (n, n_out).
      y: targets of the same shape: 0 or 1 for a single output, one-hot for several.
      threshold: 0.5 for outputs from 0 to 1; 0 for logarithms of odds, as with `sigmoid_cross_entropy`.

    Raises:
      ValueError: if the shapes differ, or have fewer than two axes.

    >>> float(accuracy(jnp.array([[0.5], [0.7], [0.2], [0.9]]), jnp.array([[1], [1], [0], [1]])))
    0.75
    """
    return jnp.mean(_is_right(*_match(y_hat, y), threshold))


def solved_by_loss(tolerance: float = 0.01, all_right: bool = True, threshold: float = 0.5) -> SolvedRule:
    """A network is solved when all rows are classified right and its loss is below `tolerance`.

    The default rule of `xj.trainer`, with a tolerance of 0.01.

    Args:
      tolerance: above 0.
      all_right: False if the loss alone decides.
      threshold: as for `accuracy`.

    Returns:
      `rule(y_hat, y, loss) -> bool scalar`, for predictions and targets (n, n_out).

    Raises:
      TypeError, ValueError: if `tolerance` is not a number above 0, or `threshold` is not a number.

    >>> y = jnp.array([[0.0], [1.0]])
    >>> bool(solved_by_loss(0.01)(jnp.array([[0.05], [0.95]]), y, 0.0025))
    True
    """
    if not check_real("tolerance", tolerance) > 0:
        raise ValueError(f"{tolerance=} must be above 0.")
    threshold = check_real("threshold", threshold)

    def rule(y_hat: Array, y: ArrayLike, loss: Array) -> Bool[Array, ""]:
        below = loss < tolerance
        return below & jnp.all(_is_right(*_match(y_hat, y), threshold)) if all_right else below

    return rule


def solved_by_40_20_40(low: float = 0.0, high: float = 1.0) -> SolvedRule:
    """A network is solved when every output lies in the 40 % of the output range nearest to its target.

    The criterion of the CMU neural network benchmarks (Fahlman 1988), the 40-20-40 rule.

    Args:
      low: the lowest output, which is the target for "off".
      high: the highest output, which is the target for "on".

    Returns:
      `rule(y_hat, y, loss) -> bool scalar`, for predictions and targets (n, n_out).

    Raises:
      TypeError, ValueError: if `low` or `high` is not a number, or `low` is not below `high`.

    >>> rule, y = solved_by_40_20_40(), jnp.array([[0.0], [1.0]])
    >>> bool(rule(jnp.array([[0.39], [0.61]]), y, 0.15)), bool(rule(jnp.array([[0.41], [0.61]]), y, 0.16))
    (True, False)
    """
    if not check_real("low", low) < check_real("high", high):
        raise ValueError(f"{low=} must be below {high=}.")

    def rule(y_hat: Array, y: ArrayLike, loss: Array) -> Bool[Array, ""]:
        y_hat, y = _match(y_hat, y)
        on = y > (low + high) / 2
        return jnp.all(jnp.where(on, y_hat > low + 0.6 * (high - low), y_hat < low + 0.4 * (high - low)))

    return rule


def _is_right(y_hat: Array, y: Array, threshold: float) -> Bool[Array, " *rows"]:
    if y.shape[-1] == 1:
        return ((y_hat > threshold).astype(y.dtype) == y)[..., 0]
    return jnp.argmax(y_hat, axis=-1) == jnp.argmax(y, axis=-1)


def _match(y_hat: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Predictions and targets as arrays of one float dtype, if their shapes are equal and (…, n, n_out)."""
    y_hat = jnp.asarray(y_hat)
    if jnp.shape(y) != y_hat.shape:
        raise ValueError(f"y_hat has shape {y_hat.shape} and y has shape {jnp.shape(y)}; they must be equal.")
    if y_hat.ndim < 2:
        raise ValueError(f"y_hat and y have shape {y_hat.shape}; they must have two axes, (n, n_out).")
    if not jnp.issubdtype(y_hat.dtype, jnp.floating):
        y_hat = y_hat.astype(jnp.result_type(float))
    return y_hat, jnp.asarray(y, y_hat.dtype)
