"""The options of the commands: what may be given, in which words, and what is checked before any work."""

import importlib.util
import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import optax
import typer

from xorjax.members import MAX_SEED
from xorjax.training import MAX_EPOCHS


def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """The optimizers of optax and optax.contrib that a learning rate is enough for, and that draw no numbers.

    Left out are those with a key of their own: all members would get the same noise.
    """
    found = {}
    for prefix, module in (("", optax), ("contrib.", optax.contrib)):
        for name, function in inspect.getmembers(module, inspect.isfunction):
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


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
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


def within(low: int, high: int) -> Callable[[int], int]:
    def checked(value: int) -> int:
        if not low <= value <= high:
            raise typer.BadParameter(f"{value} must be between {low} and {high}.")
        return value

    return checked


LearningRate = Annotated[float, typer.Option(callback=_finite, help="Learning rate.")]
Momentum = Annotated[float | None, typer.Option(callback=_finite, help="Momentum, where the optimizer has one.")]
Epochs = Annotated[int, typer.Option(callback=within(1, MAX_EPOCHS), help="Passes over the four patterns.")]
Optimizer = Annotated[str, typer.Option(help="Any optimizer of optax, by name: sgd, adam, lion, …")]
HiddenUnits = Annotated[int, typer.Option(callback=within(1, 1024), help="Units of the hidden layer.")]
BatchSize = Annotated[int, typer.Option(callback=within(1, 4), help="Patterns in an update.")]
Json = Annotated[Path | None, typer.Option("--json", callback=writable, help="Write the report here as JSON.")]
Plot = Annotated[Path | None, typer.Option(callback=_figure_file, help="Write a figure here (png, pdf, svg).")]
