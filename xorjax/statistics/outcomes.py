"""How members end, by counts: outcome classes of their predictions, and solutions of their hidden units."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from xorjax._checks import check_choice, check_integer, check_real_array
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices
from xorjax.networks.tasks import AnyArray
from xorjax.statistics.grouping import CONDITIONS, OfMembers, evaluate
from xorjax.training.results import Result

Key = TypeVar("Key", str, tuple[str, ...])
ROUNDED = {"0": 0.0, "⅓": 1 / 3, "½": 0.5, "⅔": 2 / 3, "1": 1.0}
_SYMBOLS, _HALF, _ONE = tuple(ROUNDED), 2, 4
CLASSES = (
    "not a number",
    "at the targets",
    "all at ½",
    "stuck at ½, the rest at the targets",
    "stuck at ⅔ or ⅓, the rest at the targets",
    "all right, short of the targets",
    "elsewhere",
)


class OutcomeClass(NamedTuple):
    """Members that ended alike.

    Attributes:
      name: one of `CLASSES`.
      number: members.
      patterns: rounded predictions, such as "0 1 1 0", and how many members have them, commonest first.
    """

    name: str
    number: int
    patterns: dict[str, int]


def classify_outcomes(
    predictions: Float[ArrayLike, "members n 1"], targets: Float[ArrayLike, "n 1"]
) -> Int[np.ndarray, " members"]:
    """Return the outcome class of each member: the first of `CLASSES` that holds.

    Predictions are rounded to the nearest of 0, ⅓, ½, ⅔, 1. These are the outputs of a sigmoid network with mean
    squared error at the targets of a Boolean function and at its plateaus, where the rows that the network does
    not tell apart get the mean of their targets: on XOR two rows at ½, three at ⅔ or ⅓, or all four at ½.

    Args:
      predictions: of members, (members, n, 1).
      targets: (n, 1), 0 or 1.

    Returns:
      Indices in `CLASSES`, (members,).

    Raises:
      ValueError: if the shapes do not fit, or a target is not 0 or 1.

    >>> CLASSES[classify_outcomes([[[0.1], [0.5], [0.9], [0.5]]], [[0], [1], [1], [0]])[0]]
    'stuck at ½, the rest at the targets'
    """
    predictions, targets = np.asarray(predictions), np.asarray(targets)
    if predictions.ndim != 3 or predictions.shape[1:] != targets.shape or targets.shape[1] != 1:
        raise ValueError(
            f"predictions have shape {predictions.shape} and targets {targets.shape}; "
            f"they must be (members, n, 1) and (n, 1)."
        )
    if not np.isin(targets, (0, 1)).all():
        raise ValueError("targets must be 0 or 1.")
    outputs, is_one = predictions[..., 0].astype(np.float64), targets[:, 0] == 1
    rounded = _round(outputs)
    off = rounded != np.where(is_one, _ONE, 0)
    n_off = off.sum(axis=1)
    plateau = _round((off & is_one).sum(axis=1) / np.maximum(n_off, 1))
    is_stuck = (n_off > 1) & (~off | (rounded == plateau[:, None])).all(axis=1)
    holds = [
        np.isnan(outputs).any(axis=1),
        n_off == 0,
        is_stuck & (plateau == _HALF) & (n_off == len(is_one)),
        is_stuck & (plateau == _HALF),
        is_stuck,
        ((outputs > 0.5) == is_one).all(axis=1),
        np.ones(len(outputs), bool),
    ]
    return np.argmax(holds, axis=0)


def count_outcomes(
    predictions: Float[ArrayLike, "members n 1"], targets: Float[ArrayLike, "n 1"]
) -> list[OutcomeClass]:
    """Count the members of each outcome class, and their rounded predictions.

    Args:
      predictions: of members, (members, n, 1).
      targets: (n, 1), 0 or 1.

    Returns:
      The classes that occur, largest first.

    Raises:
      ValueError: as for `classify_outcomes`.

    >>> count_outcomes([[[0.1], [0.9]], [[0.2], [0.9]]], [[0], [1]])
    [OutcomeClass(name='at the targets', number=1, patterns={'0 1': 1}), \
OutcomeClass(name='all right, short of the targets', number=1, patterns={'⅓ 1': 1})]
    """
    return _to_classes(_count_patterns(predictions, targets))


def classes(targets: AnyArray, *, max_patterns: int | None = None) -> Accumulator:
    """Outcome classes by the pattern of the final predictions, see `classify_outcomes`.

    Args:
      targets: those of the batch, (n, 1), 0 or 1.
      max_patterns: of each class at most this number of patterns is kept, the most frequent so far, so that memory
        is bounded for tasks of many rows too. (A pattern may then be missing, and another counted too low.)

    Returns:
      An accumulator of a list of `OutcomeClass`, largest first.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1), kernel_init="zeros"), xj.xor(), optax.sgd(0.1), epochs=5)
    >>> xj.train_ensemble(trainer, range(10), reduce=classes(xj.xor().y))
    [OutcomeClass(name='all at ½', number=10, patterns={'½ ½ ½ ½': 10})]
    """
    classify_outcomes(np.empty((0, *np.shape(targets))), targets)  # raises, and says what is wrong
    limit = None if max_patterns is None else check_integer("max_patterns", max_patterns, 1, 2**31)

    def merge(one: _Patterns, other: _Patterns) -> _Patterns:
        both = dict(one)
        for name, (number, patterns) in other.items():
            before, known = one.get(name, (0, Counter()))
            counts = known + patterns
            is_too_many = limit is not None and len(counts) > limit
            both[name] = before + number, Counter(dict(counts.most_common(limit))) if is_too_many else counts
        return both

    def update(gathered: _Patterns, results: Result, indices: AxisIndices) -> _Patterns:
        return merge(gathered, _count_patterns(results.predictions, targets))

    return Accumulator(lambda members: {}, update, merge, _to_classes)


_Patterns = Mapping[str, tuple[int, Counter[str]]]  # by class: members, and how many have which pattern


def _round(outputs: np.ndarray) -> np.ndarray:
    """Indices in `ROUNDED`."""
    return np.abs(outputs[..., None] - np.array(list(ROUNDED.values()))).argmin(axis=-1).astype(np.int8)


def _count_patterns(predictions: ArrayLike, targets: ArrayLike) -> _Patterns:
    ended_as = classify_outcomes(predictions, targets)
    rounded = _round(np.asarray(predictions)[..., 0].astype(np.float64))
    counts: dict[str, tuple[int, Counter[str]]] = {}
    for i in np.unique(ended_as).tolist():
        rows, numbers = np.unique(rounded[ended_as == i], axis=0, return_counts=True)
        names = [" ".join(_SYMBOLS[code] for code in row) for row in rows.tolist()]
        counts[CLASSES[i]] = int(numbers.sum()), Counter(dict(zip(names, numbers.tolist(), strict=True)))
    return counts


def _to_classes(counts: _Patterns) -> list[OutcomeClass]:
    found = [OutcomeClass(name, number, _sort(patterns)) for name, (number, patterns) in counts.items()]
    return sorted(found, key=lambda c: (-c.number, CLASSES.index(c.name)))


def hidden_units(x: AnyArray, *, odd: bool = False, of: str | OfMembers | None = "solved") -> Accumulator:
    """Solutions of the first hidden layer, up to the symmetries of the network, with counts.

    A unit is described by the rows for which its weighted sum is above 0. The order of the units makes no
    difference; nor does the sign of a unit where the activation is odd, such as tanh.

    Args:
      x: inputs (n, n_in), at most 62 rows.
      odd: whether the activation is odd.
      of: which members to count: "solved", …, or a function as for `share`; None is all of them.

    Returns:
      An accumulator of a dictionary, commonest first: for each solution, the units in ascending order, each as a
      text of 0 and 1 by row, to the number of members that have it.

    Raises:
      ValueError: if there are too many rows.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1), kernel_init="zeros"), xj.xor(), optax.sgd(0.1), epochs=5)
    >>> xj.train_ensemble(trainer, range(10), reduce=hidden_units(xj.xor().x, of=None))
    {('0000', '0000'): 10}
    """
    x = check_real_array("x", x)
    n = len(x) if x.ndim == 2 else 0
    if not 0 < n <= 62:
        raise ValueError(f"x has shape {x.shape}; it must be (n, n_in), with 1 to 62 rows.")
    condition = of if of is None or callable(of) else check_choice("of", of, CONDITIONS)
    weights = np.int64(1) << np.arange(n, dtype=np.int64)[::-1]

    def update(gathered: _Units, results: Result, indices: AxisIndices) -> _Units:
        layer = results.params[0]
        kernel, bias = (np.asarray(leaf, np.float64) for leaf in layer)
        if kernel.shape[1] != x.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns; the networks have {kernel.shape[1]} inputs.")
        if condition is not None:
            chosen = evaluate(condition, results, bool)
            kernel, bias = kernel[chosen], bias[chosen]
        above = x @ kernel + bias[:, None, :] > 0
        units = np.einsum("mnh,n->mh", above, weights)
        if odd:
            units = np.minimum(units, 2**n - 1 - units)
        different, counts = np.unique(np.sort(units, axis=1), axis=0, return_counts=True)
        return gathered + Counter(dict(zip(map(tuple, different.tolist()), counts.tolist(), strict=True)))

    def finalize(gathered: _Units) -> dict[tuple[str, ...], int]:
        return _sort({tuple(f"{unit:0{n}b}" for unit in units): count for units, count in gathered.items()})

    return Accumulator(lambda members: Counter(), update, lambda one, other: one + other, finalize)


_Units = Counter[tuple[int, ...]]


def _sort(counts: Mapping[Key, int]) -> dict[Key, int]:
    """Counts with the commonest key first."""
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
