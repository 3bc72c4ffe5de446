"""The seeds of a study: one range, which lies along its axis in the parts by which the study was extended.

A part is [first, stop]. Parts stay where they are, so that no member moves when a study is extended downwards; a
billion seeds are two numbers. (Stores of version 0.1 may have parts that are no range together; they are read.)
"""

import numpy as np

SeedRanges = list[list[int]]


def count_seeds(parts: SeedRanges) -> int:
    return sum(stop - first for first, stop in parts)


def seeds_at(parts: SeedRanges, indices: np.ndarray) -> np.ndarray:
    """Return the seeds at these indices of their axis."""
    firsts, stops = np.array(parts, np.int64).T
    ends = np.cumsum(stops - firsts)
    part = np.searchsorted(ends, indices, side="right")
    return stops[part] - (ends[part] - indices)


def find_seed(parts: SeedRanges, seed: int) -> int | None:
    """Return the index of a seed along its axis, or None."""
    before = 0
    for first, stop in parts:
        if first <= seed < stop:
            return before + seed - first
        before += stop - first
    return None


def extend_ranges(parts: SeedRanges, seeds: range) -> SeedRanges:
    """Return the parts of a longer range, behind those that are there.

    Raises:
      ValueError: if the parts are not one range, or have a seed that is not in the longer one.
    """
    first, stop = min(part[0] for part in parts), max(part[1] for part in parts)
    if count_seeds(parts) != stop - first:
        raise ValueError("its seeds are not one range, so that it can be read, but not extended or continued")
    if seeds.start > first or seeds.stop < stop:
        raise ValueError(f"its seeds are range({first}, {stop}); they can be extended at either end, not cut")
    extended = [list(part) for part in parts]
    if extended[-1][1] == stop:
        extended[-1][1] = seeds.stop
    elif seeds.stop > stop:
        extended.append([stop, seeds.stop])
    if seeds.start < first:
        extended.append([seeds.start, first])
    return extended
