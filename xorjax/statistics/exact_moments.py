"""Mean and variance, by sums without rounding, so that no order of adding values changes a bit.

A sum of floats, or of their squares, is a long integer in limbs of 32 bits, wide enough for the square of every
finite float64 (Kulisch's accumulator): adding is exact, and carrying makes equal sums equal arrays.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from xorjax._checks import check_choice
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import AxisIndices, Members
from xorjax.statistics.grouping import VALUES, Groups, OfMembers, check_axes, evaluate, group_members
from xorjax.training.results import Result

LIMB = 32  # bits
DIGITS = 53  # of a float64; the least one is 2^-1074
SCALE = 2 * (1073 + DIGITS)  # the last bit of a sum stands for 2^-SCALE
N_LIMBS = 138  # 2^(138 · 32 - SCALE) is beyond 2^100 times the largest square


class Moments(NamedTuple):
    """Mean and variance over members; arrays with an axis for each of `by`.

    Attributes:
      number: members whose value is finite.
      excluded: members whose value is infinite or not a number.
      mean: Σ value / number; nan if number is 0.
      variance: Σ (value − mean)² / (number − 1); nan if number is 0 or 1.
    """

    number: Int[np.ndarray, "*groups"]
    excluded: Int[np.ndarray, "*groups"]
    mean: Float[np.ndarray, "*groups"]
    variance: Float[np.ndarray, "*groups"]


def moments(of: str | OfMembers = "loss", *, by: Sequence[str] = ()) -> Accumulator:
    """Mean and variance of a value, over the members for which it is finite.

    Values and their squares are summed exactly, and rounded once, at the end.

    Args:
      of: "loss", "accuracy", "epochs", "validation_loss", "validation_accuracy", or a function from results to a
        real number for each member.
      by: the axes to keep; without them, all members are one group.

    Returns:
      An accumulator of `Moments`.

    Raises:
      ValueError: if `of` names nothing.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> members = xj.grid(seeds=range(10), learning_rate=[0.1, 1.0])
    >>> xj.train_ensemble(trainer, members, reduce=moments("epochs", by=["learning_rate"])).mean
    array([5., 5.])
    """
    by = check_axes(by)
    value = of if callable(of) else check_choice("of", of, VALUES)

    def init(members: Members) -> Gathered:
        groups = group_members(members, by)
        return groups, (np.zeros((2, groups.number), np.int64), zero_sums(2 * groups.number))

    def update(gathered: Gathered, results: Result, indices: AxisIndices) -> Gathered:
        groups, (counts, sums) = gathered
        values, group = evaluate(value, results, np.float64), groups.locate(indices)
        finite = np.isfinite(values)
        new = np.stack([np.bincount(group[where], minlength=groups.number) for where in (finite, ~finite)])
        values, group = values[finite], group[finite]
        sums = add_values(sums, values, group)
        return groups, (counts + new, add_squares(sums, values, group + groups.number))

    def merge(one: Gathered, other: Gathered) -> Gathered:
        groups, (counts, sums) = one
        return groups, (counts + other[1][0], carry(sums + other[1][1]))

    def finalize(gathered: Gathered) -> Moments:
        groups, ((number, excluded), sums) = gathered
        mean, variance = np.full((2, groups.number), np.nan)
        for i, n in enumerate(map(int, number)):
            total, squares = to_fraction(sums[i]), to_fraction(sums[groups.number + i])
            if n > 0:
                mean[i] = _to_float(total / n)
            if n > 1:
                variance[i] = _to_float((squares - total**2 / n) / (n - 1))
        return Moments(*(each.reshape(groups.shape) for each in (number, excluded, mean, variance)))

    return Accumulator(init, update, merge, finalize)


Gathered = tuple[Groups, tuple[np.ndarray, np.ndarray]]  # with counts (2, groups), sums (2 · groups, limbs)


def _to_float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def zero_sums(n_sums: int) -> np.ndarray:
    """Return this number of empty sums, (sums, limbs)."""
    return np.zeros((n_sums, N_LIMBS), np.int64)


def add_values(sums: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Add finite values, each to the sum that `which` names; at most 2^28 values."""
    digits, exponents = _split(values)
    return carry(_add(sums, [(digits, exponents)], np.sign(values), which))


def add_squares(sums: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Add the squares of finite values, each to the sum that `which` names; at most 2^28 values."""
    digits, exponents = _split(values)
    high, low = digits >> np.uint64(27), digits & np.uint64(2**27 - 1)
    parts = [
        (high * high, 2 * exponents + 54),
        (high * low, 2 * exponents + 28),
        (low * low, 2 * exponents),
    ]
    return carry(_add(sums, parts, np.ones(len(values)), which))


def carry(sums: np.ndarray) -> np.ndarray:
    """Return the same sums with every limb but the last between 0 and 2^32."""
    sums = sums.copy()
    for i in range(N_LIMBS - 1):
        sums[:, i + 1] += sums[:, i] >> LIMB
        sums[:, i] &= int(_MASK)
    return sums


def to_fraction(limbs: np.ndarray) -> Fraction:
    """Return one sum as a number."""
    return Fraction(sum(int(limb) << (LIMB * i) for i, limb in enumerate(limbs)), 1 << SCALE)


_MASK = np.uint64(2**LIMB - 1)


def _split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers and exponents of 2, of which |values| are the products."""
    fractions, exponents = np.frexp(np.asarray(values, np.float64))
    return np.abs(np.ldexp(fractions, DIGITS)).astype(np.uint64), exponents.astype(np.int64) - DIGITS


def _add(
    sums: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], signs: np.ndarray, which: np.ndarray
) -> np.ndarray:
    """Sums with integers below 2^54 added, times powers of 2 and signs; not carried."""
    new, signs = sums.flatten(), signs.astype(np.int64)
    for digits, exponents in parts:
        limb, shift = np.divmod(exponents + SCALE, LIMB)
        low, high = (part << shift.astype(np.uint64) for part in (digits & _MASK, digits >> np.uint64(LIMB)))
        limbs = low & _MASK, (low >> np.uint64(LIMB)) + (high & _MASK), high >> np.uint64(LIMB)
        for place, each in enumerate(limbs):
            np.add.at(new, which * N_LIMBS + limb + place, signs * each.astype(np.int64))
    return new.reshape(sums.shape)
