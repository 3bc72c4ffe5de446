"""Whether a study is what it says: every chunk is read, and a sample of its members trained again, bit for bit."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xorjax._checks import whole_number
from xorjax.ensemble import train_ensemble
from xorjax.members import MAX_SEED, SEED
from xorjax.results import Result
from xorjax.studies import store as stores
from xorjax.studies.description import differences, header_of
from xorjax.studies.layout import MISSING_OUTCOME, OUTCOME, RECORD, ROOT, Variable, documents, leaves
from xorjax.studies.seeds import place_of, seeds_at
from xorjax.studies.store import Stored, StoreError
from xorjax.studies.units import MembersOfUnits, Unit
from xorjax.training import Trainer

SAMPLE = 64


class Verified(NamedTuple):
    """What was found.

    Attributes:
      committed: members.
      members: of the whole study.
      damaged: what is wrong with files, each naming one.
      units: the units that these are of.
      replayed: members that were trained again.
      differing: of these, what was not the same bit for bit: the member, and the variable.
    """

    committed: int
    members: int
    damaged: list[str]
    units: list[int]
    replayed: int
    differing: list[str]

    @property
    def is_sound(self) -> bool:
        return not self.damaged and not self.differing


def verify_study(
    store: Any,
    trainer: Trainer | None = None,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Reads every chunk of a study, whose checksums tell of any change, and trains a sample of its members again.

    Args:
      store: a folder, a URL that fsspec knows, or a store of zarr.
      trainer: that the study was made with; None trains nobody again.
      sample: how many members are trained again, at most, 0 to 2^20.
      seed: which: drawn among the committed ones.
      progress: called as `progress(done, total)` with the units read.

    Raises:
      ValueError: if there is no study, or its metadata are damaged.
    """
    sample = whole_number("sample", sample, 0, 2**20)
    seed = whole_number("seed", seed, 0, MAX_SEED)
    stored = stores.found_in(store)
    if trainer is not None:
        check_same(stored, trainer)
    damaged, units, counts = _damaged_metadata(stored), [], np.zeros(stored.layout.n_units, np.int64)
    there = {variable: stores.present(stored, variable) for variable in stored.layout.variables}
    for unit in range(stored.layout.n_units):
        found, counts[unit] = _looked_at(stored, unit, there)
        if found:
            damaged += found
            units.append(unit)
        if progress is not None:
            progress(unit + 1, stored.layout.n_units)
    total = int(counts.sum())
    replayed, differing = 0, []
    if trainer is not None and sample and total:
        drawn = np.random.Philox(seed).random_raw(min(sample, total)) % np.uint64(total)
        replayed, differing = _replayed(stored, trainer, counts, np.unique(drawn).astype(np.int64))
    return Verified(total, stored.layout.members, damaged, units, replayed, differing)


def check_same(stored: Stored, trainer: Trainer) -> None:
    """Checks that a trainer, here, is what a study was made with.

    Raises:
      ValueError: with all that differs.
    """
    here = header_of(trainer, stored.values, stored.header["shared"], plan=None, **stored.how)
    if differing := differences(stored.header, here):
        lines = "".join(f"\n- {line}" for line in differing)
        raise ValueError(f"members of {stored.name!r} can't be trained again here, where it differs in:{lines}")


def repair(store: Any, found: Verified) -> None:
    """Takes back what is damaged, so that the study trains it again; writes metadata and coordinates anew."""
    stored = stores.found_in(store, read_only=False)
    stores.write(stored)
    for unit in found.units:
        stores.take_back(stored, unit)


def _damaged_metadata(stored: Stored) -> list[str]:
    found = []
    for path, document in documents(stored.layout).items():
        if stores.read_json(stored.store, f"{path}/{ROOT}") != json.loads(json.dumps(document)):
            found.append(f"{stored.name}/{path}/{ROOT} is damaged or not there")
    axes: dict[str, Any] = {axis: np.asarray(values, np.float64) for axis, values in stored.values.items()}
    if stored.layout.record is not None:
        axes[RECORD] = np.asarray(stored.layout.record)
    for axis, values in axes.items():
        found += _damaged_values(stored, axis, slice(0, len(values)), values)
    size = stored.array(SEED).chunks[0]
    for start in range(0, stored.layout.axes[SEED], size):
        part = slice(start, min(start + size, stored.layout.axes[SEED]))
        found += _damaged_values(stored, SEED, part, seeds_at(stored.seeds, np.arange(part.start, part.stop)))
    return found


