"""A study in words: what a TOML file or the options of the command say, checked completely before any work.

A plan holds what JSON holds (names, numbers, lists), so a store can keep it and any member can be trained again
from it. `plan_keys` has the keys of a TOML file.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from xorjax.networks.models import Model, mlp
from xorjax.networks.tasks import Batch, split
from xorjax.studies.parsing import find_hyper_parameters, parse_task, parse_values
from xorjax.studies.plan_keys import KEYS, LOSSES, OPTIMIZERS, STUDY_KEYS, TRAINER_KEYS
from xorjax.studies.store.layout import list_variables
from xorjax.training.trainer import Trainer, trainer

AXES = "axes"
TRAINER_ARGUMENTS = ("epochs", "batch_size", "shuffle", "stop", "record_every", "record_at")


class PlanError(ValueError):
    """One fault of a plan: its attribute `key`, such as "epochs" or "axes.momentum", begins the message."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


class Plan(NamedTuple):
    """A study; None stands for a default."""

    options: dict[str, Any]  # all that the trainer is made from, by the keys of `TRAINER_KEYS`
    seeds: range
    axes: dict[str, float | list[float]]  # by name: a list makes an axis, one number is shared by all members
    store: str | None  # a folder, or a URL
    keep: list[str] | None  # the fields of `Result` that are stored
    shard_size: int | None  # how many members are committed together

    @property
    def first_hparams(self) -> dict[str, float]:
        """The first value of each hyper-parameter."""
        return {name: value[0] if isinstance(value, list) else value for name, value in self.axes.items()}


class Setup(NamedTuple):
    """The trainer of the members of a plan, and its parts."""

    trainer: Trainer
    model: Model
    batch: Batch  # the rows that are trained on
    network: str  # the sizes of the layers, such as "2-2-1"
    held_out: Batch | None
    updates: int  # in an epoch


_RECORD_ONCE = {"record_every": None, "record_at": [0]}
_SUBSTITUTES = {  # after a conflict of a key: values of it with which the search for others goes on
    "batch_size": {"batch_size": None},
    "record_every": _RECORD_ONCE,
    "record_at": _RECORD_ONCE,
}


