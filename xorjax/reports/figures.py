"""The figures of reports: `draw_…` functions draw numbers on Axes, `plot_…` functions write a whole figure.

Colours are Okabe and Ito's, safe for all eyes; a published result has the colour of its `PublishedRun` everywhere.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from xorjax.networks.models import Model
from xorjax.networks.tasks import Batch
from xorjax.reports.published import PublishedRun
from xorjax.reports.summary import ReportStatistics
from xorjax.reports.sweep import shorten_values
from xorjax.statistics.quantile_bins import Histogram
from xorjax.statistics.shares import Shares
from xorjax.statistics.survival import Survival
from xorjax.training.records import Record
from xorjax.training.results import History, Result

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
PERCENT = "{x:.0%}"
DPI = 150
CELL = 0.4  # inches: the side of a cell of a heat map, where there is room
LEGIBLE = 0.27  # inches: numbers are written in cells from this side on
MAX_ACROSS = 4  # heat maps side by side
LETTERS = 13  # of a title in an inch
MAX_TICKS = 24  # of an axis of a heat map
LOG_RATIO = 30  # values whose largest is this many times their least are drawn on a log axis
LABELLED_ROWS = 16  # of a task: each pattern has its label
AxisValues = tuple[str, Sequence[float]]  # the name of an axis, and its values


def plot_training(
    path: Path, model: Model, batch: Batch, result: Result, records: Sequence[Record], every: int
) -> None:
    """Plot one network: its loss and accuracy, recorded every so many epochs, and its output over two inputs."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *records)
    draw_loss_curve(left, History(np.arange(len(joined.loss)) * every, *joined))
    axis = np.linspace(-0.25, 1.25, 151)
    image = draw_decision_surface(right, axis, compute_surface(model, result.params, axis), batch)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    figure.colorbar(image, ax=right, label="output", shrink=0.85)
    figure.savefig(path, dpi=DPI)


def plot_ensemble(path: Path, batch: Batch, found: ReportStatistics, epochs: int, title: str) -> None:
    """Plot members that differ by their seeds: losses, survival of the unsolved, predictions."""
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    every = found.groups[()]
    if found.losses is None or every.times is None or found.predictions is None:
        raise ValueError("a figure of an ensemble needs losses, epochs to solve and predictions.")
    draw_losses(left, found.losses, list(found.worse or {}))
    draw_survival(middle, {"": every.times.item().survival()}, epochs)
    draw_predictions(right, found.predictions, batch)
    _save(figure, path, title)


def plot_sweep(path: Path, axes: Mapping[str, Sequence[float]], solved: Shares, title: str) -> None:
    """Plot the share of solved members over the axes of a sweep, as `draw_shares` does."""
    figure = Figure(layout="constrained")
    draw_shares(figure, axes, solved)
    _save(figure, path, title)


def _save(figure: Figure, path: Path, title: str) -> None:
    lines = [textwrap.fill(line, int(LETTERS * figure.get_figwidth())) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize="large" if figure.get_figwidth() > 12 else "medium")
    figure.savefig(path, dpi=DPI)


