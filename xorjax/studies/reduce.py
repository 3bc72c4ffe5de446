"""Statistics of what is in a store, read unit by unit: of any number of members in constant memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xorjax.ensembles.accumulator import Accumulator, combine
from xorjax.ensembles.members import SEED, AxisIndices, Members
from xorjax.studies.store import shards as stores
from xorjax.studies.store.layout import MISSING_OUTCOME
from xorjax.studies.store.shards import Stored
from xorjax.training.results import Result

FIELDS = set(Result._fields) - {"params", "history"}


def blocks(stored: Stored) -> Iterator[tuple[Result, AxisIndices]]:
    """The members that are committed, unit by unit: what the study keeps of them, None for the rest.

    Raises:
      StoreError: if a file is damaged.
    """
    variables = [variable for variable in stored.layout.variables if variable.name in FIELDS]
    for unit, outcomes in stores.outcomes_by_unit(stored, variables):
        done = outcomes != MISSING_OUTCOME
        if done.any():
            found: dict[str, Any] = {
                variable.name: stores.read_unit(stored, variable, unit)[done] for variable in variables
            }
            fields: dict[str, Any] = dict.fromkeys(Result._fields) | found
            yield Result(**fields), places_of(stored, unit, done)


def places_of(stored: Stored, unit: int, which: np.ndarray) -> dict[str, np.ndarray]:
    """Where along each axis some members of a unit are; `which` has the shape of its region."""
    region, within = stored.layout.region(unit), np.nonzero(which)
    return {axis: at + part.start for axis, at, part in zip(stored.layout.axes, within, region, strict=True)}


def reduced(stored: Stored, reduce: Accumulator | Mapping[str, Accumulator]) -> Any:
    """What an accumulator, or several by name, find of the members that are committed."""
    gather = combine(reduce)
    gathered = gather.init(Members(stored.layout.axes, range(stored.layout.axes[SEED]), lambda indices: None))
    for results, indices in blocks(stored):
        gathered = gather.update(gathered, results, indices)
    return gather.finalize(gathered)


def kept_fields(stored: Stored) -> set[str]:
    return {variable.name for variable in stored.layout.variables} & FIELDS
