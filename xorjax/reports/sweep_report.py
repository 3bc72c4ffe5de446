"""What the command says of a sweep: one dictionary for machines, with every group, and its tables for people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from xorjax.reports.report import (
    a_loss,
    by_quantile,
    described,
    new_table,
    or_never,
    print_table,
    solved_means,
    speed,
    versions,
)
from xorjax.reports.sweep import Found, Groups, Sweep, labels
from xorjax.statistics import Shares
from xorjax.statistics.arrays import percent

SHOWN_GROUPS = 30  # in a table of all combinations
SHOWN_VALUES = 100  # in a table of one axis
BEST = 10
HEADERS = {"hidden_units": "hidden\nunits", "learning_rate": "learning\nrate", "momentum": "momentum"}
SPOKEN = {"hidden_units": "hidden sizes", "learning_rate": "learning rates", "momentum": "momenta"}
NOTHING = "–"  # of a group without members


def sweep_report(
    sweep: Sweep, found: Found, settings: dict[str, Any], updates: int, seconds: float
) -> dict[str, Any]:
    """All that the report says, in types that JSON has; what a group without members has none of is None.

    Args:
      sweep: what was to be trained.
      found: what was found of the members that finished.
      settings: how they were trained, passed on as it is.
      updates: of an epoch.
      seconds: wall time, compilation included.
    """
    return {
        "settings": settings,
        "versions": versions(),
        "members": found.members,
        "seconds": seconds,
        "net_steps_per_second": found.epochs * updates / seconds,
        "axes": {name: list(values) for name, values in sweep.axes.items()},
        "groups": _entries(found.groups, sweep.axes),
        "by_axis": {axis: _entries(groups, {axis: sweep.axes[axis]}) for axis, groups in found.by_axis.items()},
    }


def _entries(groups: Groups, axes: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One dictionary a group, the last axis fastest."""
    return [
        {
            **{name: values[i] for i, (name, values) in zip(place, axes.items(), strict=True)},
            "members": int(groups.solved.total[place]),
            "solved": _share(groups.solved, place),
            "all_right": _share(groups.all_right, place),
            "diverged": _share(groups.diverged, place),
            "loss_quantiles": by_quantile(groups.loss[place]),
            "median_epochs_to_solve": _finite(groups.epochs_to_solve[place]),
            **({} if groups.held_out is None else {"held_out_accuracy": _finite(groups.held_out.mean[place])}),
        }
        for place in np.ndindex(groups.solved.total.shape)
    ]


def _share(shares: Shares, place: tuple[int, ...]) -> dict[str, Any]:
    number, total, *values = (each[place] for each in shares)
    share, low, high = (float(value) if total else None for value in values)
    return {"members": int(number), "share": share, "low": low, "high": high}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def title(report: dict[str, Any]) -> str:
    """Of a figure of shares."""
    first, last = report["settings"]["seeds"]
    finished = [group["members"] for group in report["groups"]]
    least, most = min(finished), max(finished)
    counts = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    seeds = f"{last - first:,}" if least == last - first else f"{counts} of {last - first:,}"
    empty = "; hatched: no member finished" if not least else ""
    return f"{_how(report)}\n{seeds} seeds for each combination{empty}"


def _how(report: dict[str, Any]) -> str:
    return described(report["settings"], ", ".join(report["settings"]["network"]))


def print_sweep(console: Console, report: dict[str, Any]) -> None:
    """The report as tables: of all combinations, or of each axis and of the best combinations."""
    axes, groups = report["axes"], report["groups"]
    counts = " × ".join(f"{len(values)} {SPOKEN[axis]}" for axis, values in axes.items())
    console.print(
        f"\n{report['members']:,} members: {counts}\n{_how(report)}\n{speed(report)}\n",
        soft_wrap=True,
    )
    if len(groups) <= SHOWN_GROUPS:
        print_table(console, _table(groups, axes))
    else:
        for axis, values in axes.items():
            if len(values) <= SHOWN_VALUES:
                print_table(console, _table(report["by_axis"][axis], {axis: values}))
                console.print()
        best = sorted((each for each in groups if each["members"]), key=_badness)[:BEST]
        console.print(f"the {len(best)} best of {len(groups):,} combinations; --json FILE has all of them")
        print_table(console, _table(best, axes))
    console.print(f"{solved_means(report['settings'])}\n")


def _badness(group: dict[str, Any]) -> tuple[float, ...]:
    median, loss = group["median_epochs_to_solve"], group["loss_quantiles"]["0.5"]
    return (
        -group["solved"]["share"],
        math.inf if median is None else median,
        -group["all_right"]["share"],
        math.inf if loss is None else loss,
    )


def _table(groups: Sequence[dict[str, Any]], axes: Mapping[str, Sequence[float]]) -> Table:
    shown = {axis: dict(zip(values, labels(values), strict=True)) for axis, values in axes.items()}
    first, *others = (HEADERS[axis] for axis in axes)
    holds_out = "held_out_accuracy" in groups[0]
    table = new_table(
        first,
        *others,
        "members",
        "solved",
        "95 %\ninterval",
        "all\nright",
        "diverged",
        "median\nloss",
        "median\nepochs\nto solve",
        *(["right of\nheld out"] if holds_out else []),
    )
    for group in groups:
        values = [shown[axis][group[axis]] for axis in axes]
        table.add_row(
            *values, f"{group['members']:,}", *(_cells(group) if group["members"] else [NOTHING] * (6 + holds_out))
        )
    return table


def _cells(group: dict[str, Any]) -> list[str]:
    solved, median = group["solved"], group["loss_quantiles"]["0.5"]
    return [
        percent(solved["share"]),
        f"{100 * solved['low']:.1f}–{percent(solved['high'])}",
        percent(group["all_right"]["share"]),
        percent(group["diverged"]["share"]),
        a_loss(median),
        or_never(group["median_epochs_to_solve"], "{:,.0f}"),
        *([percent(group["held_out_accuracy"])] if "held_out_accuracy" in group else []),
    ]
