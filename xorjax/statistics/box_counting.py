"""The box dimension of a boundary in a picture whose pixels are members, such as those that are solved."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Int


def boundary(holds: Bool[ArrayLike, "rows columns"]) -> Bool[np.ndarray, "between_rows between_columns"]:
    """Where in a picture four neighbours do not all agree.

    Args:
      holds: what the picture says of each of its pixels, (rows, columns).

    Returns:
      One less along each axis.

    >>> int(boundary([[False, True], [False, True]]).sum())
    1
    """
    holds = np.asarray(holds, bool)
    corners = np.stack([holds[1:, 1:], holds[:-1, 1:], holds[1:, :-1], holds[:-1, :-1]])
    return np.any(corners, axis=0) & ~np.all(corners, axis=0)


class BoxCounts(NamedTuple):
    """How many boxes of each size hold a part of a set, from which its dimension is estimated.

    Attributes:
      sides: of the boxes, in pixels: 1, 2, 4, … to an eighth of the picture at most, but 1 and 2 always, (sizes,).
      counts: boxes, (sizes,).
    """

    sides: Int[np.ndarray, " sizes"]
    counts: Int[np.ndarray, " sizes"]

    @property
    def dimension(self) -> float:
        """The box dimension, −d log(count) / d log(side) by least squares; 0 of an empty set."""
        return float(-np.polyfit(np.log2(self.sides), np.log2(np.maximum(self.counts, 1)), 1)[0])


def box_counts(inside: Bool[ArrayLike, "n n"]) -> BoxCounts:
    """Counts the boxes that hold a part of a set of pixels.

    Args:
      inside: whether a pixel belongs to the set, (n, n).

    Raises:
      ValueError: if the picture is not a square of at least two pixels a side.

    >>> [round(box_counts(each).dimension, 3) for each in (np.eye(64), np.ones((64, 64)))]  # a line, a square
    [1.0, 2.0]
    """
    inside = np.asarray(inside, bool)
    if inside.ndim != 2 or len(set(inside.shape)) != 1 or len(inside) < 2:
        raise ValueError(f"inside must be a square of at least 2 by 2 pixels, got {inside.shape}.")
    sides = [2**k for k in range(max(2, int(np.log2(len(inside) / 4))))]
    counts = []
    for side in sides:
        padded = np.pad(inside, (0, -len(inside) % side))
        n = len(padded) // side
        counts.append(padded.reshape(n, side, n, side).any(axis=(1, 3)).sum())
    return BoxCounts(np.array(sides), np.array(counts))
