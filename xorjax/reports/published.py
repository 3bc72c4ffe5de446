"""The results that the tutorial and its reader published, to be set beside a distribution of our own.

Source: "XOR Revisited: Keras and TensorFlow", its text and its comments: the four outputs of a 2-2-1 network. One
run each, of 100,000 epochs at the rate 0.01 in the text; what its reader changed, the distribution has to tell.
"""

from typing import NamedTuple

import numpy as np

from xorjax.networks.tasks import Batch, xor


class PublishedRun(NamedTuple):
    """One published run on XOR.

    Attributes:
      source: who published it.
      learning_rate: None where it is not stated.
      predictions: outputs for the inputs 00, 01, 10, 11.
      color: of its line in every figure.
      linestyle: of this line.
    """

    source: str
    learning_rate: float | None
    predictions: tuple[float, float, float, float]
    color: str
    linestyle: str

    @property
    def loss(self) -> float:
        """Mean squared error of the published outputs."""
        return sum((p - y) ** 2 for p, y in zip(self.predictions, (0, 1, 1, 0), strict=True)) / 4


TUTORIAL_RUNS = (
    PublishedRun("the tutorial", 0.01, (0.07856689, 0.91362464, 0.92543262, 0.06886736), "#D55E00", "-"),
    PublishedRun("its author, at 0.02", 0.02, (0.05192028, 0.94006866, 0.95283687, 0.04578295), "#009E73", "--"),
    PublishedRun("its reader, as posted", None, (0.40370542, 0.73060757, 0.53719872, 0.3561773), "#CC79A7", "-."),
    PublishedRun('its reader, "seed 7"', None, (0.06632757, 0.9235754, 0.94007248, 0.05815994), "#E69F00", ":"),
)


def find_published(batch: Batch) -> tuple[PublishedRun, ...]:
    """Return what was published of a task: of XOR the tutorial's results, of others nothing.

    Args:
      batch: the rows of the task.

    >>> len(find_published(xor()))
    4
    """
    is_xor = all(np.array_equal(rows, of_xor) for rows, of_xor in zip(batch, xor(), strict=True))
    return TUTORIAL_RUNS if is_xor else ()
