"""What an ensemble says as a whole: shares with intervals, quantiles, survival, what the members ended as.

NumPy and SciPy on results that are on the host; takes arrays, not ensembles, so that any part can be asked.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int


class Proportion(NamedTuple):
    """A share of members, with an interval.

    Attributes:
      number: members for which it holds.
      total: members.
      low: lower end of the interval.
      high: upper end of it.
    """

    number: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """number / total."""
        return self.number / self.total


def proportion(holds: Bool[ArrayLike, " members"], confidence: float = 0.95) -> Proportion:
    """Share of members for which something holds, with Wilson's score interval (Wilson 1927; SciPy's).

    Args:
      holds: for each member, (members,).
      confidence: of the interval, between 0 and 1.

    Raises:
      ValueError: if there are no members.

    >>> p = proportion(np.array([True] * 57 + [False] * 43))
    >>> p.share, round(p.low, 3), round(p.high, 3)
    (0.57, 0.472, 0.663)
    """
    holds = np.asarray(holds, bool)
    if holds.size == 0:
        raise ValueError("holds must have at least one member, got none.")
    count = int(holds.sum())
    return Proportion(count, holds.size, *interval(count, holds.size, confidence))


def interval(number: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of so many (Wilson 1927; SciPy's).

    Args:
      number: members for which it holds.
      total: members.
      confidence: of the interval, between 0 and 1.

    Raises:
      ValueError: if `number` is above `total`, or there are no members.

    >>> low, high = interval(0, 100)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.037)
    """
    from scipy import stats  # an extra, and slow to import

    found = stats.binomtest(number, total).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def percent(share: float) -> str:
    """Return a share as a text in percent.

    Args:
      share: between 0 and 1.

    >>> percent(0.57281)
    '57.3 %'
    """
    return f"{100 * share:.1f} %"


def quantile_ranks(at: Sequence[float], total: int) -> Int[np.ndarray, " at"]:
    """From 1: which of the ordered values of so many members is the least that these shares do not exceed.

    Args:
      at: shares between 0 and 1.
      total: members.

    >>> quantile_ranks([0.0, 0.07, 0.5, 1.0], 100)
    array([  1,   7,  50, 100])
    """
    exact = np.round(np.asarray(at, np.float64) * total, 6)  # 0.07 of 100 is the 7th
    return np.maximum(1, np.ceil(exact)).astype(int)


def quantiles(values: Float[ArrayLike, " members"], at: Sequence[float]) -> Float[np.ndarray, " at"]:
    """Quantiles over members: the least value that this share of them does not exceed, a member's own.

    A loss that is not a number counts as the largest, as infinity does.

    Args:
      values: of members, (members,).
      at: shares between 0 and 1.

    Raises:
      ValueError: if there are no members, or more than one axis.

    >>> quantiles([0.3, 0.1, np.nan, 0.2], [0.5, 1.0])
    array([0.2, inf])
    """
    if np.ndim(values) != 1:
        raise ValueError(f"values have shape {np.shape(values)}; they must have one axis, of members.")
    ordered = np.sort(np.where(np.isnan(values), np.inf, values).astype(np.float64))
    if ordered.size == 0:
        raise ValueError("values must have at least one member, got none.")
    return ordered[quantile_ranks(at, ordered.size) - 1]


def epochs_to_solve(solved_epoch: Int[ArrayLike, " members"], at: Sequence[float]) -> Float[np.ndarray, " at"]:
    """Epochs within which these shares of all members first met the solved rule; infinite if fewer ever did.

    Args:
      solved_epoch: epochs of each member, -1 if it never did, (members,).
      at: shares between 0 and 1.

    Raises:
      ValueError: if there are no members.

    >>> epochs_to_solve([120, -1, 80, 300], [0.5, 0.9])
    array([120.,  inf])
    """
    solved_epoch = np.asarray(solved_epoch)
    return quantiles(np.where(solved_epoch < 0, np.inf, solved_epoch), at)


class SurvivalCurve(NamedTuple):
    """Share of members not solved after each of these epochs; constant from epoch to epoch.

    Attributes:
      epoch: in ascending order, from 0, (steps,).
      unsolved: share of members, (steps,).
    """

    epoch: Float[np.ndarray, " steps"]
    unsolved: Float[np.ndarray, " steps"]


def survival_curve(solved_epoch: Int[ArrayLike, " members"], epochs: int) -> SurvivalCurve:
    """The Kaplan-Meier estimate, members that never met the rule being censored at `epochs` (SciPy's ecdf).

    Args:
      solved_epoch: epochs of each member, -1 if it never did, (members,).
      epochs: for which all were trained.

    >>> curve = survival_curve([20, -1, 20, 30], epochs=100)
    >>> curve.epoch[:3], curve.unsolved[:3]
    (array([ 0., 20., 30.]), array([1.  , 0.5 , 0.25]))
    """
    solved_epoch = np.asarray(solved_epoch)
    ever = solved_epoch >= 0
    if not ever.any():  # SciPy needs an event to make a curve of
        return SurvivalCurve(np.array([0.0, epochs]), np.ones(2))
    from scipy import stats  # an extra, and slow to import

    data = stats.CensoredData(
        uncensored=solved_epoch[ever].astype(float), right=np.full((~ever).sum(), float(epochs))
    )
    curve = stats.ecdf(data).sf
    inside = curve.quantiles <= epochs
    return SurvivalCurve(
        np.concatenate([[0.0], curve.quantiles[inside], [epochs]]),
        np.concatenate([[1.0], curve.probabilities[inside], curve.probabilities[inside][-1:]]),
    )


