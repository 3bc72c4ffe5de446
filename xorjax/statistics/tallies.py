"""Counts by integers of any range, of which only those that occur are kept."""

from typing import Any, NamedTuple

import numpy as np


class Tally(NamedTuple):
    """How often each key occurs, in ascending order of the keys."""

    keys: np.ndarray  # int64
    counts: np.ndarray  # int64

    def merged(self, other: "Tally") -> "Tally":
        """Both together."""
        keys, where = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return Tally(keys, counts)

    def of_group(self, i: int, size: int) -> "Tally":
        """Of the keys from `i * size` to the next multiple, counted from 0."""
        first, last = np.searchsorted(self.keys, (i * size, (i + 1) * size))
        return Tally(self.keys[first:last] - i * size, self.counts[first:last])


def tally(keys: np.ndarray) -> Tally:
    """How often each key occurs."""
    found, counts = np.unique(np.asarray(keys, np.int64), return_counts=True)
    return Tally(found, counts.astype(np.int64))


def merged_tallies(one: Any, other: Any) -> Any:
    groups, *tallies = one
    return groups, *(a.merged(b) for a, b in zip(tallies, other[1:], strict=True))
