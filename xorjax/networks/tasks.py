"""Data to train on: Boolean functions as batches, one row for each input pattern.

Batches are plain NumPy arrays: making one starts no JAX backend, and a compiler can fold constants 0 and 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Shaped

from xorjax._checks import check_integer, check_real, check_real_array

AnyArray = Array | np.ndarray


class Batch(NamedTuple):
    """Inputs and targets of one dataset, one row for each pattern.

    Attributes:
      x: inputs, (n, n_in).
      y: targets, (n, n_out): 0 or 1, one-hot, or any real numbers that suit the loss.

    >>> Batch(x=np.array([[0.5, 1.0], [2.0, 3.0]]), y=np.array([[1], [0]])).y.shape
    (2, 1)
    """

    x: Shaped[AnyArray, "n n_in"]
    y: Shaped[AnyArray, "n n_out"]


def truth_table(outputs: str | Sequence[int | float] | np.ndarray) -> Batch:
    """Return the Boolean function with these outputs for the inputs 0…00, 0…01, 0…10, … in this order.

    Args:
      outputs: 2, 4, 8, … zeros and ones (or Booleans), one for each row of the table; or text such as "0110".

    Returns:
      `x` of shape (2^k, k), most significant bit first, and `y` of shape (2^k, 1), both float32.

    Raises:
      ValueError: if the number of outputs is no power of two from 2 up, or one of them is not 0 or 1.

    >>> truth_table([0, 0, 0, 1]).y.ravel()  # and
    array([0., 0., 0., 1.], dtype=float32)
    >>> truth_table("0110").y.ravel()  # exclusive or
    array([0., 1., 1., 0.], dtype=float32)
    """
    digits = isinstance(outputs, str) and set(outputs) <= {"0", "1"}
    table = np.array([digit == "1" for digit in outputs]) if digits else np.asarray(outputs)
    if table.dtype.kind not in "biuf" or not np.isin(table, (0, 1)).all():
        raise ValueError(f"{outputs=} must hold only 0 and 1.")
    if table.ndim != 1 or table.size < 2 or table.size & (table.size - 1):
        raise ValueError(
            f"outputs must be a flat list of 2, 4, 8, … values, one for each row of a truth table, "
            f"got shape {table.shape}."
        )
    n_bits = table.size.bit_length() - 1
    rows = np.arange(table.size)[:, None]
    x = rows >> np.arange(n_bits)[::-1] & 1
    return Batch(x.astype(np.float32), table[:, None].astype(np.float32))


def parity(n_bits: int) -> Batch:
    """Return the parity function: 1 where an odd number of the `n_bits` inputs are 1. `parity(2)` is XOR.

    y = (x_1 + … + x_k) mod 2.

    Args:
      n_bits: number of inputs k, 1 to 20.

    Returns:
      `x` of shape (2^k, k), most significant bit first, and `y` of shape (2^k, 1), both float32.

    Raises:
      TypeError, ValueError: if `n_bits` is not an integer from 1 to 20.

    >>> parity(3).y.ravel()
    array([0., 1., 1., 0., 1., 0., 0., 1.], dtype=float32)
    """
    n_bits = check_integer("n_bits", n_bits, 1, 20)
    return truth_table([row.bit_count() % 2 for row in range(2**n_bits)])


def xor() -> Batch:
    """Return exclusive or: 00 → 0, 01 → 1, 10 → 1, 11 → 0.

    Returns:
      `x` of shape (4, 2) and `y` of shape (4, 1), both float32.

    >>> xor().x.shape, xor().y.ravel()
    ((4, 2), array([0., 1., 1., 0.], dtype=float32))
    """
    return parity(2)


def split(batch: Batch, share: float, seed: int = 0) -> tuple[Batch, Batch]:
    """Split a batch at random into rows to train on and rows held out; both keep their order.

    Args:
      batch: at least two rows.
      share: share of the rows held out, between 0 and 1, rounded to whole rows; each side gets at least one row.
      seed: decides which rows are held out, 0 to 2^32 - 1.

    Returns:
      The batch to train on, and the batch held out.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> train, held_out = split(parity(3), 0.25)
    >>> held_out.x
    array([[0., 0., 0.],
           [0., 1., 1.]], dtype=float32)
    """
    batch, n = check_batch(batch), len(batch.x)
    if not 0 < check_real("share", share) < 1:
        raise ValueError(f"{share=} must be between 0 and 1.")
    seed = check_integer("seed", seed, 0, 2**32 - 1)
    if n < 2:
        raise ValueError(f"batch has {n} row; at least two are wanted, one on either side.")
    n_out = min(max(round(share * n), 1), n - 1)
    bits = np.random.Philox(seed).random_raw(n)  # the same in every version of NumPy
    order = np.argsort(bits, kind="stable")
    is_out = np.isin(np.arange(n), order[:n_out])
    train, held_out = (Batch(*(np.asarray(rows)[which] for rows in batch)) for which in (~is_out, is_out))
    return train, held_out


def check_batch(batch: object, name: str = "batch") -> Batch:
    """Return the batch in NumPy arrays, so that a trace sees constants; traced data stay as they are.

    Args:
      batch: inputs and targets, with one row for each example.
      name: how messages call the batch.

    Raises:
      TypeError, ValueError: if it is not two matrices of finite real numbers with equally many rows.
    """
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise TypeError(f"{name} must be a Batch(x, y), got {type(batch).__name__}.")
    checked = Batch(*(_check_matrix(f"{name}.{of}", values) for of, values in zip(("x", "y"), batch, strict=True)))
    if checked.x.shape[0] != checked.y.shape[0]:
        raise ValueError(
            f"{name}.x has {checked.x.shape[0]} rows and {name}.y has {checked.y.shape[0]}; they must be equal."
        )
    return checked


def are_classes(y: AnyArray) -> bool:
    """Whether targets are classes: 0 or 1, or one-hot.

    Args:
      y: targets of shape (n, n_out); traced targets are taken to be classes.
    """
    if isinstance(y, Tracer):
        return True
    values = np.asarray(y)
    return bool(np.isin(values, (0, 1)).all() and (values.shape[1] == 1 or (values.sum(axis=1) == 1).all()))


def _check_matrix(name: str, values: object) -> AnyArray:
    array = values if isinstance(values, Tracer) else check_real_array(name, values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be a matrix, rows and columns, not empty; it has shape {array.shape}.")
    if isinstance(array, np.ndarray) and not (finite := np.isfinite(array)).all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"{name}[{row}, {column}]={array[row, column]} must be finite.")
    return array
