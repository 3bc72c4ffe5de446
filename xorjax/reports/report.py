"""What the command says of an ensemble: one dictionary for machines, and its tables for people."""

from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from xorjax.networks.tasks import Batch, xor
from xorjax.reports.published import TUTORIAL_RUNS, PublishedRun
from xorjax.reports.sweep import QUANTILES
from xorjax.statistics import arrays as statistics
from xorjax.statistics.arrays import percent
from xorjax.statistics.outcomes import count_outcomes
from xorjax.training.results import Outcome, Result

WIDEST_PATTERN = 16  # rows of a task that fit in a line beside other words


def versions() -> dict[str, str]:
    """What a result is named by besides seed and hyper-parameters: versions and platform."""
    return {
        "xorjax": version("xorjax"),
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }


def published_runs(batch: Batch) -> tuple[PublishedRun, ...]:
    """What was published of this task: of XOR the tutorial's results, of others nothing."""
    is_xor = all(np.array_equal(rows, of_xor) for rows, of_xor in zip(batch, xor(), strict=True))
    return TUTORIAL_RUNS if is_xor else ()


def ensemble_report(
    results: Result, batch: Batch, settings: dict[str, Any], updates: int, seconds: float
) -> dict[str, Any]:
    """All that the report says, in types that JSON has.

    Args:
      results: of the members that finished, as `train_ensemble` gives them.
      batch: what they were trained on, one output of 0 or 1.
      settings: how they were trained, passed on as it is.
      updates: of an epoch.
      seconds: wall time, compilation included.
    """

    def share(holds: Any) -> dict[str, Any]:
        p = statistics.proportion(holds)
        return {"members": p.number, "share": p.share, "low": p.low, "high": p.high}

    held_out = {}
    if results.validation_accuracy is not None:
        right, losses = (
            np.asarray(each, float) for each in (results.validation_accuracy, results.validation_loss)
        )
        held_out["held_out"] = {
            "all_right": share(right == 1),
            "accuracy": float(right.mean()),
            "loss_quantiles": by_quantile(statistics.quantiles(losses, QUANTILES)),
        }
    losses = np.asarray(results.loss)
    net_steps = int(np.asarray(results.epochs, np.int64).sum()) * updates
    return {
        "settings": settings,
        "versions": versions(),
        "members": len(losses),
        "seconds": seconds,
        "net_steps_per_second": net_steps / seconds,
        "all_right": share(np.asarray(results.accuracy) == 1),
        "solved": share(np.asarray(results.outcome) == Outcome.SOLVED),
        "diverged": share(np.asarray(results.outcome) == Outcome.DIVERGED),
        **held_out,
        "loss_quantiles": by_quantile(statistics.quantiles(losses, QUANTILES)),
        "epochs_to_solve": by_quantile(statistics.epochs_to_solve(results.solved_epoch, QUANTILES)),
        "ended_as": [
            {
                "name": c.name,
                "members": c.number,
                "share": c.number / len(losses),
                "patterns": dict(list(c.patterns.items())[:8]),
            }
            for c in count_outcomes(results.predictions, batch.y)
        ],
        "published": [
            {
                "source": run.source,
                "learning_rate": run.learning_rate,
                "loss": run.loss,
                "better_than": statistics.share_better(run.loss, losses),
            }
            for run in published_runs(batch)
        ],
    }


