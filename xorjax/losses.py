"""What a network is judged by: its loss, its accuracy, and the rules that call it solved.

Loss and accuracy are defined as Keras defines them, so that the numbers of the two can be compared.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from xorjax._checks import real_number

Loss = Callable[[Array, ArrayLike], Array]
SolvedRule = Callable[[Array, ArrayLike, Array], Array]


def mse(y_hat: Shaped[ArrayLike, "*rows n_out"], y: Shaped[ArrayLike, "*rows n_out"]) -> Float[Array, ""]:
    """Mean squared error: mean of (ŷ − y)² over the outputs, then over the rows; no ½ in front.

    The convention is Keras's. The literature of 1986 sums over the rows, with a ½: its gradient on n rows is
    n/2 times this one's.

    Args:
      y_hat: predictions, (n, n_out).
      y: targets of the same shape, converted to the dtype of the predictions.

    Raises:
      ValueError: if the shapes differ, or have fewer than two axes.

    >>> float(mse(jnp.array([[0.5], [1.0]]), jnp.array([[0.0], [1.0]])))
    0.125
    """
    y_hat, y = _alike(y_hat, y)
    return jnp.mean(jnp.mean(jnp.square(y_hat - y), axis=-1))


def accuracy(y_hat: Shaped[ArrayLike, "*rows n_out"], y: Shaped[ArrayLike, "*rows n_out"]) -> Float[Array, ""]:
    """Share of rows that are classified right.

    One output: it stands for 1 strictly above 0.5, as in Keras's BinaryAccuracy. More outputs: the largest
    stands for the class, as in Keras's CategoricalAccuracy.

    Args:
      y_hat: predictions, (n, n_out).
      y: targets of the same shape; one output: 0 or 1; more: one-hot.

    Raises:
      ValueError: if the shapes differ, or have fewer than two axes.
    """
    return jnp.mean(_right(*_alike(y_hat, y)))


def solved_by_loss(tolerance: float = 0.01, all_right: bool = True) -> SolvedRule:
    """A network is solved when its loss is below `tolerance` and, with `all_right`, every row classified right.

    Raises:
      TypeError, ValueError: if `tolerance` is not a number above 0.
    """
    if not real_number("tolerance", tolerance) > 0:
        raise ValueError(f"{tolerance=} must be above 0.")

    def rule(y_hat: Array, y: ArrayLike, loss: Array) -> Bool[Array, ""]:
        below = loss < tolerance
        return below & jnp.all(_right(*_alike(y_hat, y))) if all_right else below

    return rule


def solved_by_40_20_40(low: float = 0.0, high: float = 1.0) -> SolvedRule:
    """A network is solved when every output lies in the 40 % of the output range nearest to its target.

    The criterion of the CMU neural network benchmarks (Fahlman 1988), the 40-20-40 rule.

    Args:
      low: the least value of the outputs, and their target for "off".
      high: the largest value of the outputs, and their target for "on".

    Raises:
      TypeError, ValueError: if they are not numbers, or `low` is not below `high`.
    """
    if not real_number("low", low) < real_number("high", high):
        raise ValueError(f"{low=} must be below {high=}.")

    def rule(y_hat: Array, y: ArrayLike, loss: Array) -> Bool[Array, ""]:
        y_hat, y = _alike(y_hat, y)
        on = y > (low + high) / 2
        return jnp.all(jnp.where(on, y_hat > low + 0.6 * (high - low), y_hat < low + 0.4 * (high - low)))

    return rule


def _right(y_hat: Array, y: Array) -> Bool[Array, " *rows"]:
    if y.shape[-1] == 1:
        return ((y_hat > 0.5).astype(y.dtype) == y)[..., 0]
    return jnp.argmax(y_hat, axis=-1) == jnp.argmax(y, axis=-1)


def _alike(y_hat: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    y_hat = jnp.asarray(y_hat)
    if jnp.shape(y) != y_hat.shape:
        raise ValueError(f"y_hat has shape {y_hat.shape} and y has shape {jnp.shape(y)}; they must be equal.")
    if y_hat.ndim < 2:
        raise ValueError(f"y_hat and y have shape {y_hat.shape}; they must have two axes, (n, n_out).")
    if not jnp.issubdtype(y_hat.dtype, jnp.floating):
        y_hat = y_hat.astype(jnp.result_type(float))
    return y_hat, jnp.asarray(y, y_hat.dtype)
