"""The options of the commands: what may be given, in which words, and what is checked before any work."""

import importlib.util
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
import optax
import typer

from xorjax._checks import check_choice
from xorjax.ensembles.members import MAX_SEED
from xorjax.networks.tasks import Batch, parity, truth_table, xor
from xorjax.training.trainer import MAX_EPOCHS

T = TypeVar("T")
MAX_HIDDEN_UNITS = 1024
MAX_COMBINATIONS = 10_000  # of the values of a sweep: the report has an entry for each
MAX_INPUTS = 8  # of a task: a report of one combination looks at every output of every member


def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """The optimizers of optax and optax.contrib that a learning rate is enough for, and that draw no numbers.

    Left out are those with a key of their own: all members would get the same noise.
    """
    found = {}
    for prefix, module in (("", optax), ("contrib.", optax.contrib)):
        for name, function in inspect.getmembers(module, lambda each: isinstance(each, FunctionType | partial)):
            parameters = list(inspect.signature(function).parameters.values())
            if name.startswith(("_", "scale_by_")) or not parameters:
                continue
            rate, *others = parameters
            if {"key", "seed"} & {p.name for p in others}:
                continue
            if rate.name in ("learning_rate", "max_learning_rate") and not any(
                p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in others
            ):
                found[prefix + name] = function
    return found


def chosen(option: str, value: str, choices: Mapping[str, T]) -> T:
    """The choice called `value`."""
    try:
        return check_choice(option, value, choices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


class Task(NamedTuple):
    """What is to be learned, and the words in which it was asked for."""

    name: str
    batch: Batch


def parse_task(text: str) -> Task:
    """`xor`, `parity:3`, or the outputs of a truth table such as `0110`, for the inputs 00, 01, 10, 11."""
    kind, colon, bits = text.partition(":")
    if text == "xor":
        return Task(text, xor())
    if kind == "parity" and colon:
        if bits not in map(str, range(1, MAX_INPUTS + 1)):
            raise typer.BadParameter(f"{text!r} must be parity:N with N from 1 to {MAX_INPUTS}.")
        return Task(text, parity(int(bits)))
    if not text or set(text) - {"0", "1"}:
        raise typer.BadParameter(f"{text!r} must be xor, parity:3, or the outputs of a truth table such as 0110.")
    if len(text) not in (2**n for n in range(1, MAX_INPUTS + 1)):
        raise typer.BadParameter(
            f"{text!r} has {len(text)} digits; a truth table has 2, 4, 8, … {2**MAX_INPUTS} of them."
        )
    return Task(text, truth_table([int(digit) for digit in text]))


def parse_numbers(text: str) -> tuple[float, ...]:
    """`0.1` is a number, `0.1,0.5` a list, `0:0.9:10` ten numbers, evenly spaced, both ends among them.

    Those in between are given to 12 digits, so that 0:0.9:10 has 0.3 and not 0.30000000000000004, which a network
    cannot tell apart.
    """
    parts = text.split(":")
    try:
        given = [float(part) for part in (parts[:2] if len(parts) == 3 else text.split(","))]
        count = int(parts[2]) if len(parts) == 3 else None
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be a number, a list such as 0.1,0.5, or from:to:count such as 0:0.9:10."
        ) from None
    for number in given:
        with np.errstate(over="ignore"):
            if not np.isfinite(np.float32(number)):
                raise typer.BadParameter(f"{number} is not a finite float32.")
    if count is None:
        return tuple(given)
    if not 2 <= count <= MAX_COMBINATIONS or given[0] == given[1]:
        raise typer.BadParameter(
            f"{text!r} must go from one number to another, and have a count from 2 to {MAX_COMBINATIONS}."
        )
    between = (float(f"{number:.12g}") for number in np.linspace(given[0], given[1], count)[1:-1])
    return given[0], *between, given[1]


