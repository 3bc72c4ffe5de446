"""The results that the tutorial and its reader published, to be set beside a distribution of our own.

Source: "XOR Revisited: Keras and TensorFlow", its text and its comments: the four outputs of a 2-2-1 network. One
run each, of 100,000 epochs and the rate 0.01 in the text; what its reader changed is for the distribution to say.
"""

from typing import NamedTuple


class PublishedRun(NamedTuple):
    """One published run on XOR.

    Attributes:
      source: who published it.
      learning_rate: None where it is not stated.
      predictions: outputs for the inputs 00, 01, 10, 11.
    """

    source: str
    learning_rate: float | None
    predictions: tuple[float, float, float, float]

    @property
    def loss(self) -> float:
        """Mean squared error of the published outputs."""
        return sum((p - y) ** 2 for p, y in zip(self.predictions, (0, 1, 1, 0), strict=True)) / 4


TUTORIAL_RUNS = (
    PublishedRun("the tutorial", 0.01, (0.07856689, 0.91362464, 0.92543262, 0.06886736)),
    PublishedRun("its author, at 0.02", 0.02, (0.05192028, 0.94006866, 0.95283687, 0.04578295)),
    PublishedRun("its reader, as posted", None, (0.40370542, 0.73060757, 0.53719872, 0.3561773)),
    PublishedRun('its reader, "seed 7"', None, (0.06632757, 0.9235754, 0.94007248, 0.05815994)),
)