class OutcomeClass(NamedTuple):
    """Members that ended alike.

    Attributes:
      name: one of `CLASSES`.
      number: members.
      patterns: of their rounded predictions, such as "0 1 1 0", to the members that have them, commonest first.
    """

    name: str
    number: int
    patterns: dict[str, int]


ROUNDED = {"0": 0.0, "⅓": 1 / 3, "½": 0.5, "⅔": 2 / 3, "1": 1.0}
_SYMBOLS = np.array(list(ROUNDED))


def outcome_classes(
    predictions: Float[ArrayLike, "members n 1"], targets: Float[ArrayLike, "n 1"]
) -> list[OutcomeClass]:
    """What members ended as, by their predictions rounded to the nearest of 0, ⅓, ½, ⅔, 1.

    These are the outputs of a sigmoid network with mean squared error at the targets of a Boolean function and
    at its plateaus, where the rows that the network does not tell apart get the mean of their targets: on XOR
    two rows at ½, three at ⅔ or ⅓, or all four at ½.

    Args:
      predictions: of members, (members, n, 1).
      targets: (n, 1), 0 or 1.

    Returns:
      The classes that occur, largest first.

    Raises:
      ValueError: if the shapes do not fit, or a target is not 0 or 1.

    >>> outcome_classes([[[0.1], [0.5], [0.9], [0.5]]], [[0], [1], [1], [0]])[0].name
    'stuck at ½, the rest at the targets'
    """
    ended_as = class_of_each(predictions, targets)
    rounded = _rounded(np.asarray(predictions)[..., 0].astype(np.float64))
    classes = [
        OutcomeClass(name, int(members.sum()), _counted(rounded[members]))
        for i, name in enumerate(CLASSES)
        if (members := ended_as == i).any()
    ]
    return sorted(classes, key=lambda c: -c.number)


CLASSES = (
    "not a number",
    "at the targets",
    "all at ½",
    "stuck at ½, the rest at the targets",
    "stuck at ⅔ or ⅓, the rest at the targets",
    "all right, short of the targets",
    "elsewhere",
)


def class_of_each(
    predictions: Float[ArrayLike, "members n 1"], targets: Float[ArrayLike, "n 1"]
) -> Int[np.ndarray, " members"]:
    """Which of `CLASSES` each member ended as: the first that holds.

    Args:
      predictions, targets: as for `outcome_classes`.

    Returns:
      Places in `CLASSES`, (members,).

    Raises:
      ValueError: if the shapes do not fit, or a target is not 0 or 1.

    >>> CLASSES[class_of_each([[[0.1], [0.9]]], [[0], [1]])[0]]
    'at the targets'
    """
    predictions, targets = np.asarray(predictions), np.asarray(targets)
    if predictions.ndim != 3 or predictions.shape[1:] != targets.shape or targets.shape[1] != 1:
        raise ValueError(
            f"predictions have shape {predictions.shape} and targets {targets.shape}; "
            f"they must be (members, n, 1) and (n, 1)."
        )
    if not np.isin(targets, (0, 1)).all():
        raise ValueError("targets must be 0 or 1.")
    outputs, ones = predictions[..., 0].astype(np.float64), targets[:, 0] == 1
    rounded = _rounded(outputs)
    off = rounded != np.where(ones, "1", "0")
    n_off = off.sum(axis=1)
    plateau = _rounded((off & ones).sum(axis=1) / np.maximum(n_off, 1))
    stuck = (n_off > 1) & (~off | (rounded == plateau[:, None])).all(axis=1)
    holds = [
        np.isnan(outputs).any(axis=1),
        n_off == 0,
        stuck & (plateau == "½") & (n_off == len(ones)),
        stuck & (plateau == "½"),
        stuck,
        ((outputs > 0.5) == ones).all(axis=1),
        np.ones(len(outputs), bool),
    ]
    return np.argmax(holds, axis=0)


def _rounded(outputs: np.ndarray) -> np.ndarray:
    return _SYMBOLS[np.abs(outputs[..., None] - np.array(list(ROUNDED.values()))).argmin(axis=-1)]


def _counted(patterns: np.ndarray) -> dict[str, int]:
    rows, counts = np.unique(patterns, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {" ".join(rows[i]): int(counts[i]) for i in order}


def share_better(loss: float, losses: Float[ArrayLike, " members"]) -> float:
    """Share of members whose loss is above `loss` (or no number): what a single result is better than.

    Args:
      loss: of the single result.
      losses: of members, (members,).

    >>> share_better(0.1, [0.05, 0.2, 0.3, np.nan])
    0.75
    """
    return float(np.mean(~(np.asarray(losses) <= loss)))
