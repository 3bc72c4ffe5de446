"""The dictionary of a report as tables and lines of text, for the terminal."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from xorjax.ensembles.members import SEED
from xorjax.reports.summary import QUANTILES
from xorjax.reports.sweep import shorten_values
from xorjax.statistics.arrays import percent

Report = Mapping[str, Any]
WIDEST_PATTERN = 16  # rows of a task that fit in a line beside other words
SHOWN_GROUPS = 30  # in a table of all combinations
SHOWN_VALUES = 100  # in a table of one axis
BEST = 10
PLURALS = {"hidden_units": "hidden sizes", "learning_rate": "learning rates", "momentum": "momenta"}
NOTHING = "–"  # of a group without members
COLUMNS: dict[str, Callable[[Report], str]] = {  # of a table of groups
    "solved": lambda group: percent(group["solved"]["share"]),
    "95 %\ninterval": lambda group: f"{100 * group['solved']['low']:.1f}–{percent(group['solved']['high'])}",
    "all\nright": lambda group: percent(group["all_right"]["share"]),
    "diverged": lambda group: percent(group["diverged"]["share"]),
    "median\nloss": lambda group: format_loss(group["loss_quantiles"]["0.5"]),
    "median\nepochs\nto solve": lambda group: _format_epochs(group["epochs_to_solve"]["0.5"]),
}
HELD_OUT_COLUMN = {"right of\nheld out": lambda group: percent(group["held_out"]["accuracy"])}


def print_report(console: Console, report: Report) -> None:
    """Print a report: of one combination, or of all combinations of a sweep."""
    axes = report.get("axes") or {}
    counts = " × ".join(f"{len(values)} {PLURALS[axis]}" for axis, values in axes.items())
    training = describe_training(report["settings"])
    rate = f"{report['net_steps_per_second']:.2g} net-steps/s"
    lines = [
        f"\n{report['members']:,} members: {counts or training}",
        *([training] if counts else []),
        f"{report['seconds']:.1f} s with compilation, {rate}",
        f"member: one network, for one seed{' and one combination' if axes else ''}",
        "net-steps/s: updates of one network per second, summed over all members\n",
    ]
    console.print("\n".join(lines), soft_wrap=True)
    (_print_groups if axes else _print_one)(console, report)


def _print_one(console: Console, report: Report) -> None:
    held_out = report.get("held_out")
    shares = {
        name_right_patterns(report["settings"]): report["all_right"],
        "solved": report["solved"],
        "diverged": report["diverged"],
        **({"all held out right": held_out["all_right"]} if held_out else {}),
    }
    rows = [
        (name, percent(p["share"]), f"{percent(p['low'])} to {percent(p['high'])}", f"{p['members']:,}")
        for name, p in shares.items()
    ]
    print_table(console, ["of the members", "share", "95 % interval", "members"], rows)
    console.print(f"{define_solved(report['settings'])}\n")

    rows = [("have a loss of at most", *map(format_loss, report["loss_quantiles"].values()))]
    if held_out:
        rows.append(("on patterns held out", *map(format_loss, held_out["loss_quantiles"].values())))
    rows.append(("were solved within epochs", *map(_format_epochs, report["epochs_to_solve"].values())))
    print_table(console, ["of all members", *(f"{100 * q:.0f} %" for q in QUANTILES)], rows)
    if error := report["loss_quantile_error"]:
        console.print(f"losses within {100 * error:.1f} %, as of all ensembles of more than 10 million members")
    if best := report.get("best"):
        console.print(f"the least loss: {format_loss(best['loss'])}, of seed {best[SEED]}")
    console.print()

    ended_as = report["ended_as"]
    rows = [
        (c["name"], share, f"{c['members']:,}", _format_patterns(list(c["patterns"])))
        for c, share in zip(ended_as, split_percent([c["members"] for c in ended_as]), strict=True)
    ]
    print_table(console, ["ended as", "share", "members", "outputs, most often"], rows)
    console.print()

    if published := report["published"]:
        rows = [(p["source"], f"{p['loss']:.3g}", f"{percent(p['better_than'])} of these") for p in published]
        print_table(console, ["published result", "loss", "better than"], rows)
        console.print()


def _print_groups(console: Console, report: Report) -> None:
    axes, groups = report["axes"], report["groups"]
    if len(groups) <= SHOWN_GROUPS:
        _print_table_of_groups(console, groups, axes)
    else:
        for axis, values in axes.items():
            if len(values) <= SHOWN_VALUES:
                _print_table_of_groups(console, report["by_axis"][axis], {axis: values})
                console.print()
        best = sorted((each for each in groups if each["members"]), key=_rank)[:BEST]
        console.print(f"the {len(best)} best of {len(groups):,} combinations; --json FILE has all of them")
        _print_table_of_groups(console, best, axes)
    console.print(f"{describe_best(report)}\n{define_solved(report['settings'])}", soft_wrap=True)
    error = report["group_loss_quantile_error"]
    console.print(f"median losses are within {100 * error:.1f} %\n")


def describe_best(report: Report) -> str:
    r"""Name the best combination, and the axes at whose edge it lies.

    >>> group = {"learning_rate": 4.0, "members": 9, "solved": {"share": 0.5}, "all_right": {"share": 1.0}}
    >>> group |= {"epochs_to_solve": {"0.5": 70}, "loss_quantiles": {"0.5": 0.01}}
    >>> describe_best({"axes": {"learning_rate": [1.0, 2.0, 4.0]}, "groups": [group]})
    'most solved: learning rate 4*\n* at the edge of the sweep: values beyond it may be better'
    """
    best = min((group for group in report["groups"] if group["members"]), key=_rank)
    values = []
    for axis, of_axis in report["axes"].items():
        label = dict(zip(of_axis, shorten_values(of_axis), strict=True))[best[axis]]
        is_edge = len(of_axis) > 2 and best[axis] in (min(of_axis), max(of_axis))
        values.append(f"{axis.replace('_', ' ')} {label}{'*' * is_edge}")
    text = f"most solved: {', '.join(values)}"
    return f"{text}\n* at the edge of the sweep: values beyond it may be better" if "*" in text else text


def _rank(group: Report) -> tuple[float, ...]:
    """Return numbers to sort groups by, the best first."""
    medians = (group[name]["0.5"] for name in ("epochs_to_solve", "loss_quantiles"))
    epochs, loss = (math.inf if median is None else median for median in medians)
    return -group["solved"]["share"], epochs, -group["all_right"]["share"], loss


def _print_table_of_groups(
    console: Console, groups: Sequence[Report], axes: Mapping[str, Sequence[float]]
) -> None:
    labels = {axis: dict(zip(values, shorten_values(values), strict=True)) for axis, values in axes.items()}
    columns = COLUMNS | (HELD_OUT_COLUMN if "held_out" in groups[0] else {})
    rows = []
    for group in groups:
        cells = [cell(group) if group["members"] else NOTHING for cell in columns.values()]
        rows.append([*(labels[axis][group[axis]] for axis in axes), f"{group['members']:,}", *cells])
    print_table(console, [*(axis.replace("_", "\n") for axis in axes), "members", *columns], rows)


def describe_title(report: Report) -> str:
    """Return the title of a report's figure: the members, how they were trained, and what solved means."""
    settings, groups = report["settings"], report.get("groups")
    solved = define_solved(settings)
    if not groups:
        members = f"{report['members']:,} networks that differ only by their seed"
        return f"{members}: {describe_training(settings)}\n{solved}"
    total = settings["seeds"][1] - settings["seeds"][0]
    least, most = (choose(group["members"] for group in groups) for choose in (min, max))
    finished = "" if least == total else f"{least:,} of " if least == most else f"{least:,} to {most:,} of "
    seeds = f"{finished}{total:,} seeds for each combination{'' if least else '; hatched: no member finished'}"
    return f"{describe_training(settings)}\n{seeds}\n{solved}\n{describe_best(report)}"


