"""A study in words: the TOML file of `xorjax study`, or its options, checked wholly before any work.

A plan holds names and numbers alone, so that it is kept in the store, and any member can be trained again from it.
"""

import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import typer

import xorjax as xj
from xorjax._checks import check_choice, check_integer
from xorjax.ensembles.members import MAX_SEED
from xorjax.networks.models import ACTIVATIONS, INITIALIZERS
from xorjax.studies.identity import data_digest
from xorjax.studies.options import MAX_HIDDEN_UNITS, optimizers, parse_numbers, parse_seeds, parse_task
from xorjax.studies.setups import Setup, set_up
from xorjax.studies.store.layout import MAX_UNIT, variables_of
from xorjax.studies.toml_lines import lines_of
from xorjax.training.results import Result
from xorjax.training.stopping import RULES
from xorjax.training.trainer import MAX_EPOCHS

LOSSES = {"mse": xj.mse, "sigmoid_cross_entropy": xj.losses.sigmoid_cross_entropy}
MAX_AXIS = 10_000  # values
GREATEST = float(np.finfo(np.float32).max)  # beyond it, a number is infinite where it is trained


class PlanError(ValueError):
    """All that is wrong with a plan, a line each."""


class Problem(NamedTuple):
    """One thing that is wrong: in which key, and what."""

    key: str
    what: str


class Plan(NamedTuple):
    """A study.

    Attributes:
      how: what makes the trainer: names and numbers, all of them, as a store keeps them.
      seeds: the seeds.
      axes: hyper-parameters, a number or a list of them each.
      store: where, or None.
      keep: what is kept, or None for all but the parameters.
      unit: members that are committed as one, or None.
    """

    how: dict[str, Any]
    seeds: range
    axes: dict[str, float | list[float]]
    store: str | None
    keep: list[str] | None
    unit: int | None

    @property
    def firsts(self) -> dict[str, float]:
        """The first value of each hyper-parameter."""
        return {name: value[0] if isinstance(value, list) else value for name, value in self.axes.items()}


def _whole(low: int, high: int) -> Callable[[str, Any], Any]:
    return lambda key, value: check_integer(key, value, low, high)


def _one_of(choices: Mapping[str, Any]) -> Callable[[str, Any], Any]:
    return lambda key, value: (check_choice(key, value, choices), value)[1]


