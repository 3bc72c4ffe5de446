"""Sums of floats and of their squares without rounding, so that no order of adding them changes a bit.

A sum is a long integer in limbs of 32 bits, wide enough for the square of every finite float64 (Kulisch's
accumulator): adding is exact, and carrying makes equal sums equal arrays.
"""

from fractions import Fraction

import numpy as np

LIMB = 32  # bits
DIGITS = 53  # of a float64; the least one is 2^-1074
SCALE = 2 * (1073 + DIGITS)  # the last bit of a sum stands for 2^-SCALE
N_LIMBS = 138  # 2^(138 · 32 - SCALE) is beyond 2^100 times the largest square


def zeros(n_sums: int) -> np.ndarray:
    """So many sums of nothing, (sums, limbs)."""
    return np.zeros((n_sums, N_LIMBS), np.int64)


def added(sums: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Sums with these finite values added, each to one of them; at most 2^28 values."""
    digits, exponents = _taken_apart(values)
    return carried(_with(sums, [(digits, exponents)], np.sign(values), which))


def squares_added(sums: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Sums with the squares of these finite values added, each to one of them; at most 2^28 values."""
    digits, exponents = _taken_apart(values)
    high, low = digits >> np.uint64(27), digits & np.uint64(2**27 - 1)
    parts = [
        (high * high, 2 * exponents + 54),
        (high * low, 2 * exponents + 28),
        (low * low, 2 * exponents),
    ]
    return carried(_with(sums, parts, np.ones(len(values)), which))


def carried(sums: np.ndarray) -> np.ndarray:
    """The same sums with every limb but the last between 0 and 2^32."""
    sums = sums.copy()
    for i in range(N_LIMBS - 1):
        sums[:, i + 1] += sums[:, i] >> LIMB
        sums[:, i] &= int(_MASK)
    return sums


def exactly(limbs: np.ndarray) -> Fraction:
    """One sum as a number."""
    return Fraction(sum(int(limb) << (LIMB * i) for i, limb in enumerate(limbs)), 1 << SCALE)


_MASK = np.uint64(2**LIMB - 1)


def _taken_apart(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers and exponents of 2, of which |values| are the products."""
    fractions, exponents = np.frexp(np.asarray(values, np.float64))
    return np.abs(np.ldexp(fractions, DIGITS)).astype(np.uint64), exponents.astype(np.int64) - DIGITS


def _with(
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
