"""The identity of a study: its program, and all else that its bits depend on. A store has one identity."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np

from xorjax.ensembles.fingerprint import fingerprint
from xorjax.ensembles.members import GENERATOR, grid
from xorjax.ensembles.scheduler import plan_chunk
from xorjax.studies.store.layout import Document
from xorjax.training.trainer import Trainer

SEED_RULE = (
    f"The member of seed s starts from model.init(jax.random.key(s)), {GENERATOR}; shuffles and resampling follow "
    f"from the same key."
)
NOT_COMPARED = {("versions", "xorjax")}  # its programs are compared themselves


class Differences(NamedTuple):
    """How the metadata of two studies differ.

    Attributes:
      lines: a line for each name, with its value in the store and the one asked for.
      program: the lines of two programs that differ, - in the store and + asked for; "" if they are the same.
    """

    lines: list[str]
    program: str


class DifferentStudyError(ValueError):
    """The store holds another study. Its attribute `program` has the lines in which the programs differ."""

    def __init__(self, message: str, differences: Differences):
        super().__init__(message + "".join(f"\n- {line}" for line in differences.lines))
        self.program = differences.program


def study_metadata(
    trainer: Trainer,
    values: Mapping[str, Sequence[float]],
    shared: Mapping[str, float],
    *,
    engine: str,
    precision: str,
    chunk_size: int | None,
    plan: Mapping[str, object] | None,
) -> Document:
    """Return the metadata of a study, in types that JSON has.

    Args:
      trainer: trains the members.
      values: of the hyper-parameters that are axes; how many does not matter.
      shared: hyper-parameters that all members have alike.
      engine, precision, chunk_size: as for `train_ensemble`.
      plan: the plan from which the trainer was made, if there is one.
    """
    from importlib.metadata import version

    members = grid(**{axis: of_axis[:1] for axis, of_axis in values.items()}, **shared, seeds=range(1))
    chosen, chunk_size, _ = plan_chunk(trainer, members, engine, precision, chunk_size)
    of_trainer = fingerprint(trainer, members)
    device = jax.devices()[0]
    return {
        "plan": None if plan is None else dict(plan),
        "shared": dict(shared),
        "epochs": trainer.epochs,
        "program": of_trainer.text,
        "program_digest": of_trainer.digest,
        "seed_rule": SEED_RULE,
        "engine": chosen.name,
        "chunk_size": chunk_size if chosen.name == "vmap" else None,  # on which its bits depend
        "precision": precision,
        "x64": bool(jax.config.read("jax_enable_x64")),
        "platform": device.platform,
        "device": None if device.platform == "cpu" else device.device_kind,  # bits are those of any CPU
        "versions": {"xorjax": version("xorjax"), "jax": jax.__version__, "jaxlib": jaxlib.__version__},
    }


def data_digest(*arrays: jax.Array | np.ndarray) -> str:
    """Return the SHA-256 of the bytes of a data set."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def compare_metadata(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> Differences:
    """Return how the metadata in a store differ from those asked for.

    Programs that differ are explained by their plans if both have one.
    """
    lines = []
    for key in dict.fromkeys([*stored, *asked]):
        one, other = stored.get(key), asked.get(key)
        if key in ("plan", "program", "program_digest") or one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += _compare_keys(key, one, other)
        else:
            lines.append(_difference(key, one, other))
    digests = stored.get("program_digest"), asked["program_digest"]
    if digests[0] == digests[1]:
        return Differences(lines, "")
    of_program = _compare_programs(str(stored.get("program")), asked["program"])
    plans = stored.get("plan"), asked["plan"]
    of_plans = _compare_keys("plan", *plans) if all(isinstance(plan, Mapping) for plan in plans) else []
    name = "program" if of_program else "data that the program closes over"
    return Differences(
        [*lines, *(of_plans or [_difference(name, *(f"{each:.12}" for each in digests))])], of_program
    )


def _compare_keys(name: str, one: Any, other: Any) -> list[str]:
    return [
        _difference(f"{name}.{key}", one.get(key), other.get(key))
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key) and (name, key) not in NOT_COMPARED
    ]


def _difference(name: str, stored: object, asked: object) -> str:
    return f"{name}: {stored!r} in the store, {asked!r} asked for"


def _compare_programs(one: str, other: str) -> str:
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))
