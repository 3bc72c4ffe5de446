"""The options of the commands, and the plan that they describe. Texts are parsed and checked by `studies.plan`."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xorjax.studies.plan import AXES, Plan, PlanError, build_plan

HYPER_PARAMETERS = ("learning_rate", "momentum")


def build_plan_from_options(**given: object) -> Plan:
    """Return the plan that options describe; an option that is None has its default.

    Raises:
      BadParameter: with all that is wrong.
    """
    given = {name: value for name, value in given.items() if value is not None}
    axes = {name: _unpack(given.pop(name)) for name in HYPER_PARAMETERS if name in given}
    plan, errors = build_plan({**given, AXES: axes})
    if plan is None:
        raise typer.BadParameter("; ".join(_name_option(error) for error in errors))
    return plan


def _unpack(value: object) -> object:
    """Return the text of an option that is used once: a single number is shared by all members, and no axis."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


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


_NUMBERS = "X|X,Y|FROM:TO:COUNT"

Seeds = Annotated[
    str | None,
    typer.Option(metavar="N|FROM:TO", show_default="10000", help="How many seeds, or which, without TO."),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="xor|parity:N|TABLE",
        show_default="xor",
        help="The function to learn; TABLE is the outputs for 00, 01, 10, 11, such as 0110.",
    ),
]
LearningRate = Annotated[float | None, typer.Option(show_default="0.01", help="Learning rate.")]
LearningRates = Annotated[
    list[str] | None,
    typer.Option(
        "--learning-rate",
        metavar=_NUMBERS,
        show_default="0.01",
        help="Learning rates; repeatable. FROM:TO:COUNT is evenly spaced, with both ends.",
    ),
]
Momentum = Annotated[float | None, typer.Option(help="Momentum, if the optimizer has one.")]
Momenta = Annotated[
    list[str] | None,
    typer.Option("--momentum", metavar=_NUMBERS, help="Momenta, if the optimizer has one; repeatable."),
]
Epochs = Annotated[
    str | None,
    typer.Option(metavar="N", show_default="100000", help="Passes over all patterns; 1e5 is accepted too."),
]
Optimizer = Annotated[
    str | None, typer.Option(show_default="sgd", help="Any optimizer of optax, by name: sgd, adam, lion, …")
]
HiddenUnits = Annotated[str | None, typer.Option(metavar="N", show_default="2", help="Units of the hidden layer.")]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--hidden-units", metavar="N|N,M", show_default="2", help="Units of the hidden layer; repeatable."
    ),
]
BatchSize = Annotated[
    str | None,
    typer.Option(metavar="N", show_default="all", help="Patterns in an update of the weights."),
]
Stop = Annotated[
    str | None,
    typer.Option(
        metavar="never|solved",
        show_default="never",
        help="When a network stops early: solved means all patterns right and a loss below 0.01.",
    ),
]
ValidationSplit = Annotated[
    float | None, typer.Option(help="Share of the patterns held out: not trained on, but judged apart.")
]
Json = Annotated[
    Path | None, typer.Option("--json", callback=check_writable, help="Write the report here as JSON.")
]
Plot = Annotated[Path | None, typer.Option(callback=_check_figure, help="Write a figure here (png, pdf, svg).")]
