"""The records of a network in training: what is recorded, and at which epochs."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float, PyTree

from xorjax._checks import check_choice, check_integer, check_real
from xorjax.networks.models import Params
from xorjax.networks.tasks import AnyArray
from xorjax.training.results import History

Epochs = range | tuple[int, ...]
MAX_EPOCHS = 2**30
EXTRAS = ("predictions", "params", "gradient_norm")


@runtime_checkable
class Where(Protocol):
    """`jnp.where` or `np.where`."""

    def __call__(self, condition: Bool[AnyArray, "..."], x: AnyArray, y: AnyArray, /) -> AnyArray: ...


class Record(NamedTuple):
    """A network at the start of an epoch, before its update; None stands for what is not recorded.

    Attributes:
      loss: on the batch, a scalar.
      accuracy: share of rows that are classified right, a scalar.
      predictions: outputs for the rows of the batch, (n, n_out).
      params: the model's parameters.
      gradient_norm: Euclidean norm of the gradient of the loss on the whole batch, a scalar.
      observed: what the trainer's `observe` returned.
    """

    loss: Float[AnyArray, ""] | None
    accuracy: Float[AnyArray, ""] | None
    predictions: Float[AnyArray, "n n_out"] | None = None
    params: Params | None = None
    gradient_norm: Float[AnyArray, ""] | None = None
    observed: PyTree = None


def log_spaced(epochs: int, per_decade: float = 3) -> list[int]:
    """Return epochs for `record_at` that are evenly spaced on a logarithmic axis: 0, and then 1 to `epochs`.

    Args:
      epochs: the last epoch, 1 to 2^30.
      per_decade: how many epochs from one power of ten to the next, above 0. The first decades have fewer, since
        an epoch is listed once.

    Returns:
      Epochs in ascending order: the integers next to 10^(i / per_decade), i = 0, 1, 2, …

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> log_spaced(1000)
    [0, 1, 2, 5, 10, 22, 46, 100, 215, 464, 1000]
    """
    epochs = check_integer("epochs", epochs, 1, MAX_EPOCHS)
    if not 0 < check_real("per_decade", per_decade) <= 2**20:
        raise ValueError(f"{per_decade=} must be above 0, and at most 2**20.")
    powers = np.arange(np.ceil(per_decade * np.log10(epochs))) / per_decade
    return [0, *np.unique([*np.rint(10.0**powers).astype(int), epochs]).tolist()]


def check_recorded_epochs(record_every: int | None, record_at: Any, epochs: int) -> Epochs | None:
    """Return the epochs to record, or None.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if record_every is not None:
        if record_at is not None:
            raise ValueError(f"{record_every=} and {record_at=} are given; one of them must be None.")
        return range(0, epochs, check_integer("record_every", record_every, 1, epochs, "epochs"))
    if record_at is None:
        return None
    if isinstance(record_at, str) or not isinstance(record_at, Sequence | np.ndarray) or np.ndim(record_at) == 0:
        raise TypeError(f"{record_at=} must be a list of epochs, such as xj.training.log_spaced({epochs}).")
    at = tuple(check_integer(f"record_at[{i}]", epoch, 0, epochs, "epochs") for i, epoch in enumerate(record_at))
    if not at or sorted(set(at)) != list(at):
        raise ValueError(f"{record_at=} must hold at least one epoch, in ascending order.")
    return at


def check_extras(record: Any, observe: Any, recorded: Epochs | None) -> tuple[str, ...]:
    """Return the names of what is recorded besides loss and accuracy.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if isinstance(record, str) or not isinstance(record, Sequence):
        raise TypeError(f"{record=} must be a list of names, such as ['params'].")
    for name in record:
        check_choice("record", name, dict.fromkeys(EXTRAS))
    if observe is not None and not callable(observe):
        raise TypeError(f"{observe=} must be a function of params and hparams.")
    if recorded is None and (record or observe is not None):
        given = f"{record=}" if record else f"{observe=}"
        raise ValueError(f"{given} would have no effect: say when, by record_every or record_at.")
    return tuple(record)


def build_history(
    recorded: Epochs, records: Record, final: Record, epochs: AnyArray, where: Where = np.where
) -> History:
    """Return the records as a history; from the end of a network's training on, records are its final values.

    Args:
      recorded: the epochs recorded.
      records: the records of these epochs; the axis of records comes after the axes of `epochs`.
      final: the record of each network after its training.
      epochs: how many epochs each network trained, a scalar or (members,).
      where: NumPy's `where`, or JAX's where values are traced.
    """
    at = np.asarray(recorded, np.int32)
    has_ended = at >= epochs[..., None]

    def end_with(values: AnyArray, last: AnyArray) -> AnyArray:
        ended = has_ended.reshape(*has_ended.shape, *[1] * (values.ndim - has_ended.ndim))
        return where(ended, last[(slice(None),) * (has_ended.ndim - 1) + (None,)], values)

    return History(at, *jax.tree.map(end_with, records, final))
