"""The data that tiny networks are trained on: Boolean functions as batches, one row a pattern.

Plain NumPy constants: making one starts no JAX backend, and a compiler that meets 0 and 1 can fold them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Shaped

from xorjax._checks import check_integer, check_real, check_real_array

AnyArray = Array | np.ndarray


class Batch(NamedTuple):
    """Inputs and targets of one dataset, a row a pattern.

    Attributes:
      x: inputs, (n, n_in).
      y: targets, (n, n_out): 0 or 1, one-hot, or whatever real numbers the loss takes.

    >>> Batch(x=np.array([[0.5, 1.0], [2.0, 3.0]]), y=np.array([[1], [0]])).y.shape
    (2, 1)
    """

    x: Shaped[AnyArray, "n n_in"]
    y: Shaped[AnyArray, "n n_out"]


def truth_table(outputs: Sequence[Any] | np.ndarray) -> Batch:
    """The Boolean function with these outputs, for the inputs 0…00, 0…01, 0…10, … in this order.

    Args:
      outputs: 2, 4, 8, … zeros and ones (or Booleans), one for each row of the table.

    Returns:
      `x` of shape (2^k, k), most significant bit first, and `y` of shape (2^k, 1), both float32.

    Raises:
      ValueError: if the number of outputs is no power of two from 2 up, or one of them is not 0 or 1.

    >>> truth_table([0, 0, 0, 1]).y.ravel()  # and
    array([0., 0., 0., 1.], dtype=float32)
    """
    table = np.asarray(outputs)
    if table.ndim != 1 or table.size < 2 or table.size & (table.size - 1):
        raise ValueError(
            f"outputs must be a flat list of 2, 4, 8, … values, one for each row of a truth table, "
            f"got shape {table.shape}."
        )
    if table.dtype.kind not in "biuf" or not np.isin(table, (0, 1)).all():
        raise ValueError(f"{outputs=} must hold only 0 and 1.")
    n_bits = table.size.bit_length() - 1
    rows = np.arange(table.size)[:, None]
    x = rows >> np.arange(n_bits)[::-1] & 1
    return Batch(x.astype(np.float32), table[:, None].astype(np.float32))


def parity(n_bits: int) -> Batch:
    """1 where an odd number of the `n_bits` inputs are 1; `parity(2)` is XOR.

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
    """Exclusive or: 00 → 0, 01 → 1, 10 → 1, 11 → 0.

    Returns:
      `x` of shape (4, 2) and `y` of shape (4, 1), both float32.

    >>> xor().x.shape, xor().y.ravel()
    ((4, 2), array([0., 1., 1., 0.], dtype=float32))
    """
    return parity(2)


def split(batch: Batch, share: float, seed: int = 0) -> tuple[Batch, Batch]:
    """Rows to train on, and rows held out, drawn at random; both in their order.

    Args:
      batch: at least two rows.
      share: of the rows held out, between 0 and 1, rounded to whole rows; at least one is left on either side.
      seed: which rows, 0 to 2^32 - 1.

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
    bits = np.random.Philox(seed).random_raw(n)  # which no version of NumPy changes
    order = np.argsort(bits, kind="stable")
    is_out = np.isin(np.arange(n), order[:n_out])
    train, held_out = (Batch(*(np.asarray(rows)[which] for rows in batch)) for which in (~is_out, is_out))
    return train, held_out


def check_batch(batch: Any, name: str = "batch") -> Batch:
    """The batch in NumPy arrays, so that a trace sees constants; tracers pass, for data that is an argument.

    Raises:
      TypeError, ValueError: if it is not two matrices of finite real numbers with as many rows each.
    """
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise TypeError(f"{name} must be a Batch(x, y), got {type(batch).__name__}.")
    checked = Batch(*(_checked(f"{name}.{of}", values) for of, values in zip(("x", "y"), batch, strict=True)))
    if checked.x.shape[0] != checked.y.shape[0]:
        raise ValueError(
            f"{name}.x has {checked.x.shape[0]} rows and {name}.y has {checked.y.shape[0]}; they must be equal."
        )
    return checked


def are_classes(y: AnyArray) -> bool:
    """Whether targets are classes, as `accuracy` reads them: 0 or 1, or one-hot; traced ones are taken to be."""
    if isinstance(y, Tracer):
        return True
    values = np.asarray(y)
    return bool(np.isin(values, (0, 1)).all() and (values.shape[1] == 1 or (values.sum(axis=1) == 1).all()))


def _checked(name: str, values: Any) -> Any:
    array = values if isinstance(values, Tracer) else check_real_array(name, values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be a matrix, rows and columns, not empty; it has shape {array.shape}.")
    if isinstance(array, np.ndarray) and not (finite := np.isfinite(array)).all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"{name}[{row}, {column}]={array[row, column]} must be finite.")
    return array