def parse_hidden_units(text: str) -> tuple[int, ...]:
    """`3` is a number of units, `2,3,4` a list."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be an integer, or a list such as 2,3,4.") from None
    for number in numbers:
        within(1, MAX_HIDDEN_UNITS)(number)
    return numbers


def joined(parsed: Sequence[Sequence[Any]] | None) -> list[Any] | None:
    """All uses of a repeatable option together, each value once."""
    if parsed is None:
        return None
    values = [value for each in parsed for value in each]
    seen: dict[np.float32, Any] = {}
    for value in values:
        single = np.float32(value)  # as it is trained
        if single in seen:
            same = "is given twice" if seen[single] == value else f"and {seen[single]} are the same float32"
            raise typer.BadParameter(f"{value} {same}; each value may be given once.")
        seen[single] = value
    return values


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def _share(value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"{value} must be between 0 and 1.")
    return value


def parse_seeds(text: str) -> range:
    """`10000` is the seeds 0 to 9,999; `5:900` is 5 to 899."""
    first, colon, last = text.partition(":")
    try:
        seeds = range(int(first), int(last)) if colon else range(int(first))
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be a count such as 10000, or a range such as 5:900.") from None
    if not seeds or seeds[0] < 0 or seeds[-1] > MAX_SEED:
        raise typer.BadParameter(f"{text!r} must name at least one seed, all of them from 0 to {MAX_SEED}.")
    return seeds


def writable(path: Path | None) -> Path | None:
    """Checks before the work, not after it, that its result can be written."""
    if path is not None:
        if path.is_dir() or not path.parent.is_dir():
            raise typer.BadParameter(f"{str(path)!r} must be a file in an existing folder.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise typer.BadParameter(f"{str(path)!r} can't be written.")
    return path


def _figure_file(path: Path | None) -> Path | None:
    if path is not None:
        if importlib.util.find_spec("matplotlib") is None:
            raise typer.BadParameter("figures need matplotlib: pip install 'xorjax[plot]'.")
        if path.suffix not in (".png", ".pdf", ".svg"):
            raise typer.BadParameter(f"{str(path)!r} must end in .png, .pdf or .svg.")
    return writable(path)


def rows_of_update(value: int | None, batch: Batch) -> None:
    """Checks --batch-size against the rows that there are."""
    rows = len(batch.x)
    if value is not None and not 1 <= value <= rows:
        raise typer.BadParameter(
            f"{value} must be between 1 and {rows}, the rows to train on.", param_hint="'--batch-size'"
        )


def within(low: int, high: int) -> Callable[[int], int]:
    def checked(value: int) -> int:
        if not low <= value <= high:
            raise typer.BadParameter(f"{value} must be between {low} and {high}.")
        return value

    return checked


_NUMBERS = "X|X,Y|FROM:TO:COUNT"

LearningRate = Annotated[float, typer.Option(callback=_finite, help="Learning rate.")]
LearningRates = Annotated[
    list[float],
    typer.Option(
        "--learning-rate",
        parser=parse_numbers,
        callback=joined,
        metavar=_NUMBERS,
        help="Learning rates; repeatable. FROM:TO:COUNT is evenly spaced, with both ends.",
    ),
]
Momentum = Annotated[float | None, typer.Option(callback=_finite, help="Momentum, where the optimizer has one.")]
Momenta = Annotated[
    list[float] | None,
    typer.Option(
        "--momentum",
        parser=parse_numbers,
        callback=joined,
        metavar=_NUMBERS,
        help="Momenta, where the optimizer has one; repeatable.",
    ),
]
Epochs = Annotated[int, typer.Option(callback=within(1, MAX_EPOCHS), help="Passes over all patterns.")]
Optimizer = Annotated[str, typer.Option(help="Any optimizer of optax, by name: sgd, adam, lion, …")]
HiddenUnits = Annotated[int, typer.Option(callback=within(1, MAX_HIDDEN_UNITS), help="Units of the hidden layer.")]
Sizes = Annotated[
    list[int],
    typer.Option(
        "--hidden-units",
        parser=parse_hidden_units,
        callback=joined,
        metavar="N|N,M",
        help="Units of the hidden layer; repeatable.",
    ),
]
BatchSize = Annotated[int, typer.Option(callback=within(1, 4), help="Patterns in an update.")]
RowsOfUpdate = Annotated[
    int | None, typer.Option("--batch-size", help="Patterns in an update; without it, all that are trained on.")
]
Stop = Annotated[
    str,
    typer.Option(
        metavar="never|solved", help="Whether a network stops once all is right and its loss below 0.01."
    ),
]
ValidationSplit = Annotated[
    float | None, typer.Option(callback=_share, help="Share of the patterns held out, and judged alone.")
]
Json = Annotated[Path | None, typer.Option("--json", callback=writable, help="Write the report here as JSON.")]
Plot = Annotated[Path | None, typer.Option(callback=_figure_file, help="Write a figure here (png, pdf, svg).")]
Seeds = Annotated[
    range, typer.Option(parser=parse_seeds, metavar="N|FROM:TO", help="How many seeds, or which, without TO.")
]
TaskOption = Annotated[
    Task,
    typer.Option(
        "--task",
        parser=parse_task,
        metavar="xor|parity:N|TABLE",
        help="What is to be learned; TABLE is the outputs for 00, 01, 10, 11, such as 0110.",
    ),
]
