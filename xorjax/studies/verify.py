"""Verification of a study: every chunk is read, and a sample of its members trained again, bit for bit."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from xorjax._checks import check_integer
from xorjax.ensembles.ensemble import train_ensemble
from xorjax.ensembles.members import MAX_SEED
from xorjax.studies.claims import PAUSE_SECONDS, STUDY, Claims, list_claims
from xorjax.studies.identity import check_same_study, study_metadata
from xorjax.studies.pending import PendingMembers, PendingShard
from xorjax.studies.store.access import StoreLocation
from xorjax.studies.store.layout import COORDINATE_CHUNK, MANIFEST, name_arrays
from xorjax.studies.store.manifest import find_damaged_nodes, find_study, iter_coordinates, write_manifest
from xorjax.studies.store.seed_ranges import find_seed
from xorjax.studies.store.shards import (
    StudyStore,
    check_shard,
    delete_shard,
    find_committed,
    list_all_chunks,
    read_shard,
)
from xorjax.training.results import Result
from xorjax.training.trainer import Trainer


class Verification(NamedTuple):
    """The result of a verification.

    Attributes:
      committed: number of members that are committed.
      members: number of members of the whole study.
      damaged: what is wrong with files; each text names one.
      shards: labels, such as "0.3", of the shards that must be trained anew.
      replayed: number of members that were trained again.
      differing: variables and members whose values are not the same, bit for bit.
    """

    committed: int
    members: int
    damaged: list[str]
    shards: list[str]
    replayed: int
    differing: list[str]

    @property
    def is_sound(self) -> bool:
        return not self.damaged and not self.differing


Difference = tuple[str, str, int]  # a variable, the member that has another value in the store, and its shard


def verify_study(
    store: StoreLocation,
    trainer: Trainer | None = None,
    *,
    sample: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Read every chunk of a study, whose checksums reveal any change, and train a sample of its members again.

    Args:
      store: a folder, a URL that fsspec knows, or a store of zarr.
      trainer: the study's; None trains no member again.
      sample: how many members are trained again, 0 to 2^20, or all if they are fewer.
      seed: draws them among the committed members.
      progress: called as `progress(done, total)` with the shards read.

    Raises:
      ValueError: if there is no study, or its metadata are damaged, or members can't be trained again here.
    """
    sample = check_integer("sample", sample, 0, 2**20)
    seed = check_integer("seed", seed, 0, MAX_SEED)
    study = find_study(store)
    if trainer is not None and sample:
        check_trainer(study, trainer)
    while (damaged := _find_damaged_metadata(study)) and STUDY in list_claims(study.folder):  # by an extension
        time.sleep(PAUSE_SECONDS)
        study = find_study(store)
    shards, counts = [], np.zeros(study.layout.n_shards, np.int64)
    chunks = list_all_chunks(study, study.layout.variables)
    for shard in range(study.layout.n_shards):
        of_shard, counts[shard] = check_shard(study, shard, chunks)
        if of_shard:
            damaged += of_shard
            shards.append(shard)
        if progress is not None:
            progress(shard + 1, study.layout.n_shards)
    total = int(counts.sum())
    replayed, differing = 0, []
    if trainer is not None and sample and total:
        drawn = np.random.Generator(np.random.Philox(seed)).choice(total, min(sample, total), replace=False)
        pending = _find_members(study, counts, np.sort(drawn))
        replayed, (_, differing) = len(drawn), _train_again(study, trainer, pending)
        shards = sorted({*shards, *(of_shard for _, _, of_shard in differing)})
    labels = [study.layout.label(shard) for shard in shards]
    differences = [f"{variable} of {member}" for variable, member, _ in differing]
    return Verification(total, study.layout.members, damaged, labels, replayed, differences)


def check_trainer(study: StudyStore, trainer: Trainer) -> None:
    """Raise a DifferentStudyError, with all that differs, unless a trainer gives the members of a study here."""
    here = study_metadata(trainer, study.values, study.metadata["shared"], plan=None, **study.engine_options)
    message = f"members of {study.name!r} can't be trained again here, where it differs in:"
    check_same_study(study.metadata, here, message)


