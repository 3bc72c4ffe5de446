"""The command `xorjax`: options in, the library at work, reports out. No numerics."""

import math
import platform
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import optax
import typer
from rich.console import Console
from rich.progress import TextColumn

import xorjax as xj
from xorjax.cli import study
from xorjax.cli.terminal import (
    OneLineErrors,
    deliver,
    end_if_interrupted,
    end_interrupted,
    heeded_interrupts,
    training_bar,
)
from xorjax.ensembles.engines.choice import KERNEL_BACKENDS, available_engines, choose_engine
from xorjax.ensembles.members import MAX_SEED
from xorjax.ensembles.rounds import iter_rounds
from xorjax.reports import report, sweep_report
from xorjax.reports import sweep as sweeps
from xorjax.studies.live import live_bar
from xorjax.studies.options import (
    MAX_COMBINATIONS,
    BatchSize,
    Epochs,
    HiddenUnits,
    Json,
    LearningRate,
    LearningRates,
    Momenta,
    Momentum,
    Optimizer,
    Plot,
    RowsOfUpdate,
    Seeds,
    Sizes,
    Stop,
    TaskOption,
    ValidationSplit,
    chosen,
    rows_of_update,
    within,
)
from xorjax.studies.setups import Setup, set_up
from xorjax.training.stopping import RULES

CURVE_POINTS = 500
RATE = {"learning_rate": 0.1}  # of a network that is explained; its value does not matter


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Train the XOR network of the tutorials: once, or ten thousand times.",
)
app.add_typer(study.app, name="study")


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
    batch, hparams = xj.xor(), {"learning_rate": learning_rate}
    if momentum is not None:
        hparams["momentum"] = momentum
    setup = set_up(batch, hparams, optimizer, hidden_units, epochs, batch_size=batch_size, record_every=every)
    trainer = setup.trainer
    console = Console(highlight=False)
    state = jax.jit(trainer.init)(jax.random.key(seed), hparams)
    console.print(xj.summary(state.params), soft_wrap=True)

    advance = jax.jit(trainer.run_epochs)

    def train_on(epochs: Any) -> xj.training.EpochMetrics | None:
        nonlocal state
        state, found = jax.block_until_ready(advance(state, hparams, epochs))
        return found

    epoch = 0
    records: list[xj.training.Record] = []
    shown = TextColumn("loss {task.fields[loss]:.6f}  accuracy {task.fields[accuracy]:.2f}")
    with suppress(KeyboardInterrupt), heeded_interrupts() as heed, live_bar(shown) as progress:
        bar = progress.add_task(f"seed {seed}", total=epochs, loss=math.nan, accuracy=math.nan)
        for done in iter_rounds(trainer, train_on):
            epoch = done.epoch
            if done.records is not None:
                records.append(done.records)
            loss, accuracy = (float(np.asarray(values)[-1]) for values in records[-1][:2])
            progress.update(bar, completed=epoch, loss=loss, accuracy=accuracy)
            heed()
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
        from xorjax.reports import figures

        figures.training(plot, setup.model, batch, result, records, every)
    if epoch < epochs:
        end_interrupted(f"after {result.epochs:,} of {epochs:,} epochs")