def print_report(console: Console, report: dict[str, Any]) -> None:
    """The report as tables."""
    settings = report["settings"]
    console.print(
        f"\n{report['members']:,} members: {described(settings, settings['network'])}\n{speed(report)}\n",
        soft_wrap=True,
    )

    table = new_table("of the members", "share", "95 % interval", "members")
    shares = {
        patterns_of(settings): report["all_right"],
        "solved": report["solved"],
        "diverged": report["diverged"],
    }
    if held_out := report.get("held_out"):
        shares["all held out right"] = held_out["all_right"]
    for name, p in shares.items():
        table.add_row(
            name, percent(p["share"]), f"{percent(p['low'])} to {percent(p['high'])}", f"{p['members']:,}"
        )
    print_table(console, table)
    console.print(f"{solved_means(settings)}\n")

    table = new_table("of all members", *(f"{100 * q:.0f} %" for q in QUANTILES))
    table.add_row("have a loss of at most", *map(a_loss, report["loss_quantiles"].values()))
    if held_out:
        table.add_row("on patterns held out", *map(a_loss, held_out["loss_quantiles"].values()))
    solved = (or_never(v, "{:,.0f}") for v in report["epochs_to_solve"].values())
    table.add_row("were solved within epochs", *solved)
    print_table(console, table)
    console.print()

    table = new_table("ended as", "share", "members", "outputs, most often")
    for c in report["ended_as"]:
        table.add_row(c["name"], percent(c["share"]), f"{c['members']:,}", _shown(list(c["patterns"])))
    print_table(console, table)
    console.print()

    if not report["published"]:
        return
    table = new_table("published result", "loss", "better than")
    for run in report["published"]:
        table.add_row(run["source"], f"{run['loss']:.3g}", f"{percent(run['better_than'])} of these")
    print_table(console, table)
    console.print()


def patterns_of(settings: dict[str, Any]) -> str:
    """Which patterns are meant where training is spoken of."""
    return "all patterns right" if settings["held_out"] is None else "all trained on right"


def solved_means(settings: dict[str, Any]) -> str:
    return f"solved: {patterns_of(settings)} and a loss below 0.01"


def described(settings: dict[str, Any], network: str) -> str:
    """How members were trained, in a line; settings with several values are left out."""
    task = settings["task"]
    on = "" if task == "xor" else f" on {task if len(task) <= WIDEST_PATTERN else 'a truth table'}"
    single = {
        name.replace("_", " "): value
        for name in ("learning_rate", "momentum")
        if isinstance(value := settings[name], float)
    }
    values = "".join(f", {name} {value:g}" for name, value in single.items())
    epochs = f"{settings['epochs']:,} epochs"
    if (held_out := settings["held_out"]) is not None:
        named = ", ".join(held_out) if len(held_out) <= 4 else f"{len(held_out)} patterns"
        values += f", held out: {named}"
    if settings["stop"] == "solved":
        epochs = f"until solved, at most {epochs}"
    return f"{network}{on}, {settings['optimizer']}{values}, {epochs}"


def speed(report: dict[str, Any]) -> str:
    """How long it took."""
    return f"{report['seconds']:.1f} s with compilation, {report['net_steps_per_second']:.2g} net-steps/s"


def _shown(patterns: list[str]) -> str:
    """The commonest patterns, as far as they fit beside a name."""
    rows = len(patterns[0].split())
    if rows <= 4:
        return " or ".join(patterns[:2])
    close = ["".join(pattern.split()) for pattern in patterns]
    if rows <= WIDEST_PATTERN // 2:
        return " or ".join(close[:2])
    return close[0] if rows <= WIDEST_PATTERN else f"{close[0][:WIDEST_PATTERN]}…"


def by_quantile(values: np.ndarray) -> dict[str, float | None]:
    """None where a quantile is infinite: JSON has no infinity."""
    return {f"{q:g}": float(v) if np.isfinite(v) else None for q, v in zip(QUANTILES, values, strict=True)}


def a_loss(value: float | None) -> str:
    return "∞" if value is None else f"{value:.3g}"


def or_never(value: float | None, form: str) -> str:
    return "never" if value is None else form.format(value)


def print_table(console: Console, table: Table) -> None:
    """Whole, whatever the width: where nothing says how wide it is 80 are taken, and numbers would be cut off."""
    width = console.width
    console.width = max(width, console.measure(table, options=console.options.update(max_width=10**4)).maximum)
    console.print(table)
    console.width = width


def new_table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for header in others:
        table.add_column(header, justify="right", no_wrap=True)
    return table
