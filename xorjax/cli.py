"""The command `xorjax`: options in, the library at work, reports out. No numerics."""

import inspect
import io
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from typer.core import TyperGroup
from typer.exceptions import TyperException

import xorjax as xj
from xorjax import bench as benchmark
from xorjax import report, statistics
from xorjax._checks import named
from xorjax.ensemble import ENGINES
from xorjax.members import MAX_SEED
from xorjax.options import (
    BatchSize,
    Epochs,
    HiddenUnits,
    Json,
    LearningRate,
    Momentum,
    Optimizer,
    Plot,
    optimizers,
    parse_seeds,
    within,
)
from xorjax.published import TUTORIAL_RUNS
from xorjax.rounds import rounds

CURVE_POINTS = 500
INTERRUPTED = 130  # the shell's exit code for SIGINT


class OneLineErrors(TyperGroup):
    """Errors as one line on stderr, and exit code 2; an interrupt likewise, and 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer ends it quietly
            raise
        except OSError as error:
            typer.echo(f"xorjax: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:  # outside the work, which reports what it has finished
            _end_interrupted()

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # ½ and ━ on a terminal that has none
        try:
            code = super().main(*args, **kwargs)
        except TyperException as error:
            if message := " ".join(error.format_message().split()):  # empty after the help of a bare `xorjax`
                typer.echo(f"xorjax: {message}", err=True)
            sys.exit(2)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Train the XOR network of the tutorials: once, or ten thousand times.",
)


class Setup(NamedTuple):
    """What the options describe, ready to run and in words."""

    trainer: xj.Trainer
    hparams: dict[str, float]
    model: xj.Model
    batch: xj.Batch
    settings: dict[str, Any]


def _setup(
    learning_rate: float,
    momentum: float | None,
    epochs: int,
    optimizer: str,
    hidden_units: int,
    batch_size: int,
    record_every: int | None = None,
) -> Setup:
    try:
        make = named("--optimizer", optimizer, optimizers())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    hparams = {"learning_rate": learning_rate}
    if momentum is not None:
        if "momentum" not in inspect.signature(make).parameters:
            raise typer.BadParameter(f"--momentum={momentum:g}: the optimizer {optimizer} takes none; sgd does.")
        hparams["momentum"] = momentum

    def optimizer_of(h: dict[str, Any]) -> optax.GradientTransformation:
        others = {name: value for name, value in h.items() if name != "learning_rate"}
        return make(h["learning_rate"], **others)

    batch, model = xj.xor(), xj.mlp((2, hidden_units, 1))
    trainer = xj.trainer(
        model, batch, optimizer_of, epochs=epochs, batch_size=batch_size, record_every=record_every
    )
    try:
        jax.eval_shape(trainer.run, jax.random.key(0), hparams)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"--optimizer={optimizer!r} can't be used here: {error}") from None
    settings = {
        "network": f"2-{hidden_units}-1",
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "epochs": epochs,
        "batch_size": batch_size,
    }
    return Setup(trainer, hparams, model, batch, settings)


def _progress(*columns: ProgressColumn) -> Progress:
    """A live bar on stderr, so that stdout holds the report alone."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@app.command()