def name_right_patterns(settings: Report) -> str:
    """Return the words for the share of members that are right: of all patterns, or of those trained on."""
    return "all patterns right" if settings["held_out"] is None else "all trained on right"


def define_solved(settings: Report) -> str:
    """Return the sentence that defines solved."""
    return f"solved: {name_right_patterns(settings)} and a loss below 0.01"


def describe_training(settings: Report) -> str:
    """Describe in a line how members were trained; settings with several values are left out."""
    task, network = settings["task"], settings["network"]
    networks = network if isinstance(network, str) else ", ".join(network)
    on = "" if task == "xor" else f" on {task if len(task) <= WIDEST_PATTERN else 'a truth table'}"
    single = {name: settings[name] for name in ("learning_rate", "momentum") if isinstance(settings[name], float)}
    values = "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in single.items())
    epochs = f"{settings['epochs']:,} epochs"
    if (held_out := settings["held_out"]) is not None:
        values += f", held out: {', '.join(held_out) if len(held_out) <= 4 else f'{len(held_out)} patterns'}"
    if settings["stop"] == "solved":
        epochs = f"until solved, at most {epochs}"
    return f"{networks}{on}, {settings['optimizer']}{values}, {epochs}"


def _format_patterns(patterns: Sequence[str]) -> str:
    """Return the commonest patterns, as far as they fit beside a name."""
    rows = len(patterns[0].split())
    if rows > 4:
        patterns = ["".join(pattern.split()) for pattern in patterns]
    if rows <= WIDEST_PATTERN // 2:
        return " or ".join(patterns[:2])
    return patterns[0] if rows <= WIDEST_PATTERN else f"{patterns[0][:WIDEST_PATTERN]}…"


def split_percent(numbers: Sequence[int]) -> list[str]:
    """Return the shares of a whole in percent, rounded so that they add to 100 % (by largest remainders).

    >>> split_percent([1, 1, 1])
    ['33.4 %', '33.3 %', '33.3 %']
    """
    tenths = [divmod(1000 * number, sum(numbers)) for number in numbers]
    left = 1000 - sum(whole for whole, _ in tenths)
    largest = sorted(range(len(numbers)), key=lambda i: -tenths[i][1])[:left]
    return [f"{(whole + (i in largest)) / 10:.1f} %" for i, (whole, _) in enumerate(tenths)]


def format_loss(value: float | None) -> str:
    """Return a loss as a text; None is infinite, since JSON has no infinity."""
    return f"{value:.3g}" if value is not None and math.isfinite(value) else "∞"


def _format_epochs(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def print_table(console: Console, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whole, all columns but the first aligned right.

    Where nothing says how wide the console is, rich takes 80 and would cut numbers off.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    width = console.width
    console.width = max(width, console.measure(table, options=console.options.update(max_width=10**4)).maximum)
    console.print(table)
    console.width = width
