"""Statistics of an ensemble, gathered chunk by chunk, so that no member is kept."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from xorjax.ensembles.members import AxisIndices, Members
from xorjax.training.results import Result


class Accumulator(NamedTuple):
    """A statistic of many results, as four pure functions; `xorjax.statistics` makes them.

    Attributes:
      init: `init(members) -> gathered`, before any block; `members` know the axes.
      update: `update(gathered, results, indices) -> gathered`, with a block of results, and where along each axis
        its members are.
      merge: `merge(gathered, gathered) -> gathered`, of blocks that have no member in common.
      finalize: `finalize(gathered) -> statistic`.

    >>> largest = Accumulator(  # one of your own: the largest loss of all members
    ...     lambda members: -float("inf"),
    ...     lambda gathered, results, indices: max(gathered, float(results.loss.max())),
    ...     max,
    ...     lambda gathered: gathered,
    ... )
    >>> largest.merge(0.1, 0.3)
    0.3
    """

    init: Callable[[Members], Any]
    update: Callable[[Any, Result, AxisIndices], Any]
    merge: Callable[[Any, Any], Any]
    finalize: Callable[[Any], Any]


def combine(accumulators: Accumulator | Mapping[Any, Accumulator]) -> Accumulator:
    """Return one accumulator for one or several; several give a dictionary of statistics by the same names.

    Raises:
      TypeError: if they are no accumulators.
    """
    if isinstance(accumulators, Accumulator):
        return accumulators
    if not isinstance(accumulators, Mapping) or not all(isinstance(a, Accumulator) for a in accumulators.values()):
        raise TypeError(f"reduce={accumulators!r} must be an Accumulator, or a dictionary of them.")
    each = dict(accumulators)
    return Accumulator(
        lambda members: {name: a.init(members) for name, a in each.items()},
        lambda gathered, *block: {name: a.update(gathered[name], *block) for name, a in each.items()},
        lambda one, other: {name: a.merge(one[name], other[name]) for name, a in each.items()},
        lambda gathered: {name: a.finalize(gathered[name]) for name, a in each.items()},
    )
