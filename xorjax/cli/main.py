"""The command `xorjax`: options in, the library at work, reports out. No numerics."""

import math
import platform
import time
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import optax
import typer
from rich.console import Console

from xorjax.cli import options, study, terminal
from xorjax.cli.options import Given, Json, Plot, take_options
from xorjax.ensembles.engines.choice import KERNEL_BACKENDS, available_engines, choose_engine
from xorjax.ensembles.members import MAX_SEED
from xorjax.ensembles.rounds import iter_rounds
from xorjax.networks.models import summary
from xorjax.reports.summary import FIELDS, HELD_OUT, ReportStatistics, report_statistics, summarize, versions
from xorjax.reports.sweep import Sweep, gather, sweep
from xorjax.reports.tables import describe_title, print_report
from xorjax.studies.parsing import parse_integer, parse_sizes
from xorjax.studies.plan import Plan, Setup, build_setup
from xorjax.studies.plan_keys import MAX_HIDDEN_UNITS
from xorjax.studies.progress import open_bar
from xorjax.training import EpochMetrics
from xorjax.training.records import Record
from xorjax.training.results import Result

CURVE_POINTS = 500
MAX_COMBINATIONS = 10_000  # of hyper-parameters and sizes: the report has an entry for each
GLOSSARY = """
- A member is one network of an ensemble, named by its seed and its hyper-parameters (learning rate, momentum, …).
- A network is solved when all patterns are right and its loss is below 0.01.
- An engine is a way to train many members at once; lanes puts each member in one lane of the vector units.
- net-steps/s are updates of one network per second, summed over all members.
"""

app = typer.Typer(
    cls=terminal.OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train the XOR network of the tutorials: once, or ten thousand times.",
    epilog=GLOSSARY,
)
app.add_typer(study.app, name="study")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(version("xorjax"))
        raise typer.Exit


