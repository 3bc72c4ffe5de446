"""Whether a study is what it says: every chunk is read, and a sample of its members trained again, bit for bit."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from xorjax._checks import check_integer
from xorjax.ensembles.ensemble import train_ensemble
from xorjax.ensembles.members import MAX_SEED, SEED
from xorjax.studies.claims import PAUSE_SECONDS, STUDY, Claims, claimed
from xorjax.studies.identity import differences, header_of
from xorjax.studies.pending import MembersOfUnits, Unit
from xorjax.studies.store import manifest as roots
from xorjax.studies.store import shards as stores
from xorjax.studies.store.layout import MISSING_OUTCOME, OUTCOME, RECORD, ROOT, Variable, leaves
from xorjax.studies.store.seed_ranges import place_of, seeds_at
from xorjax.studies.store.shards import Stored, StoreError
from xorjax.training.results import Result
from xorjax.training.trainer import Trainer

SAMPLE = 64
COUNTS = ("epochs", "solved_epoch")  # what stands for a missing value in other variables may be a value


class Verified(NamedTuple):
    """What was found.

    Attributes:
      committed: members.
      members: of the whole study.
      damaged: what is wrong with files, each naming one.
      units: those that are to be trained anew, by their places along the axes, such as "0.3".
      replayed: members that were trained again.
      differing: of these, what was not the same bit for bit: the member, and the variable.
    """

    committed: int
    members: int
    damaged: list[str]
    units: list[str]
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
      sample: how many members are trained again, 0 to 2^20, or all if they are fewer.
      seed: which: drawn among the committed ones.
      progress: called as `progress(done, total)` with the units read.

    Raises:
      ValueError: if there is no study, or its metadata are damaged, or members can't be trained again here.
    """
    sample = check_integer("sample", sample, 0, 2**20)
    seed = check_integer("seed", seed, 0, MAX_SEED)
    stored = roots.found_in(store)
    if trainer is not None and sample:
        check_same(stored, trainer)
    while (damaged := _damaged_metadata(stored)) and _is_extended(stored):
        time.sleep(PAUSE_SECONDS)
        stored = roots.found_in(store)
    units, counts = [], np.zeros(stored.layout.n_units, np.int64)
    there = stores.everything_there(stored, stored.layout.variables)
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
        drawn = np.random.Generator(np.random.Philox(seed)).choice(total, min(sample, total), replace=False)
        replayed, (differing, of_units) = len(drawn), _replayed(stored, trainer, counts, np.sort(drawn))
        units = sorted({*units, *of_units})
    places = [stored.layout.place(unit) for unit in units]
    return Verified(total, stored.layout.members, damaged, places, replayed, differing)


def _is_extended(stored: Stored) -> bool:
    """Whether another process makes or extends the study just now."""
    root = stores.folder(stored.store)
    return root is not None and STUDY in claimed(root)


def check_same(stored: Stored, trainer: Trainer) -> None:
    """Checks that a trainer, here, is what a study was made with.

    Raises:
      ValueError: with all that differs.
    """
    here = header_of(trainer, stored.values, stored.header["shared"], plan=None, **stored.how)
    if differing := differences(stored.header, here):
        lines = "".join(f"\n- {line}" for line in differing)
        raise ValueError(f"members of {stored.name!r} can't be trained again here, where it differs in:{lines}")


def repair(store: Any, found: Verified) -> list[str]:
    """Takes back what is damaged, so that the study trains it again; writes metadata and coordinates anew.

    Returns:
      The units that were left as they are, since another process works on them.
    """
    stored = roots.found_in(store, read_only=False)
    claims = None if (root := stores.folder(stored.store)) is None else Claims(root)
    with nullcontext() if claims is None else claims.kept():
        with nullcontext() if claims is None else claims.alone():
            stored = roots.found_in(store, read_only=False)
            roots.write(stored)
        left = []
        for place in found.units:
            if claims is None or claims.take(place):
                stores.take_back(stored, stored.layout.unit_at(place))
            else:
                left.append(place)
        return left


def _damaged_metadata(stored: Stored) -> list[str]:
    found = [f"{stored.name}/{path}/{ROOT} is damaged or not there" for path in roots.damaged_documents(stored)]
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
        outcomes = stores.outcomes(stored, unit, there)
    except StoreError as error:
        return [str(error)], 0
    done = int((outcomes != MISSING_OUTCOME).sum())
    found = []
    for variable, chunks in there.items():
        if variable.name != OUTCOME and (chunk := stored.layout.chunk(variable, unit)) in chunks:
            try:
                values = stores.read_unit(stored, variable, unit)
            except StoreError as error:
                found.append(str(error))
                continue
            if variable.name in COUNTS and ((values == variable.missing) & (outcomes != MISSING_OUTCOME)).any():
                found.append(f"{stored.name}/{chunk} lacks values of members that are committed")
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
    number = stored.layout.unit_at(".".join(str(i // n) for i, n in zip(place, stored.layout.unit, strict=True)))
    wanted = np.zeros(stored.layout.region_shape(number), bool)
    wanted[tuple(i % size for i, size in zip(place, stored.layout.unit, strict=True))] = True
    if not stores.committed(stored, number)[wanted].all():
        raise ValueError(f"{seed=} at {dict(values)} is not committed yet.")
    result, differing = _compared(stored, trainer, [Unit(number, wanted)])
    return result, [name for name, _, _ in differing]


def _replayed(
    stored: Stored, trainer: Trainer, counts: np.ndarray, chosen: np.ndarray
) -> tuple[list[str], list[int]]:
    """Trains the chosen of all committed members, counted unit by unit, again; what differs, and its units."""
    ends = np.cumsum(counts)
    of_unit = np.searchsorted(ends, chosen, side="right")
    units = []
    for number in np.unique(of_unit).tolist():
        at = np.flatnonzero(stores.committed(stored, number))
        wanted = np.zeros(stored.layout.size(number), bool)
        wanted[at[chosen[of_unit == number] - (ends[number] - counts[number])]] = True
        units.append(Unit(number, wanted.reshape(stored.layout.region_shape(number))))
    _, differing = _compared(stored, trainer, units)
    return [f"{name} of {member}" for name, member, _ in differing], [unit for _, _, unit in differing]


def _compared(stored: Stored, trainer: Trainer, units: list[Unit]) -> tuple[Result, list[tuple[str, str, int]]]:
    """The results of members trained again; which variables, of which members and units, are not the same."""
    members = MembersOfUnits(stored, units, stored.header["shared"])
    result = train_ensemble(trainer, members, **stored.how)
    again, differing = leaves(result), []
    seeds, hparams = members[0 : len(members)]
    of_unit = [unit.number for unit in units for _ in range(unit.members)]
    for variable in stored.layout.variables:
        kept = np.concatenate([stores.read_unit(stored, variable, unit.number)[unit.wanted] for unit in units])
        new = np.asarray(again[variable.name]).astype(variable.dtype)
        same = (_bits(kept) == _bits(new)).reshape(len(kept), -1).all(1)
        for i in np.flatnonzero(~same).tolist():
            where = "".join(f", {axis}={hparams[axis][i]:g}" for axis in stored.values)
            differing.append((variable.name, f"seed={seeds[i]}{where}", of_unit[i]))
    return result, differing


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
