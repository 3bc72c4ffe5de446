"""The identity of a study: its program, and all else that its bits depend on. A store has one identity."""

import difflib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jaxlib

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


class DifferentStudyError(ValueError):
    """The store holds another study. Its attribute `program` has the lines in which the programs differ."""

    def __init__(self, message: str, lines: Sequence[str], program: str):
        super().__init__("\n- ".join([message, *lines]))
        self.program = program


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

    They depend on the names of the axes, not on how many values each has. `shared` are hyper-parameters that all
    members have alike; engine, precision and chunk_size are those of `train_ensemble`.
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


def check_same_study(stored: Mapping[str, Any], asked: Mapping[str, Any], message: str) -> None:
    """Check that the metadata in a store are those asked for.

    Raises:
      DifferentStudyError: with the message, and a line for each name that has another value. Programs that differ
        are explained by their plans if both have one.
    """
    of_program = ("plan", "program", "program_digest")
    others = [key for key in {**stored, **asked} if key not in of_program]
    lines = [line for key in others for line in _compare(key, stored.get(key), asked.get(key))]
    plans, programs, digests = ((stored.get(key), asked[key]) for key in of_program)
    text = ""
    if digests[0] != digests[1]:
        one, other = (str(program).splitlines() for program in programs)
        diff = difflib.unified_diff(one, other, lineterm="", n=0)
        text = "\n".join(line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---"))
        name = "program" if text else "data that the program closes over"
        reasons = _compare("plan", *plans) if all(isinstance(plan, Mapping) for plan in plans) else []
        lines += reasons or _compare(name, *(f"{digest:.12}" for digest in digests))
    if lines:
        raise DifferentStudyError(message, lines, text)


def _compare(name: str, stored: Any, asked: Any) -> list[str]:
    """Return a line for each value that differs; tables are compared key by key."""
    if stored == asked or name in NOT_COMPARED:
        return []
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        keys = {**stored, **asked}
        return [line for key in keys for line in _compare(f"{name}.{key}", stored.get(key), asked.get(key))]
    return [f"{name}: {stored!r} in the store, {asked!r} asked for"]