@app.command()
def ensemble(
    seeds: Seeds = "10000",  # type: ignore[assignment]  # typer parses defaults too
    task: TaskOption = "xor",  # type: ignore[assignment]
    learning_rate: LearningRates = ("0.01",),  # type: ignore[assignment]
    momentum: Momenta = None,
    epochs: Epochs = 100_000,
    optimizer: Optimizer = "sgd",
    hidden_units: Sizes = ("2",),  # type: ignore[assignment]
    batch_size: RowsOfUpdate = None,
    stop: Stop = "never",
    validation_split: ValidationSplit = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """The main job: train one network for each of many seeds, and see how they end.

    With several learning rates, momenta or numbers of hidden units: every seed at each combination of them.
    """
    batch, held_out = task.batch, None
    if validation_split is not None:
        batch, held_out = xj.tasks.split(task.batch, validation_split)
    rows = len(batch.x)
    if json_file is not None and json_file == plot:
        raise typer.BadParameter(f"--json and --plot are both {str(plot)!r}; they must be two files.")
    rows_of_update(batch_size, batch)
    chosen("--stop", stop, RULES)
    hparams = {"learning_rate": learning_rate, **({"momentum": momentum} if momentum else {})}
    combinations = math.prod(map(len, [*hparams.values(), hidden_units]))
    if combinations > MAX_COMBINATIONS:
        raise typer.BadParameter(
            f"--learning-rate, --momentum and --hidden-units name {combinations:,} combinations; at most "
            f"{MAX_COMBINATIONS:,} are allowed."
        )
    first = {name: values[0] for name, values in hparams.items()}
    setups = {
        units: set_up(
            batch, first, optimizer, units, epochs, batch_size=batch_size, stop=stop, validation=held_out
        )
        for units in hidden_units
    }
    networks = [setup.network for setup in setups.values()]
    settings = {
        "seeds": [seeds.start, seeds.stop],
        "task": task.name,
        "network": networks[0],
        "optimizer": optimizer,
        "learning_rate": first["learning_rate"],
        "momentum": first.get("momentum"),
        "epochs": epochs,
        "batch_size": batch_size or rows,
        "stop": stop,
        "held_out": held_out and ["".join(str(int(bit)) for bit in pattern) for pattern in held_out.x],
    }
    updates = -(-rows // settings["batch_size"])
    if combinations == 1:
        setup = setups[hidden_units[0]]
        finished = _one_combination(setup, seeds, first, settings, updates, json_file, plot)
    else:
        several = {name: values for name, values in hparams.items() if len(values) > 1}
        trainers = {units: setup.trainer for units, setup in setups.items()}
        swept = sweeps.sweep(trainers, seeds, hparams, held_out is not None)
        finished = _sweep(swept, {**settings, **several, "network": networks}, updates, json_file, plot)
    end_if_interrupted(finished, len(seeds) * combinations)


def _one_combination(
    setup: Setup,
    seeds: range,
    hparams: dict[str, float],
    settings: dict[str, Any],
    updates: int,
    json_file: Path | None,
    plot: Path | None,
) -> int:
    """Trains and reports; how many members finished."""
    blocks: list[xj.Result] = []
    begun = time.perf_counter()
    with (
        suppress(KeyboardInterrupt),
        training_bar(f"{len(seeds):,} seeds", len(seeds), updates, settings) as show,
        closing(xj.ensembles.iter_results(setup.trainer, seeds, hparams, progress=show)) as finished,
    ):
        for _, block in finished:
            blocks.append(block._replace(params=None))  # the report needs none
    seconds = time.perf_counter() - begun
    if not blocks:
        return sum(len(block.loss) for block in blocks)
    results = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)

    def draw(path: Path) -> None:
        from xorjax.reports import figures

        what = report.described(settings, settings["network"])
        published = report.published_runs(setup.batch)
        figures.ensemble(path, setup.batch, results, settings["epochs"], published, what)

    made = report.ensemble_report(results, setup.batch, settings, updates, seconds)
    deliver(made, json_file, plot, draw, report.print_report)
    return len(results.loss)


def _sweep(
    swept: sweeps.Sweep,
    settings: dict[str, Any],
    updates: int,
    json_file: Path | None,
    plot: Path | None,
) -> int:
    """Trains and reports; how many members finished."""
    gathered: sweeps.Gathered | None = None
    begun = time.perf_counter()
    with (
        suppress(KeyboardInterrupt),
        training_bar(f"{swept.total:,} members", swept.total, updates, settings) as show,
        closing(sweeps.train(swept, show)) as parts,
    ):
        for so_far in parts:
            gathered = so_far
    seconds = time.perf_counter() - begun
    if gathered is None or not gathered.members:
        return 0 if gathered is None else gathered.members
    found = sweeps.found(swept, gathered)

    made = sweep_report.sweep_report(swept, found, settings, updates, seconds)

    def draw(path: Path) -> None:
        from xorjax.reports import figures

        figures.sweep(path, swept, found, sweep_report.title(made))

    deliver(made, json_file, plot, draw, sweep_report.print_sweep)
    return found.members


@app.command()
def info(
    explain: Annotated[
        bool, typer.Option("--explain", help="Which engine would train a network on each platform, and why.")
    ] = False,
    task: TaskOption = "xor",  # type: ignore[assignment]
    optimizer: Optimizer = "sgd",
    hidden_units: HiddenUnits = 2,
    batch_size: RowsOfUpdate = None,
    stop: Stop = "never",
) -> None:
    """Versions, devices, and the engines that are available here; with --explain, of the network that is named."""
    if not explain:
        given = ("task", task.name, "xor"), ("optimizer", optimizer, "sgd"), ("hidden-units", hidden_units, 2)
        for option, value, default in (*given, ("batch-size", batch_size, None), ("stop", stop, "never")):
            if value != default:
                raise typer.BadParameter(f"--{option}={value} is for --explain.")
    console = Console(highlight=False)
    for name, version in {"python": platform.python_version(), **report.versions()}.items():
        console.print(f"{name:<10} {version}")
    for name, version in {"optax": optax.__version__, "numpy": np.__version__}.items():
        console.print(f"{name:<10} {version}")
    console.print(f"{'devices':<10} {', '.join(str(device) for device in jax.devices())}")
    console.print(f"{'engines':<10} {', '.join(available_engines())}")
    if not explain:
        return
    chosen("--stop", stop, RULES)
    rows_of_update(batch_size, task.batch)
    setup = set_up(task.batch, RATE, optimizer, hidden_units, 1, batch_size=batch_size, stop=stop)
    console.print(f"\n{setup.network} on {task.name}, {optimizer}:")
    for kind in ("cpu", *KERNEL_BACKENDS):
        engine, why = choose_engine("auto", setup.trainer, RATE, platform=kind)
        console.print(f"{kind:<10} {engine.name}: {why}", soft_wrap=True)