def train(
    seed: Annotated[int, typer.Option(callback=within(0, MAX_SEED), help="The seed that names the network.")] = 7,
    learning_rate: LearningRate = 0.01,
    momentum: Momentum = None,
    epochs: Epochs = 100_000,
    optimizer: Optimizer = "sgd",
    hidden_units: HiddenUnits = 2,
    batch_size: BatchSize = 4,
    plot: Plot = None,
) -> None:
    """The tutorial: train one network on XOR, and see what it predicts."""
    every = -(-epochs // CURVE_POINTS)
    setup = _setup(learning_rate, momentum, epochs, optimizer, hidden_units, batch_size, record_every=every)
    trainer, hparams, batch = setup.trainer, setup.hparams, setup.batch
    console = Console(highlight=False)
    state = jax.jit(trainer.init)(jax.random.key(seed), hparams)
    console.print(xj.summary(state.params), soft_wrap=True)

    advance = jax.jit(trainer.advance)

    def train_on(epochs: Any) -> xj.Record | None:
        nonlocal state
        state, found = jax.block_until_ready(advance(state, hparams, epochs))
        return found

    epoch = 0
    records: list[xj.Record] = []
    shown = TextColumn("loss {task.fields[loss]:.6f}  accuracy {task.fields[accuracy]:.2f}")
    with suppress(KeyboardInterrupt), _progress(shown) as progress:
        bar = progress.add_task(f"seed {seed}", total=epochs, loss=math.nan, accuracy=math.nan)
        for done in rounds(trainer, train_on):
            epoch = done.epoch
            if done.records is not None:
                records.append(done.records)
            last = records[-1]
            progress.update(bar, completed=epoch, loss=last.loss[-1].item(), accuracy=last.accuracy[-1].item())
    result = jax.device_get(jax.jit(trainer.finish)(state, hparams))

    for pattern, target, prediction in zip(batch.x, batch.y, result.predictions, strict=True):
        bits = " ".join(str(int(bit)) for bit in pattern)
        console.print(f"{bits} → {prediction[0]:.8f}   (target {int(target[0])})")
    outcome = xj.Outcome(int(result.outcome)).name.lower()
    since = f" since epoch {result.solved_epoch:,}" if outcome == "solved" else ""
    console.print(
        f"{outcome}{since}: loss {result.loss:.6g}, accuracy {result.accuracy:.2f} after {result.epochs:,} epochs"
    )
    if plot is not None and records:
        _plot_training(plot, setup, result, records, every)
    if epoch < epochs:
        _end_interrupted(f"after {result.epochs:,} of {epochs:,} epochs")


@app.command()
def ensemble(
    seeds: Annotated[
        range, typer.Option(parser=parse_seeds, metavar="N|FROM:TO", help="How many seeds, or which.")
    ] = "10000",  # type: ignore[assignment]  # typer parses defaults too
    learning_rate: LearningRate = 0.01,
    momentum: Momentum = None,
    epochs: Epochs = 100_000,
    optimizer: Optimizer = "sgd",
    hidden_units: HiddenUnits = 2,
    batch_size: BatchSize = 4,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """The main job: train one network for each of many seeds, and see how they end."""
    setup = _setup(learning_rate, momentum, epochs, optimizer, hidden_units, batch_size)
    settings = {"seeds": [seeds.start, seeds.stop], **setup.settings}
    updates = epochs * -(-len(setup.batch.x) // batch_size)

    blocks: list[xj.Result] = []
    begun = time.perf_counter()
    with suppress(KeyboardInterrupt), _progress(TextColumn("{task.fields[rate]:.2g} net-steps/s")) as progress:
        bar = progress.add_task(f"{len(seeds):,} seeds", total=len(seeds), rate=0.0)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, rate=done * updates / (time.perf_counter() - begun))

        with closing(xj.train_blocks(setup.trainer, seeds, setup.hparams, progress=show)) as finished:
            for _, block in finished:
                blocks.append(block._replace(params=None))  # the report needs none
    seconds = time.perf_counter() - begun
    if not blocks:
        _end_interrupted("before any member finished")
    results = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)

    made = report.ensemble_report(results, setup.batch, settings, seconds)
    if json_file is not None:
        json_file.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if plot is not None:
        _plot_ensemble(plot, setup, results)
    report.print_report(Console(highlight=False), made)  # last: files are kept even where nobody reads on
    if len(results.loss) < len(seeds):
        _end_interrupted(f"the report is of the {len(results.loss):,} of {len(seeds):,} members that finished")


@app.command()
def info() -> None:
    """Versions, devices, and the engines that are available here."""
    console = Console(highlight=False)
    for name, version in {"python": platform.python_version(), **report.versions()}.items():
        console.print(f"{name:<10} {version}")
    for name, version in {"optax": optax.__version__, "numpy": np.__version__}.items():
        console.print(f"{name:<10} {version}")
    console.print(f"{'devices':<10} {', '.join(str(device) for device in jax.devices())}")
    console.print(f"{'engines':<10} {', '.join(ENGINES)}")


@app.command()
def bench(
    networks: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="NAME", help="Which networks; repeatable. All, and stopping."),
    ] = None,
    members: Annotated[
        list[int] | None, typer.Option(min=1, max=2**24, help="How many members; repeatable. 1 to 262,144.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each, in turn.")] = benchmark.ROUNDS,
    json_file: Json = None,
) -> None:
    """How fast the engines are here: updates of all members per second, by network and number of members."""
    chosen = list(networks or benchmark.NETWORKS)
    counts = list(members or benchmark.MEMBERS)
    for name in chosen:
        try:
            named("--network", name, benchmark.NETWORKS)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    cells: list[list[benchmark.Cell]] = []
    stopping: benchmark.Stopping | None = None
    with suppress(KeyboardInterrupt), _progress() as progress:
        bar = progress.add_task("measuring", total=len(chosen) * len(counts))
        for found in benchmark.measure(chosen, counts, rounds):
            cells.append(found)
            progress.update(bar, advance=1, description=f"{found[0].network} × {found[0].members:,}")
        if not networks:
            progress.update(bar, description="stopping when solved")
            stopping = benchmark.stopping(rounds=rounds)
    made = {
        "hardware": benchmark.hardware(),
        "versions": report.versions(),
        "rounds": rounds,
        "lines": [benchmark.summarized(each) for each in cells],
        "cells": [cell._asdict() for each in cells for cell in each],
        "stopping": stopping and stopping._asdict(),
    }
    if json_file is not None:
        json_file.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    console = Console(highlight=False)
    console.print(f"net-steps/s on {made['hardware']}; medians of {rounds} rounds\n", soft_wrap=True)
    report.print_bench(console, made)
    if len(cells) < len(chosen) * len(counts):
        _end_interrupted(f"{len(cells)} of {len(chosen) * len(counts)} lines were measured")


def _end_interrupted(what: str = "") -> NoReturn:
    typer.echo(f"xorjax: interrupted{what and ': '}{what}", err=True)
    raise typer.Exit(INTERRUPTED)


def _plot_training(path: Path, setup: Setup, result: xj.Result, records: Sequence[xj.Record], every: int) -> None:
    from matplotlib.figure import Figure

    from xorjax import plots

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = jax.tree.map(lambda *parts: np.concatenate(parts), *records)
    plots.loss_curve(left, xj.History(np.arange(len(found.loss)) * every, *found))
    axis = np.linspace(-0.25, 1.25, 151)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    outputs = np.asarray(setup.model.apply(result.params, points)).reshape(len(axis), len(axis))
    plots.decision_surface(right, axis, outputs, *setup.batch)
    figure.savefig(path, dpi=150)


def _plot_ensemble(path: Path, setup: Setup, results: xj.Result) -> None:
    from matplotlib.figure import Figure

    from xorjax import plots

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    plots.loss_histogram(left, results.loss, TUTORIAL_RUNS)
    epochs = setup.settings["epochs"]
    plots.unsolved_members(middle, statistics.survival_curve(results.solved_epoch, epochs))
    plots.prediction_strips(right, results.predictions, *setup.batch)
    figure.savefig(path, dpi=150)
