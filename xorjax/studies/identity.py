"""The identity of a study: its program, and all else that its bits depend on. A store has one identity."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
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
NOT_COMPARED = {"versions.xorjax"}  # its programs are compared themselves


class Differences(NamedTuple):
    """How the metadata of two studies differ."""

    lines: list[str]  # one for each name, with its value in the store and the one asked for
    program: str  # the lines of two programs that differ, - in the store and + asked for


class DifferentStudyError(ValueError):
    """The store holds another study. Its attribute `program` has the lines in which the programs differ."""

    def __init__(self, message: str, differences: Differences):
        super().__init__(message + "".join(f"\n- {line}" for line in differences.lines))
        self.program = differences.program


def study_metadata(
    trainer: Trainer,
    values: Mapping[str, Sequence[float]],
    shared: Mapping[str, float],
    plan: Mapping[str, object] | None,
    *,
    engine: str = "auto",
    precision: str = "float32",
    chunk_size: int | None = None,
) -> Document:
    """Return the metadata of a study, in types that JSON has.

    Args:
      trainer: trains the members.
      values: of the hyper-parameters that are axes; how many does not matter.
      shared: hyper-parameters that all members have alike.
      plan: the plan from which the trainer was made, if there is one.
      engine, precision, chunk_size: as for `train_ensemble`.
    """
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
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def compare_metadata(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> Differences:
    """Return how the metadata in a store differ from those asked for.

    Programs that differ are explained by their plans if both have one.
    """
    of_program = ("plan", "program", "program_digest")
    lines = [
        line
        for key in dict.fromkeys([*stored, *asked])
        if key not in of_program
        for line in _compare(key, stored.get(key), asked.get(key))
    ]
    plans, programs, digests = ((stored.get(key), asked[key]) for key in of_program)
    if digests[0] == digests[1]:
        return Differences(lines, "")
    one, other = (str(program).splitlines() for program in programs)
    diff = difflib.unified_diff(one, other, lineterm="", n=0)
    text = "\n".join(line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---"))
    name = "program" if text else "data that the program closes over"
    have_plans = all(isinstance(plan, Mapping) for plan in plans)
    why = _compare("plan", *plans) if have_plans else []
    return Differences([*lines, *(why or _compare(name, *(f"{each:.12}" for each in digests)))], text)


def _compare(name: str, stored: Any, asked: Any) -> list[str]:
    """Return a line for each value that differs; tables are compared key by key."""
    if stored == asked or name in NOT_COMPARED:
        return []
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        keys = dict.fromkeys([*stored, *asked])
        return [line for key in keys for line in _compare(f"{name}.{key}", stored.get(key), asked.get(key))]
    return [f"{name}: {stored!r} in the store, {asked!r} asked for"]
