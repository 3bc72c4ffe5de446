"""Statistics of the members in a store, read shard by shard: of any number of members in constant memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xorjax.ensembles.accumulator import Accumulator, combine
from xorjax.ensembles.members import SEED, AxisIndices, Members
from xorjax.studies.store.layout import MISSING_OUTCOME
from xorjax.studies.store.shards import StudyStore, iter_outcomes, read_shard
from xorjax.training.results import Result

FIELDS = set(Result._fields) - {"params", "history"}


def iter_committed(study: StudyStore) -> Iterator[tuple[Result, AxisIndices]]:
    """Yield the committed members of each shard: their results, None for fields that the study does not keep."""
    variables = [variable for variable in study.layout.variables if variable.name in FIELDS]
    for shard, outcomes in iter_outcomes(study, variables):
        done = outcomes != MISSING_OUTCOME
        if done.any():
            values: dict[str, Any] = dict.fromkeys(Result._fields)
            values |= {variable.name: read_shard(study, variable, shard)[done] for variable in variables}
            yield Result(**values), find_indices(study, shard, done)


def find_indices(study: StudyStore, shard: int, which: np.ndarray) -> dict[str, np.ndarray]:
    """Return the indices along each axis of some members of a shard; `which` has the shape of its region."""
    region, within = study.layout.region(shard), np.nonzero(which)
    return {axis: at + part.start for axis, at, part in zip(study.layout.axes, within, region, strict=True)}


def reduce_study(study: StudyStore, reduce: Accumulator | Mapping[str, Accumulator]) -> Any:
    """Return the statistic of an accumulator, or of several by name, over the committed members."""
    accumulator = combine(reduce)
    gathered = accumulator.init(Members(study.layout.axes, range(study.layout.axes[SEED]), lambda indices: None))
    for results, indices in iter_committed(study):
        gathered = accumulator.update(gathered, results, indices)
    return accumulator.finalize(gathered)
