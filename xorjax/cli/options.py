"""The options of the commands, and the plan that they describe. Texts are parsed and checked by `studies.plan`."""

import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from xorjax.studies.plan import AXES, Plan, PlanError, build_plan
from xorjax.studies.plan_keys import KEYS

HYPER_PARAMETERS = ("learning_rate", "momentum")
NETWORK = (*HYPER_PARAMETERS, "epochs", "optimizer", "hidden_units", "batch_size")  # options of every training
Given = dict[str, Any]  # the options of a plan that were used, by its keys


def build_plan_from_options(given: Mapping[str, Any]) -> Plan:
    """Return the plan that options describe, or refuse them with all that is wrong; other keys have defaults."""
    options = {name: value for name, value in given.items() if name not in HYPER_PARAMETERS}
    axes = {name: given[name] for name in HYPER_PARAMETERS if name in given}
    for name, value in axes.items():
        if isinstance(value, list) and len(value) == 1:  # a single number is shared by all members, and no axis
            axes[name] = value[0]
    plan, errors = build_plan({**options, AXES: axes})
    if plan is None:
        raise typer.BadParameter("; ".join(_name_option(error) for error in errors))
    return plan


def _name_option(error: PlanError) -> str:
    """Return the message of an error with the option in place of the key: "--batch-size=5 must be …"."""
    option = "--" + error.key.removeprefix(f"{AXES}.").replace("_", "-")
    message = str(error)
    return f"{option}{message[len(error.key) :]}" if error.key and message.startswith(error.key) else message


@contextmanager
def refuse_wrong_values() -> Iterator[None]:
    """Turn errors of the library into errors of an option."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None


def check_writable(path: Path | None) -> Path | None:
    """Check before the work that its result can be written."""
    if path is not None:
        if path.is_dir() or not path.parent.is_dir():
            raise typer.BadParameter(f"{str(path)!r} must be a file in an existing folder.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise typer.BadParameter(f"{str(path)!r} can't be written.")
    return path


def _check_figure(path: Path | None) -> Path | None:
    if path is not None:
        if importlib.util.find_spec("matplotlib") is None:
            raise typer.BadParameter("figures need matplotlib: pip install 'xorjax[plot]'.")
        if path.suffix not in (".png", ".pdf", ".svg"):
            raise typer.BadParameter(f"{str(path)!r} must end in .png, .pdf or .svg.")
    return check_writable(path)


def _option(kind: Any, help_text: str, metavar: str | None = None, default: str | bool = True) -> Any:
    return Annotated[kind | None, typer.Option(metavar=metavar, show_default=default, help=help_text)]


_NUMBERS = "X|X,Y|FROM:TO:COUNT"
_DEFAULTS = {name: str(key.default) for name, key in KEYS.items()}
RATE = _option(float, "Learning rate.", default="0.01")
MOMENTUM = _option(float, "Momentum, if the optimizer has one.")
SIZES = _option(list[str], "Units of the hidden layer; repeatable.", "N|N,M", _DEFAULTS["hidden_units"])
_RATES = "Learning rates; repeatable. FROM:TO:COUNT is evenly spaced, with both ends."
_TASK = "The function to learn; TABLE is the outputs for 00, 01, 10, 11, such as 0110."
_OPTIMIZER = "Any optimizer of optax, by name: sgd, adam, lion, …"
_STOP = "When a network stops early: solved means all patterns right and a loss below 0.01."
_KEEP = "Which results are stored, such as loss; repeatable. All but params."
PLAN_OPTIONS = {  # the type of each option of a plan, with its help
    "seeds": _option(str, "How many seeds, or which, without TO.", "N|FROM:TO", _DEFAULTS["seeds"]),
    "task": _option(str, _TASK, "xor|parity:N|TABLE", _DEFAULTS["task"]),
    "learning_rate": _option(list[str], _RATES, _NUMBERS, "0.01"),
    "momentum": _option(list[str], "Momenta, if the optimizer has one; repeatable.", _NUMBERS),
    "epochs": _option(str, "Passes over all patterns; 1e5 is accepted too.", "N", _DEFAULTS["epochs"]),
    "optimizer": _option(str, _OPTIMIZER, default=_DEFAULTS["optimizer"]),
    "hidden_units": _option(str, "Units of the hidden layer.", "N", _DEFAULTS["hidden_units"]),
    "batch_size": _option(str, "Patterns in an update of the weights.", "N", "all"),
    "stop": _option(str, _STOP, "never|solved", _DEFAULTS["stop"]),
    "validation_split": _option(float, "Share of the patterns held out: not trained on, but judged apart."),
    "keep": _option(list[str], _KEEP, "NAME"),
}
Json = Annotated[
    Path | None, typer.Option("--json", callback=check_writable, help="Write the report here as JSON.")
]
Plot = Annotated[Path | None, typer.Option(callback=_check_figure, help="Write a figure here (png, pdf, svg).")]


def take_options(*keys: str, **types: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options of a plan in place of its parameter `given`, which gets those that are used.

    The keys have the order of the help; `types` replace those in `PLAN_OPTIONS`.
    """
    kinds = {key: types.get(key, PLAN_OPTIONS[key]) for key in keys}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def call(**arguments: Any) -> None:
            given = {key: arguments.pop(key) for key in keys}
            command(**arguments, given={key: value for key, value in given.items() if value is not None})

        parameters = []
        for own in inspect.signature(command).parameters.values():
            options = [own.replace(name=key, default=None, annotation=kind) for key, kind in kinds.items()]
            parameters += options if own.name == "given" else [own]
        call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        return call

    return decorate