def _fields(key: str, value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{key}={value!r} must be a list of names, such as ['loss'].")
    for i, each in enumerate(value):
        check_choice(f"{key}[{i}]", each, dict.fromkeys(Result._fields))
    return value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{key}={value!r} must be a text.")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        raise ValueError(f"{key}={value!r} must be a text without control characters.")
    return value


def _truth(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{key}={value!r} must be true or false.")
    return value


def _share(key: str, value: Any) -> float:
    if type(value) is not float or not 0 < value < 1:
        raise ValueError(f"{key}={value!r} must be a number between 0 and 1.")
    return value


def _task(key: str, value: Any) -> str:
    return parse_task(_text(key, value)).name


def _seeds(key: str, value: Any) -> range:
    if isinstance(value, str):
        return parse_seeds(value)
    return range(check_integer(key, value, 1, MAX_SEED + 1))


def _epochs(key: str, value: Any) -> list[int]:
    if not isinstance(value, list):
        raise TypeError(f"{key}={value!r} must be a list of epochs.")
    return [check_integer(f"{key}[{i}]", each, 0, MAX_EPOCHS) for i, each in enumerate(value)]


class _Key(NamedTuple):
    check: Callable[[str, Any], Any]
    default: Any = None


HOW = {
    "task": _Key(_task, "xor"),
    "hidden_units": _Key(_whole(1, MAX_HIDDEN_UNITS), 2),
    "hidden": _Key(_one_of(ACTIVATIONS), "sigmoid"),
    "output": _Key(_one_of(ACTIVATIONS), "sigmoid"),
    "kernel_init": _Key(_one_of(INITIALIZERS), "glorot_uniform"),
    "loss": _Key(_one_of(LOSSES), "mse"),
    "optimizer": _Key(_one_of(optimizers()), "sgd"),
    "epochs": _Key(_whole(1, MAX_EPOCHS), 100_000),
    "batch_size": _Key(_whole(1, 2**20)),
    "shuffle": _Key(_truth, True),
    "stop": _Key(_one_of(RULES), "never"),
    "validation_split": _Key(_share),
    "record_every": _Key(_whole(1, MAX_EPOCHS)),
    "record_at": _Key(_epochs),
}
REST = {
    "seeds": _Key(_seeds, 10_000),
    "store": _Key(_text),
    "keep": _Key(_fields),
    "unit": _Key(_whole(1, MAX_UNIT)),
}
AXES = "axes"
_ONE_RECORD = {"record_every": None, "record_at": [0]}
_FITTING = {  # in place of a key that fits none of the others: what fits them all
    "batch_size": {"batch_size": None},
    "record_every": _ONE_RECORD,
    "record_at": _ONE_RECORD,
}


def read_file(path: Path) -> Plan:
    """The plan in a TOML file.

    Raises:
      PlanError: with all that is wrong, and in which lines.
      OSError: if it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows write a mark in front
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of its grammar, its encoding, an integer of too many digits
        raise PlanError(f"{path} is not TOML: {error}") from None
    plan, problems = checked(given)
    if plan is None:
        lines = lines_of(text, AXES)
        found = sorted((lines.get(problem.key, 0), problem.what) for problem in problems)
        told = [f"line {line}: {what}" if line else what for line, what in found]
        raise PlanError("\n".join([f"{path} has {len(told)} problem{'s' * (len(told) > 1)}:", *told]))
    return plan


def checked(given: Mapping[str, Any]) -> tuple[Plan | None, list[Problem]]:
    """A plan from what a file or options give, or all that is wrong with it."""
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    keys = {**HOW, **REST}
    for key, value in given.items():
        if key == AXES:
            continue
        if key not in keys:
            close = get_close_matches(key, [*keys, AXES], 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join([*keys, AXES])}."
            problems.append(Problem(key, f"{key!r} is not a key of a study; {hint}"))
            continue
        try:
            found[key] = keys[key].check(key, value)
        except typer.BadParameter as error:
            problems.append(Problem(key, f"{key}: {error.message}"))
        except (TypeError, ValueError) as error:
            problems.append(Problem(key, str(error)))
    bad = {problem.key for problem in problems}
    for name, key in keys.items():
        if name not in found and name not in bad:
            found[name] = key.check(name, key.default) if key.default is not None else None
    axes = _checked_axes(given.get(AXES, {}), found.get("optimizer"), problems)
    if problems:
        return None, problems
    plan = Plan({name: found[name] for name in HOW}, axes=axes, **{name: found[name] for name in REST})
    problems = _misfits(plan)
    return (None, problems) if problems else (plan, [])


def _misfits(plan: Plan) -> list[Problem]:
    """What is wrong with keys that are right one by one; what is told is replaced, to see what else there is."""
    try:
        trainer = setup_of(plan.how, plan.firsts).trainer
        if plan.keep is not None:
            member = jax.eval_shape(trainer.run, jax.eval_shape(jax.random.key, 0), plan.firsts)
            variables_of(member, plan.keep)
    except (typer.BadParameter, TypeError, ValueError) as error:
        what = error.message if isinstance(error, typer.BadParameter) else str(error)
        key = next((word for word in re.findall(r"\w+", what) if word in {**HOW, **REST}), "")
        how = {**plan.how, **_FITTING.get(key, {})}
        return [Problem(key, what), *(_misfits(plan._replace(how=how)) if how != plan.how else [])]
    return []


def _checked_axes(given: Any, optimizer: str | None, problems: list[Problem]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        problems.append(Problem(AXES, f"{AXES}={given!r} must be a table, [{AXES}], of hyper-parameters."))
        return {}
    allowed = [] if optimizer is None else _hyper_parameters(optimizer)
    axes: dict[str, Any] = {}
    for name, value in {"learning_rate": 0.01, **given}.items():
        key = f"{AXES}.{name}"
        try:
            if allowed and name not in allowed:
                check_choice(AXES, name, dict.fromkeys(allowed))
            numbers = _numbers(value)
            several = numbers if isinstance(numbers, list) else [numbers]
            if not several or not all(type(each) in (int, float) and abs(each) <= GREATEST for each in several):
                raise TypeError(
                    f"{key}={value!r} must be a number, a list of them, or a text such as '0:0.9:10', "
                    f"none beyond {GREATEST:.3g}, the greatest of 32 bits."
                )
            if len(set(map(np.float32, several))) < len(several):
                raise ValueError(f"{key}={value!r} must hold each value once, in float32.")
            if len(several) > MAX_AXIS:
                raise ValueError(f"{key} has {len(several)} values; {MAX_AXIS} are allowed.")
            axes[name] = [float(each) for each in several] if isinstance(numbers, list) else float(numbers)
        except typer.BadParameter as error:
            problems.append(Problem(key, f"{key}: {error.message}"))
        except (TypeError, ValueError) as error:
            problems.append(Problem(key, str(error)))
    return axes


def _numbers(value: Any) -> Any:
    """What a text says: a number, that all members share, or a list of them; anything else is what it is."""
    if not isinstance(value, str):
        return value
    first, *others = parse_numbers(value)
    return [first, *others] if others else first


def _hyper_parameters(optimizer: str) -> list[str]:
    """What an optimizer takes as numbers: its rate, and what has a number for a default, or may be None."""
    _, *others = inspect.signature(optimizers()[optimizer]).parameters.values()
    may = [each.name for each in others if isinstance(each.default, float) or each.name == "momentum"]
    return ["learning_rate", *may]


def setup_of(how: Mapping[str, Any], hparams: Mapping[str, float]) -> Setup:
    """The trainer, and what it trains, for hyper-parameters such as these.

    Raises:
      TypeError, ValueError, typer.BadParameter: naming the key.
    """
    batch, held_out = parse_task(how["task"]).batch, None
    if how["validation_split"] is not None:
        batch, held_out = xj.tasks.split(batch, how["validation_split"])
    try:
        return set_up(
            batch,
            hparams,
            how["optimizer"],
            how["hidden_units"],
            how["epochs"],
            network={name: how[name] for name in ("hidden", "output", "kernel_init")},
            loss=LOSSES[how["loss"]],
            validation=held_out,
            **{name: how[name] for name in ("batch_size", "shuffle", "stop", "record_every", "record_at")},
        )
    except typer.BadParameter as error:  # which names an option, but files and stores have keys
        raise typer.BadParameter(error.message.removeprefix("--")) from None


def kept(plan: Plan) -> dict[str, Any]:
    """What a store keeps of a plan, in types that JSON has."""
    batch = parse_task(plan.how["task"]).batch
    return {**plan.how, "data": f"SHA-256 of float32 x and y: {data_digest(*batch)}"}


def from_store(given: Any) -> dict[str, Any]:
    """What makes the trainer of a plan that was found in a store.

    Raises:
      ValueError: if it is none, or of other data.
    """
    if not isinstance(given, Mapping):
        raise PlanError("the store has no plan: this study was made in Python, and wants its trainer.")
    plan, problems = checked({name: value for name, value in given.items() if name in HOW and value is not None})
    wrong = [problem.what for problem in problems]
    if plan is not None:
        whole = kept(plan)
        wrong = [
            f"{name}={given.get(name)!r}" for name in {**whole, **given} if given.get(name) != whole.get(name)
        ]
        if not wrong:
            return plan.how
    raise PlanError(f"the plan in the store is not one of this version of xorjax: {'; '.join(wrong)}")