def repair_study(store: StoreLocation, verification: Verification) -> list[str]:
    """Remove damaged shards, so that the study trains them again; write metadata and coordinates anew.

    Returns the shards that were left as they are, since another process works on them.
    """
    claims = Claims(find_study(store).folder)
    with claims.keep_alive():
        with claims.hold_study():
            study = find_study(store, read_only=False)
            write_manifest(study)
        ours = [label for label in verification.shards if claims.take(label)]
        for label in ours:
            delete_shard(study, study.layout.shard_at(label))
        return [label for label in verification.shards if label not in ours]


def _find_damaged_metadata(study: StudyStore) -> list[str]:
    damaged = [f"{study.name}/{path}/{MANIFEST} is damaged or missing" for path in find_damaged_nodes(study)]
    for axis, part, values in iter_coordinates(study):
        path = f"{study.name}/{axis}/c.{part.start // COORDINATE_CHUNK}"
        try:
            if not np.array_equal(study.array(axis)[part], values):
                damaged.append(f"{path} does not hold the values of {axis}")
        except Exception as error:  # codecs raise many kinds of errors for damaged bytes
            damaged.append(f"{path} is damaged: {error}")
    return damaged


def replay_member(
    study: StudyStore, trainer: Trainer, seed: int, values: Mapping[str, float]
) -> tuple[Result, list[str]]:
    """Train the member of a seed and of these values of the axes again, by the trainer of its study.

    Returns its result, with a leading axis of one, and the variables that are not the same bit for bit in the
    store. A ValueError names the axis if there is no such member.
    """
    check_trainer(study, trainer)
    for axis, of_axis in study.values.items():
        if values.get(axis) not in of_axis:
            given = f"{axis}={values[axis]}" if axis in values else f"{axis} is not given; it"
            raise ValueError(f"{given} must be one of {', '.join(map(repr, of_axis))}.")
    if unknown := set(values) - set(study.values):
        axes = ", ".join(study.values) or "there are none"
        raise ValueError(f"{', '.join(unknown)} must be among the axes: {axes}.")
    of_seed = find_seed(study.seeds, seed)
    if of_seed is None:
        raise ValueError(f"{seed=} is not in the study.")
    indices = [*(of_axis.index(values[axis]) for axis, of_axis in study.values.items()), of_seed]
    label, within = zip(*map(divmod, indices, study.layout.shard_shape), strict=True)
    number = study.layout.shard_at(".".join(map(str, label)))
    wanted = np.zeros(study.layout.region_shape(number), bool)
    wanted[within] = True
    if not find_committed(study, number)[wanted].all():
        raise ValueError(f"{seed=} at {dict(values)} is not committed yet.")
    result, differing = _train_again(study, trainer, [PendingShard(number, wanted)])
    return result, [variable for variable, _, _ in differing]


def _find_members(study: StudyStore, counts: np.ndarray, drawn: np.ndarray) -> list[PendingShard]:
    """Return the shards of some of all committed members, which are counted shard by shard."""
    ends = np.cumsum(counts)
    of_shard = np.searchsorted(ends, drawn, side="right")
    shards = []
    for number in np.unique(of_shard).tolist():
        at = np.flatnonzero(find_committed(study, number))
        wanted = np.zeros(study.layout.size(number), bool)
        wanted[at[drawn[of_shard == number] - (ends[number] - counts[number])]] = True
        shards.append(PendingShard(number, wanted.reshape(study.layout.region_shape(number))))
    return shards


def _train_again(
    study: StudyStore, trainer: Trainer, shards: list[PendingShard]
) -> tuple[Result, list[Difference]]:
    """Train members of a study again, and return their results and the values that differ in the store."""
    members = PendingMembers(study, shards)
    result = train_ensemble(trainer, members, **study.engine_options)
    again, differing = name_arrays(result), []
    seeds, hparams = members[0 : len(members)]
    of_shard = [shard.number for shard in shards for _ in range(shard.members)]
    for variable in study.layout.variables:
        stored = np.concatenate([read_shard(study, variable, shard.number)[shard.wanted] for shard in shards])
        new = np.asarray(again[variable.name]).astype(variable.dtype)
        bits = (np.ascontiguousarray(each).view(f"u{each.dtype.itemsize}") for each in (stored, new))
        same = np.equal(*bits).reshape(len(stored), -1).all(1)
        for i in np.flatnonzero(~same).tolist():
            where = "".join(f", {axis}={hparams[axis][i]:g}" for axis in study.values)
            differing.append((variable.name, f"seed={seeds[i]}{where}", of_shard[i]))
    return result, differing