def _damaged_values(stored: Stored, axis: str, part: slice, values: np.ndarray) -> list[str]:
    path = f"{stored.name}/{axis}/c.{part.start // stored.array(axis).chunks[0]}"
    try:
        there = np.asarray(stored.array(axis)[part])
    except Exception as error:  # what codecs raise of damaged bytes is of many kinds
        return [f"{path} is damaged: {error}"]
    return [] if np.array_equal(there, values) else [f"{path} does not hold the values of {axis}"]


def _looked_at(stored: Stored, unit: int, there: Mapping[Variable, set[str]]) -> tuple[list[str], int]:
    """What is wrong with the files of a unit, and how many members it has if nothing is."""
    try:
        done = int((stores.outcomes(stored, unit, there) != MISSING_OUTCOME).sum())
    except StoreError as error:
        return [str(error)], 0
    found = []
    for variable, chunks in there.items():
        if variable.name != OUTCOME and stored.layout.chunk(variable, unit) in chunks:
            try:
                stores.read_unit(stored, variable, unit)
            except StoreError as error:
                found.append(str(error))
    return found, 0 if found else done


def replayed(stored: Stored, trainer: Trainer, seed: int, values: Mapping[str, float]) -> tuple[Result, list[str]]:
    """One member of a study again.

    Args:
      stored: the study.
      trainer: that it was made with.
      seed: of the member.
      values: of each axis.

    Returns:
      Its result, with a leading axis of one, and which variables of the store are not the same bit for bit.

    Raises:
      ValueError: naming the axis, if there is no such member, or it is not committed yet.
    """
    check_same(stored, trainer)
    place = []
    for axis, given in stored.values.items():
        if values.get(axis) not in given:
            raise ValueError(
                f"{axis}={values.get(axis)} must be one of {', '.join(f'{value!r}' for value in given)}."
            )
        place.append(given.index(values[axis]))
    if unknown := set(values) - set(stored.values):
        raise ValueError(
            f"{', '.join(unknown)} must be among the axes: {', '.join(stored.values) or 'there are none'}."
        )
    at = place_of(stored.seeds, seed)
    if at is None:
        raise ValueError(f"{seed=} is not in the study.")
    place.append(at)
    within = [i // size for i, size in zip(place, stored.layout.unit, strict=True)]
    number = int(np.ravel_multi_index(within, stored.layout.units))
    wanted = np.zeros(stored.layout.region_shape(number), bool)
    wanted[tuple(i % size for i, size in zip(place, stored.layout.unit, strict=True))] = True
    if not stores.committed(stored, number)[wanted].all():
        raise ValueError(f"{seed=} at {dict(values)} is not committed yet.")
    result, differing = _compared(stored, trainer, [Unit(number, wanted)])
    return result, [name for name, _ in differing]


def _replayed(stored: Stored, trainer: Trainer, counts: np.ndarray, chosen: np.ndarray) -> tuple[int, list[str]]:
    """Trains the chosen of all committed members, counted unit by unit, again; what is not the same."""
    ends = np.cumsum(counts)
    of_unit = np.searchsorted(ends, chosen, side="right")
    units = []
    for number in np.unique(of_unit).tolist():
        at = np.flatnonzero(stores.committed(stored, number))
        wanted = np.zeros(stored.layout.size(number), bool)
        wanted[at[chosen[of_unit == number] - (ends[number] - counts[number])]] = True
        units.append(Unit(number, wanted.reshape(stored.layout.region_shape(number))))
    _, differing = _compared(stored, trainer, units)
    return len(chosen), [f"{name} of {member}" for name, member in differing]


def _compared(stored: Stored, trainer: Trainer, units: list[Unit]) -> tuple[Result, list[tuple[str, str]]]:
    """The results of members trained again, and which variables of which of them are not the same."""
    members = MembersOfUnits(stored, units, stored.header["shared"])
    result = train_ensemble(trainer, members, **stored.how)
    again, differing = leaves(result), []
    seeds, hparams = members[0 : len(members)]
    for variable in stored.layout.variables:
        kept = np.concatenate([stores.read_unit(stored, variable, unit.number)[unit.wanted] for unit in units])
        new = np.asarray(again[variable.name]).astype(variable.dtype)
        same = (_bits(kept) == _bits(new)).reshape(len(kept), -1).all(1)
        for i in np.flatnonzero(~same).tolist():
            where = "".join(f", {axis}={hparams[axis][i]:g}" for axis in stored.values)
            differing.append((variable.name, f"seed={seeds[i]}{where}"))
    return result, differing


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
