"""Seeds as runs of neighbours, [first, after the last] each: a billion of them are two numbers."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

Runs = list[list[int]]
MAX_RUNS = 100_000


def runs_of(seeds: range | np.ndarray) -> Runs:
    """Seeds in their order.

    Raises:
      ValueError: if one is given twice, or they are scattered over too many runs.
    """
    if isinstance(seeds, range) and (seeds.step == 1 or len(seeds) == 1):
        return [[seeds[0], seeds[-1] + 1]]
    array = np.asarray(seeds, np.int64)
    starts = np.flatnonzero(np.diff(array, prepend=array[0] - 2) != 1)
    if len(starts) > MAX_RUNS:
        raise ValueError(f"seeds are {len(starts):,} runs of neighbours; {MAX_RUNS:,} are allowed.")
    firsts = array[starts]
    lasts = array[np.append(starts[1:], len(array)) - 1] + 1
    order = np.argsort(firsts)
    if (firsts[order][1:] < lasts[order][:-1]).any():
        raise ValueError("seeds must each be given once.")
    return np.stack([firsts, lasts], axis=1).tolist()


def count(runs: Runs) -> int:
    return sum(last - first for first, last in runs)


def seeds_at(runs: Runs, places: np.ndarray) -> np.ndarray:
    """The seeds at these places of their axis."""
    firsts, lasts = np.array(runs, np.int64).T
    ends = np.cumsum(lasts - firsts)
    run = np.searchsorted(ends, places, side="right")
    return lasts[run] - (ends[run] - places)


def place_of(runs: Runs, seed: int) -> int | None:
    """Where along their axis a seed is."""
    before = 0
    for first, last in runs:
        if first <= seed < last:
            return before + seed - first
        before += last - first
    return None


def without(runs: Runs, others: Runs) -> Runs:
    """What is left of runs, in their order."""
    left: Runs = []
    ordered = sorted(others)
    ends = [stop for _, stop in ordered]
    for first, last in runs:
        at = bisect_right(ends, first)  # the first of them that ends after this begins
        while first < last and at < len(ordered) and ordered[at][0] < last:
            start, stop = ordered[at]
            if start > first:
                left.append([first, start])
            first, at = stop, at + 1
        if first < last:
            left.append([first, last])
    return left


def joined(runs: Sequence[list[int]]) -> Runs:
    """Neighbouring runs as one."""
    found: Runs = []
    for first, last in runs:
        if found and found[-1][1] == first:
            found[-1][1] = last
        else:
            found.append([first, last])
    return found