def add_panels(figure: Figure, number: int, most_across: int, **options: Any) -> list[Axes]:
    """Add panels to a figure, in rows of at most so many; the options are those of `Figure.subplots`."""
    across = min(number, most_across)
    panels = list(figure.subplots(-(-number // across), across, squeeze=False, **options).flat)
    for panel in panels[number:]:
        panel.remove()
    return panels[:number]


def compute_surface(model: Model, params: PyTree, axis: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
    """Return the output of a network at (first input, second input), both along this axis."""
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(model.apply(params, points)).reshape(len(axis), len(axis))


def draw_loss_curve(ax: Axes, history: History) -> None:
    """Draw the loss of one network against epochs, with its accuracy on a second axis."""
    ax.semilogy(history.epoch, history.loss, color=BLUE)
    ax.set(xlabel="epoch", title="training")
    ax.set_ylabel("loss (mean squared error)", color=BLUE)
    right = ax.twinx()
    right.step(history.epoch, history.accuracy, where="post", color=VERMILION, linewidth=1)
    right.set_ylabel("accuracy", color=VERMILION)
    right.set_ylim(-0.02, 1.05)
    right.yaxis.set_major_formatter(PERCENT)


def draw_decision_surface(
    ax: Axes, axis: Float[ArrayLike, " k"], outputs: Float[ArrayLike, "k k"], batch: Batch
) -> QuadMesh:
    """Draw the output of one network over the plane of its two inputs, with the patterns and their targets.

    The outputs are those at (first input, second input), both along the same axis. Returns the colours, for a
    colour bar.
    """
    image = ax.pcolormesh(axis, axis, np.transpose(outputs), cmap="cividis", vmin=0, vmax=1, rasterized=True)
    ax.contour(axis, axis, np.transpose(outputs), levels=[0.5], colors="white", linewidths=1.5)
    x, target = np.asarray(batch.x), np.asarray(batch.y)[:, 0]
    for value, marker in ((0, "o"), (1, "s")):
        rows = x[target == value]
        ax.scatter(*rows.T, s=70, marker=marker, c="white", edgecolors="black", label=f"target {value}", zorder=3)
    title = "output of the network (white line: ½)"
    ax.set(xlabel="first input", ylabel="second input", aspect="equal", title=title)
    return image


def draw_losses(ax: Axes, losses: Histogram, published: Sequence[PublishedRun] = ()) -> None:
    """Draw a histogram of final losses on a log axis, with published results as lines."""
    edges, counts, drawn = losses.edges, losses.counts, int(losses.counts.sum())
    others = f" of {drawn + losses.outside:,}, finite" if losses.outside else ""
    ax.set_xscale("log")
    if drawn:
        ax.stairs(counts, edges, fill=True, color=BLUE)
        first, last = np.flatnonzero(counts)[[0, -1]]
        ends = [edges[max(first - 2, 0)], edges[min(last + 3, len(edges) - 1)]]
        ends += [run.loss * factor for run in published for factor in (0.8, 1.25)]
        ax.set_xlim(float(min(ends)), float(max(ends)))
    for run in published:
        label = f"{run.source}: {run.loss:.3g}"
        ax.axvline(run.loss, color=run.color, linestyle=run.linestyle, label=label)
    title = f"losses of {drawn:,} members{others}"
    ax.set(xlabel="final loss (mean squared error)", ylabel="members", title=title)
    if published:
        ax.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def draw_survival(ax: Axes, curves: Mapping[str, Survival], epochs: int | None = None) -> None:
    """Draw the share of members not yet solved against epochs, with intervals, in curves with a name each.

    A curve with the name "" has no legend, and the area below it is filled. Curves end at these epochs, for which
    all members were trained; None ends each curve where the last member was solved.
    """
    colors = itertools.cycle((BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY))
    for (name, curve), color in zip(curves.items(), colors, strict=False):
        start = Survival(*(np.array([value]) for value in (0.0, 1.0, 1.0, 1.0)))
        whole = Survival(*(np.concatenate(each) for each in zip(start, curve, strict=True)))
        if epochs is not None:
            whole = Survival(*(np.append(each, each[-1]) for each in whole))
            whole.epoch[-1] = epochs
        ax.step(whole.epoch, whole.unsolved, where="post", color=color, label=name or None)
        ax.fill_between(whole.epoch, whole.low, whole.high, step="post", color=color, alpha=0.2, linewidth=0)
        if not name:
            ax.fill_between(whole.epoch, whole.unsolved, step="post", color=color, alpha=0.15, linewidth=0)
    ax.set(xlim=(0, epochs), ylim=(0, 1.02))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter(PERCENT)
    ax.set(xlabel="epochs", ylabel="members not yet solved", title="members not yet solved")
    if any(curves):
        ax.legend(frameon=False)


def draw_predictions(ax: Axes, predictions: Float[ArrayLike, "members n 1"], batch: Batch) -> None:
    """Draw a strip of dots for each pattern: the outputs of members for it, and its target."""
    n_members, n_rows, _ = np.shape(predictions)
    outputs = np.asarray(predictions)[..., 0]
    spread = (np.arange(n_members) * 0.618034 % 1 - 0.5) * 0.8  # even, and no random numbers to seed
    for row in range(n_rows):
        ax.plot(row + spread, outputs[:, row], ".", markersize=2, alpha=0.4, color=BLUE, rasterized=True)
    rows = np.arange(n_rows)
    ax.hlines(np.asarray(batch.y)[:, 0], rows - 0.45, rows + 0.45, color="black", label="target")
    every = -(-n_rows // LABELLED_ROWS)
    patterns = ["".join(str(int(bit)) for bit in pattern) for pattern in np.asarray(batch.x)[::every]]
    ax.set_xticks(range(0, n_rows, every), patterns, rotation=0 if n_rows <= 8 else 90)
    ax.set(xlim=(-0.6, n_rows - 0.4), ylim=(-0.04, 1.04), xlabel="pattern", ylabel="output")
    ax.set_title(f"predictions of the first {n_members:,} members")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16 if n_rows <= 8 else -0.28))


def draw_shares(figure: Figure, axes: Mapping[str, Sequence[float]], shares: Shares) -> None:
    """Draw shares solved: a line along one axis, a heat map over two, or a heat map for each value of the first.

    Sets the size of the figure. The values of the axes may have any order; they are drawn ascending.
    """
    orders = [np.argsort(values) for values in axes.values()]
    names = [(axis.replace("_", " "), sorted(values)) for axis, values in axes.items()]
    ascending = Shares(*(np.asarray(each)[np.ix_(*orders)] for each in shares))
    if len(names) == 1:
        figure.set_size_inches(7, 4.6)
        draw_line(figure.subplots(), names[0], ascending, "share solved")
        return
    rows, columns = names[-2:]
    maps = ascending.share.reshape(-1, *ascending.share.shape[-2:])
    panels = add_panels(figure, len(maps), MAX_ACROSS, sharex=True, sharey=True)
    across = min(len(maps), MAX_ACROSS)
    down = -(-len(maps) // across)
    width = min(max(CELL * len(columns[1]), 3.6), 20 / across)  # of a map
    height = min(max(CELL * len(rows[1]), 2.0), 16 / down)
    is_legible = min(width / len(columns[1]), height / len(rows[1])) >= LEGIBLE
    figure.set_size_inches((width + 0.8) * across + 1.2, (height + 0.8) * down + 0.4)
    image: Any = None
    for i, (panel, shares_of_map) in enumerate(zip(panels, maps, strict=True)):
        image = draw_heat_map(panel, shares_of_map, rows, columns, _color_limits(maps), numbers=is_legible)
        if i % across:
            panel.set_ylabel("")
        if i + across < len(panels):
            panel.set_xlabel("")
        else:  # the last of its column, though the last row may be short
            panel.tick_params(labelbottom=True)
        if len(names) == 3:
            panel.set_title(f"{names[0][1][i]} {names[0][0]}")
    bar = figure.colorbar(image, ax=panels, label="share solved")
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")


def _color_limits(shares: np.ndarray, steps: int = 20) -> tuple[float, float]:
    """Return the least and greatest share in steps of 5 %: between 0 and 1, similar shares would look the same."""
    finite = shares[np.isfinite(shares)] * steps
    low = min(math.floor(finite.min(initial=steps)), steps - 1)
    return low / steps, max(math.ceil(finite.max(initial=0)), low + 1) / steps


def draw_heat_map(
    ax: Axes,
    shares: Float[ArrayLike, "rows columns"],
    rows: AxisValues,
    columns: AxisValues,
    limits: tuple[float, float] = (0, 1),
    numbers: bool = True,
) -> AxesImage:
    """Draw shares over two axes as colours, values side by side however far apart; hatched where a share is nan.

    Rows go upwards. The limits are the shares of the first and the last colour; `numbers` writes each share in
    percent. Returns the image, for a colour bar.
    """
    shares = np.asarray(shares, np.float64)
    image = ax.imshow(shares, origin="lower", cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.patch.set(facecolor="white", edgecolor="0.6", hatch="////")
    if numbers:
        colors = image.to_rgba(shares)[..., :3]
        is_light = colors**2.2 @ [0.2126, 0.7152, 0.0722] > 0.18  # black is read better there than white
        for (i, j), value in np.ndenumerate(shares):
            if np.isfinite(value):
                color = "black" if is_light[i, j] else "white"
                ax.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=color, fontsize="small")
    for axis, (name, values) in ((ax.yaxis, rows), (ax.xaxis, columns)):
        every = -(-len(values) // MAX_TICKS)
        axis.set_ticks(range(0, len(values), every), shorten_values(values)[::every])
        axis.set_label_text(name)
    ax.tick_params(axis="x", rotation=45 if len(columns[1]) > 6 else 0)
    return image


def draw_line(ax: Axes, along: AxisValues, shares: Shares, label: str) -> None:
    """Draw shares over one axis, its values ascending, with their intervals; a gap where a share is nan."""
    name, values = along
    at = np.asarray(values, np.float64)
    share, low, high = (np.where(np.isnan(shares.share), np.nan, each) for each in shares[2:])
    ax.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
    ax.plot(at, share, "o-", color=BLUE, markersize=5 if len(at) <= 40 else 2)
    if at[0] > 0 and at[-1] / at[0] >= LOG_RATIO:
        ax.set_xscale("log")
    if len(at) <= MAX_TICKS // 2:
        ax.set_xticks(at, shorten_values(at.tolist()))
        ax.minorticks_off()
    ax.set(ylim=(-0.02, 1.02), xlabel=name, ylabel=label)
    ax.yaxis.set_major_formatter(PERCENT)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
