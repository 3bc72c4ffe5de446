"""What names a study: the program, and all else that its bits depend on. Two that differ never share a store."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jaxlib
import numpy as np

from xorjax.ensembles.fingerprint import fingerprint
from xorjax.ensembles.members import GENERATOR, grid
from xorjax.ensembles.scheduler import plan_chunk
from xorjax.training.trainer import Trainer

SEED_RULE = (
    f"The member of seed s starts from model.init(jax.random.key(s)), {GENERATOR}; shuffles and resampling follow "
    f"from the same key."
)
NOT_COMPARED = {("versions", "xorjax")}  # what the program does is compared itself
MOST_LINES = 20  # of the difference between two programs


def header_of(
    trainer: Trainer,
    values: Mapping[str, Sequence[float]],
    shared: Mapping[str, float],
    *,
    engine: str,
    precision: str,
    chunk_size: int | None,
    plan: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The header of a store, in types that JSON has.

    Args:
      trainer: what trains the members.
      values: of the hyper-parameters that are axes; how many does not matter.
      shared: hyper-parameters that all members have alike.
      engine, precision, chunk_size: as for `train_ensemble`.
      plan: the study in words from which the trainer was made, if it was.
    """
    from importlib.metadata import version

    members = grid(**{axis: given[:1] for axis, given in values.items()}, **shared, seeds=range(1))
    chosen, chunk_size, _ = plan_chunk(trainer, members, engine, precision, chunk_size)
    made = fingerprint(trainer, members)
    device = jax.devices()[0]
    is_host = device.platform == "cpu"
    return {
        "plan": None if plan is None else dict(plan),
        "shared": dict(shared),
        "epochs": trainer.epochs,
        "program": made.text,
        "program_digest": made.digest,
        "seed_rule": SEED_RULE,
        "engine": chosen.name,
        "chunk_size": chunk_size if chosen.name == "vmap" else None,  # on which its bits depend
        "precision": precision,
        "x64": bool(jax.config.read("jax_enable_x64")),
        "platform": device.platform,
        "device": None
        if is_host
        else device.device_kind,  # a CPU's name does not change bits; its platform's does
        "versions": {"xorjax": version("xorjax"), "jax": jax.__version__, "jaxlib": jaxlib.__version__},
    }


def data_digest(*arrays: Any) -> str:
    """SHA-256 of the bytes of a data set."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What two headers differ in, a line each; of programs, their plans if both have one, or else the lines."""
    found = []
    for key in dict.fromkeys([*stored, *asked]):
        one, other = stored.get(key), asked.get(key)
        if key in ("plan", "program", "program_digest") or one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _unlike(key, one, other)
        else:
            found.append(f"{key}: {one!r} in the store, {other!r} asked for")
    if stored.get("program_digest") != asked["program_digest"]:
        plans = stored.get("plan"), asked["plan"]
        of_plans = _unlike("plan", *plans) if all(isinstance(plan, Mapping) for plan in plans) else []
        found += of_plans or _unlike_programs(str(stored.get("program")), asked["program"])
    return found


def _unlike(name: str, one: Any, other: Any) -> list[str]:
    return [
        f"{name}.{key}: {one.get(key)!r} in the store, {other.get(key)!r} asked for"
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key) and (name, key) not in NOT_COMPARED
    ]


def _unlike_programs(one: str, other: str) -> list[str]:
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    if not changed:
        return ["the data that the program closes over"]
    more = [f"… and {len(changed) - MOST_LINES} lines more"] if len(changed) > MOST_LINES else []
    return ["\n  ".join(["program (- in the store, + asked for):", *changed[:MOST_LINES], *more])]