@app.callback()
def main(
    version_: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
@take_options(*options.NETWORK, learning_rate=options.RATE, momentum=options.MOMENTUM)
def train(
    seed: Annotated[str, typer.Option(metavar="N", help="The seed that names the network.")] = "7",
    *,
    given: Given,
    plot: Plot = None,
) -> None:
    """Train one network on XOR, as the tutorial does, and show its predictions."""
    with options.refuse_wrong_values():
        number = parse_integer("--seed", seed, 0, MAX_SEED)
    plan = options.build_plan_from_options(given)
    every = -(-plan.options["epochs"] // CURVE_POINTS)
    setup = build_setup({**plan.options, "record_every": every}, plan.first_hparams)
    result, records = _train_one(setup, number, plan.first_hparams)
    terminal.print_result(setup.batch, result)
    if plot is not None and records:
        from xorjax.reports import figures

        figures.plot_training(plot, setup.model, setup.batch, result, records, every)
    if result.epochs < setup.trainer.epochs:
        terminal.exit_interrupted(f"after {result.epochs:,} of {setup.trainer.epochs:,} epochs")


def _train_one(setup: Setup, seed: int, hparams: dict[str, float]) -> tuple[Result, list[Record]]:
    """Train one network with a live display of its loss; return its result so far and its records."""
    trainer = setup.trainer
    state = jax.jit(trainer.init)(jax.random.key(seed), hparams)
    print(summary(state.params))
    run_epochs = jax.jit(trainer.run_epochs)

    def train_on(epochs: Any) -> EpochMetrics | None:
        nonlocal state
        state, metrics = jax.block_until_ready(run_epochs(state, hparams, epochs))
        return metrics

    records: list[Record] = []
    bar = open_bar(f"seed {seed}", trainer.epochs, "epochs")
    with suppress(KeyboardInterrupt), terminal.defer_interrupts() as check_interrupt, bar:
        for done in iter_rounds(trainer, train_on):
            if done.records is not None:
                records.append(done.records)
            loss, accuracy = (float(np.asarray(values)[-1]) for values in records[-1][:2])
            bar.set_postfix_str(f"loss {loss:.6f}, accuracy {accuracy:.2f}", refresh=False)
            bar.update(done.epoch - bar.n)
            check_interrupt()
    return jax.device_get(jax.jit(trainer.finish)(state, hparams)), records


@app.command()
@take_options("seeds", "task", *options.NETWORK, "stop", "validation_split", hidden_units=options.SIZES)
def ensemble(*, given: Given, json_file: Json = None, plot: Plot = None) -> None:
    """The main job: train one network for each of many seeds, and report how they end.

    With several learning rates, momenta or numbers of hidden units, every seed is trained at each combination of
    them. A member is one of these networks; net-steps/s are updates of one network per second, over all members.
    """
    if json_file is not None and json_file == plot:
        raise typer.BadParameter(f"--json and --plot are both {str(plot)!r}; they must be two files.")
    with options.refuse_wrong_values():
        sizes = parse_sizes("--hidden-units", given.get("hidden_units", ["2"]), MAX_HIDDEN_UNITS)
    plan = options.build_plan_from_options(given | {"hidden_units": sizes[0]})
    hparams = {name: value if isinstance(value, list) else [value] for name, value in plan.axes.items()}
    combinations = math.prod(map(len, [*hparams.values(), sizes]))
    if combinations > MAX_COMBINATIONS:
        named = f"--learning-rate, --momentum and --hidden-units name {combinations:,} combinations"
        raise typer.BadParameter(f"{named}; at most {MAX_COMBINATIONS:,} are allowed.")
    setups = {units: build_setup({**plan.options, "hidden_units": units}, plan.first_hparams) for units in sizes}
    settings = _describe_settings(plan, setups[sizes[0]])
    if combinations > 1:
        settings["network"] = [setup.network for setup in setups.values()]
        settings |= {name: values for name, values in hparams.items() if len(values) > 1}
    swept = sweep({units: setup.trainer for units, setup in setups.items()}, plan.seeds, hparams)
    finished = _report_ensemble(swept, setups[sizes[0]], settings, json_file, plot)
    if finished < swept.total:
        part = f"the report is of the {finished:,} of {swept.total:,} members that finished"
        terminal.exit_interrupted(part if finished else "before any member finished")


def _describe_settings(plan: Plan, setup: Setup) -> dict[str, Any]:
    """Return the settings that a report names, in types that JSON has."""
    held_out = setup.held_out
    return {
        "seeds": [plan.seeds.start, plan.seeds.stop],
        "task": plan.options["task"],
        "network": setup.network,
        "optimizer": plan.options["optimizer"],
        "learning_rate": plan.first_hparams["learning_rate"],
        "momentum": plan.first_hparams.get("momentum"),
        "epochs": plan.options["epochs"],
        "batch_size": plan.options["batch_size"] or len(setup.batch.x),
        "stop": plan.options["stop"],
        "held_out": held_out and ["".join(str(int(bit)) for bit in pattern) for pattern in held_out.x],
    }


def _report_ensemble(
    swept: Sweep, setup: Setup, settings: dict[str, Any], json_file: Path | None, plot: Path | None
) -> int:
    """Train and report; return how many members finished."""
    fields = FIELDS if setup.held_out is None else FIELDS | HELD_OUT
    groupings = {(): fields, **{(axis,): fields for axis in swept.axes}, tuple(swept.axes): fields}
    accumulator = report_statistics(groupings, None if swept.axes else setup.batch)
    finished, gathered = 0, None
    begun = time.perf_counter()
    unit = terminal.progress_unit(settings, setup.updates)
    with (
        suppress(KeyboardInterrupt),
        terminal.counting_bar(f"{swept.total:,} members", swept.total, *unit) as show,
        closing(gather(swept, accumulator, show)) as parts,
    ):
        for finished, gathered in parts:  # noqa: B007  # an interrupt leaves the last
            pass
    seconds = time.perf_counter() - begun
    if not finished:
        return 0
    with terminal.defer_interrupts():  # what is trained is reported
        _deliver_report(accumulator.finalize(gathered), seconds, swept, setup, settings, json_file, plot)
    return finished


def _deliver_report(
    found: ReportStatistics,
    seconds: float,
    swept: Sweep,
    setup: Setup,
    settings: dict[str, Any],
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Print the report; write it and its figure to their files."""
    rate = found.epochs * setup.updates / seconds
    report = {"settings": settings, "versions": versions(), "seconds": seconds, "net_steps_per_second": rate}
    report |= summarize(found, swept.axes, swept.seeds)

    def draw(path: Path) -> None:
        from xorjax.reports import figures  # matplotlib takes time to import

        if not swept.axes:
            figures.plot_ensemble(path, setup.batch, found, settings["epochs"], describe_title(report))
        else:
            solved = found.groups[tuple(swept.axes)].solved
            figures.plot_sweep(path, swept.axes, solved, describe_title(report))

    try:
        terminal.write_report(report, json_file, plot, draw)
    finally:  # even if one of them can't be written
        print_report(Console(highlight=False), report)


@app.command()
@take_options("task", "optimizer", "hidden_units", "batch_size", "stop")
def info(
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which engine would train a network on each platform, and why.")
    ] = False,
    *,
    given: Given,
) -> None:
    """Print versions, devices, and the engines (ways to train many networks at once) that are available here."""
    if given and not explain:
        name, value = next(iter(given.items()))
        raise typer.BadParameter(f"--{name.replace('_', '-')}={value} is for --explain.")
    plan = options.build_plan_from_options({**given, "epochs": 1})
    console = Console(highlight=False)
    facts = {"python": platform.python_version(), **versions(), "optax": optax.__version__}
    facts |= {"numpy": np.__version__, "devices": ", ".join(map(str, jax.devices()))}
    for name, value in {**facts, "engines": ", ".join(available_engines())}.items():
        console.print(f"{name:<10} {value}")
    if not explain:
        return
    setup = build_setup(plan.options, plan.first_hparams)  # whose values do not matter
    console.print(f"\n{setup.network} on {plan.options['task']}, {plan.options['optimizer']}:")
    for kind in ("cpu", *KERNEL_BACKENDS):
        engine, why = choose_engine("auto", setup.trainer, plan.first_hparams, platform=kind)
        console.print(f"{kind:<10} {engine.name}: {why}", soft_wrap=True)