def read_plan(path: Path) -> Plan:
    """Read the plan in a TOML file, or raise a ValueError with all faults, one in a line."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte-order mark
    except (ValueError, RecursionError) as error:  # of the grammar, the encoding, an integer of too many digits
        raise ValueError(f"{path} is not TOML: {error}") from None
    plan, errors = build_plan(given)
    if plan is None:
        title = f"{path} has {len(errors)} problem{'s' * (len(errors) > 1)}:"
        raise ValueError("\n".join([title, *map(str, errors)]))
    return plan


def build_plan(given: Mapping[str, Any]) -> tuple[Plan | None, list[PlanError]]:
    """Return the plan that these keys and values describe, or None and all faults.

    >>> plan, errors = build_plan({"epochs": 0, "axes": {"learning_rate": "fast"}})
    >>> [error.key for error in errors]
    ['epochs', 'axes.learning_rate']
    """
    errors: list[PlanError] = []
    values = {name: key.default and key.check(name, key.default) for name, key in KEYS.items()}
    for name, value in given.items():
        try:
            if name in KEYS:
                values[name] = KEYS[name].check(name, value)
            elif name != AXES:
                close = get_close_matches(name, [*KEYS, AXES], 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join([*KEYS, AXES])}."
                raise ValueError(f"{name!r} is not a key of a study; {hint}")
        except (TypeError, ValueError) as error:
            errors.append(PlanError(name, str(error)))
    is_known = "optimizer" not in {error.key for error in errors}
    axes = _check_axes(given.get(AXES, {}), values["optimizer"] if is_known else None, errors)
    if errors:
        return None, errors
    options = {name: values[name] for name in TRAINER_KEYS}
    plan = Plan(options, axes=axes, **{name: values[name] for name in STUDY_KEYS})
    errors = _find_conflicts(plan)
    return (None, errors) if errors else (plan, [])


def _check_axes(given: Any, optimizer: str | None, errors: list[PlanError]) -> dict[str, float | list[float]]:
    """Return the hyper-parameters of a plan; add to `errors`. The optimizer is None if it is not known."""
    if not isinstance(given, Mapping):
        errors.append(PlanError(AXES, f"{AXES}={given!r} must be a table, [{AXES}], of hyper-parameters."))
        return {}
    axes: dict[str, float | list[float]] = {}
    for name, value in {"learning_rate": 0.01, **given}.items():
        key = f"{AXES}.{name}"
        try:
            if optimizer is not None:
                _check_hyper_parameter(key, name, optimizer)
            axes[name] = parse_values(key, value)
        except (TypeError, ValueError) as error:
            errors.append(PlanError(key, str(error)))
    return axes


def _check_hyper_parameter(key: str, name: str, optimizer: str) -> None:
    allowed = find_hyper_parameters(OPTIMIZERS[optimizer])
    if name not in allowed:
        close = get_close_matches(name, allowed, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ValueError(f"{key}: the optimizer {optimizer} takes {', '.join(allowed)}{hint}")


def _find_conflicts(plan: Plan) -> list[PlanError]:
    """Return conflicts between individually valid keys. After each, substitute a value and look again."""
    errors: list[PlanError] = []
    options = plan.options
    while True:
        try:
            run = build_setup(options, plan.first_hparams).trainer.run
            if plan.keep is not None:
                member = jax.eval_shape(run, jax.eval_shape(jax.random.key, 0), plan.first_hparams)
                list_variables(member, plan.keep)
            return errors
        except (TypeError, ValueError) as error:
            key = re.split(r"\W", str(error), maxsplit=1)[0]  # messages begin with the argument
            errors.append(PlanError(key if key in KEYS else "", str(error)))
            if key not in _SUBSTITUTES:
                return errors
            options = {**options, **_SUBSTITUTES[key]}


def build_setup(options: Mapping[str, Any], hparams: Mapping[str, float]) -> Setup:
    """Return the trainer of the options of a plan and of hyper-parameters with these names, with its parts.

    A TypeError or a ValueError names the key if options do not fit together.
    """
    optimizer = options["optimizer"]
    for name in hparams:
        _check_hyper_parameter(f"{AXES}.{name}", name, optimizer)

    def make_optimizer(h: Mapping[str, Any]) -> optax.GradientTransformation:
        learning_rate, others = h["learning_rate"], {name: h[name] for name in h if name != "learning_rate"}
        return OPTIMIZERS[optimizer](learning_rate, **others)

    batch, held_out = parse_task("task", options["task"]), None
    if options["validation_split"] is not None:
        batch, held_out = split(batch, options["validation_split"])
    sizes = (batch.x.shape[1], options["hidden_units"], 1)
    model = mlp(sizes, **{name: options[name] for name in ("hidden", "output", "kernel_init")})
    settings = {name: options[name] for name in TRAINER_ARGUMENTS}
    loss = LOSSES[options["loss"]]
    of_plan = trainer(model, batch, make_optimizer, loss=loss, validation=held_out, **settings)
    try:
        jax.eval_shape(of_plan.run, jax.eval_shape(jax.random.key, 0), hparams)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{optimizer=} can't be used here: {error}") from None
    rows = len(batch.x)
    updates = -(-rows // (options["batch_size"] or rows))
    return Setup(of_plan, model, batch, "-".join(map(str, sizes)), held_out, updates)


def to_store(plan: Plan) -> dict[str, Any]:
    """Return what a store keeps of a plan, in types that JSON has."""
    rows = b"".join(np.asarray(each).tobytes() for each in parse_task("task", plan.options["task"]))
    return {**plan.options, "data": f"SHA-256 of float32 x and y: {hashlib.sha256(rows).hexdigest()}"}


def from_store(stored: Any) -> dict[str, Any]:
    """Return the options of the plan that a store keeps, unless it means something else in this version."""
    if not isinstance(stored, Mapping):
        raise ValueError("the store has no plan: the study was made in Python, and only its trainer can train it.")
    given = {name: value for name, value in stored.items() if name in TRAINER_KEYS and value is not None}
    plan, faults = build_plan(given)
    if plan is not None:
        now = to_store(plan)
        # A key that the store lacks is newer than the store; its default is the behaviour before it.
        names = [name for name in ("data", *stored) if stored.get(name) != now.get(name)]
        faults = [f"{name}={stored.get(name)!r}" for name in dict.fromkeys(names)]
        if not faults:
            return plan.options
    raise ValueError(f"the plan in the store is not one of this version of xorjax: {'; '.join(map(str, faults))}")
