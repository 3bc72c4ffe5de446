"""Sums of floats without rounding, so that no order of adding them changes a bit.

A sum is a long integer in limbs of 32 bits, wide enough for every finite float64 (Kulisch's accumulator): adding
is exact, and carrying makes equal sums equal arrays.
"""

from fractions import Fraction

import numpy as np

LIMB = 32  # bits
SCALE = 1126  # the last bit of a sum stands for 2^-SCALE: the least float64 is 2^-1074, its fraction has 53 bits
N_LIMBS = 70  # 2^(70 · 32 - 1126) is beyond 2^64 times the largest float64


def zeros(n_sums: int) -> np.ndarray:
    """So many sums of nothing, (sums, limbs)."""
    return np.zeros((n_sums, N_LIMBS), np.int64)


def added(sums: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Sums with these finite values added, each to one of them; at most 2^29 values."""
    fractions, exponents = np.frexp(values.astype(np.float64))
    digits = np.abs(np.ldexp(fractions, 53)).astype(np.uint64)
    limb, shift = np.divmod(exponents.astype(np.int64) - 53 + SCALE, LIMB)
    shift = shift.astype(np.uint64)
    low, high = digits & _MASK, digits >> np.uint64(LIMB)
    low, high = low << shift, high << shift
    new, sign = sums.copy().reshape(-1), np.sign(values).astype(np.int64)
    at = which * N_LIMBS + limb
    for place, part in enumerate(
        (low & _MASK, (low >> np.uint64(LIMB)) + (high & _MASK), high >> np.uint64(LIMB))
    ):
        np.add.at(new, at + place, sign * part.astype(np.int64))
    return carried(new.reshape(sums.shape))


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
