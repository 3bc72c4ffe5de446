"""The figures of the command: which plots stand side by side, how large, and in which file."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import xorjax as xj
from xorjax.reports import plots
from xorjax.reports.published import PublishedRun
from xorjax.reports.sweep import Found, Sweep
from xorjax.statistics import Times
from xorjax.statistics.grouping import tally

DPI = 150
CELL = 0.4  # inches: what a side of a cell of a heat map has where there is room
LEGIBLE = 0.27  # inches: cells from which on numbers are written in them
MAX_ACROSS = 4  # heat maps side by side
STEPS = 20  # of the limits of colours, from 0 to 1
LETTERS = 13  # of a title in an inch


def training(
    path: Path,
    model: xj.Model,
    batch: xj.Batch,
    result: xj.Result,
    records: Sequence[xj.training.Record],
    every: int,
) -> None:
    """One network: its loss and accuracy every so many epochs, and its output over the plane of two inputs."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = jax.tree.map(lambda *parts: np.concatenate(parts), *records)
    plots.loss_curve(left, xj.training.History(np.arange(len(found.loss)) * every, *found))
    axis = np.linspace(-0.25, 1.25, 151)
    image = plots.decision_surface(right, axis, surface_of(model, result.params, axis), *batch)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    figure.colorbar(image, ax=right, label="output", shrink=0.85)
    figure.savefig(path, dpi=DPI)


def surface_of(model: xj.Model, params: Any, axis: np.ndarray) -> np.ndarray:
    """The output of a network at (first input, second input), both along this axis."""
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(model.apply(params, points)).reshape(len(axis), len(axis))


def ensemble(
    path: Path, batch: xj.Batch, results: xj.Result, epochs: int, published: Sequence[PublishedRun], what: str
) -> None:
    """Members that differ by their seeds: losses, survival of the unsolved, predictions; `what` is the title."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    plots.loss_histogram(left, results.loss, published)
    ever = np.asarray(results.solved_epoch) >= 0
    times = Times(tally(results.solved_epoch[ever]), tally(results.epochs[~ever]))
    plots.unsolved_members(middle, times.survival(), epochs)
    plots.prediction_strips(right, results.predictions, *batch)
    figure.suptitle(what, fontsize="medium")
    figure.savefig(path, dpi=DPI)


def sweep(path: Path, swept: Sweep, found: Found, what: str) -> None:
    """The share of solved members: along one axis, over two, or over two for each number of hidden units.

    Args:
      path: where to write.
      swept: what was trained, and its axes.
      found: what was found of it.
      what: the title.
    """
    ascending = [np.argsort(values) for values in swept.axes.values()]
    axes = [
        (axis.replace("_", " "), [values[i] for i in order])
        for (axis, values), order in zip(swept.axes.items(), ascending, strict=True)
    ]
    solved = jax.tree.map(lambda each: each[np.ix_(*ascending)], found.groups.solved)
    label = "share solved"
    if len(axes) == 1:
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        plots.shares_along(figure.subplots(), axes[0], solved, label)
    else:
        rows, columns = axes[-2:]
        maps = solved.share.reshape(-1, *solved.share.shape[-2:])
        across = min(len(maps), MAX_ACROSS)
        down = -(-len(maps) // across)
        cell, width, height = _sizes(len(rows[1]), len(columns[1]), across, down)
        figure = Figure(figsize=(width * across + 1.2, height * down + 0.4), layout="constrained")
        panels = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat)
        for panel in panels[len(maps) :]:
            panel.remove()
        panels = panels[: len(maps)]
        images = [
            plots.heat_map(panel, shares, rows, columns, _limits(maps), numbers=cell >= LEGIBLE)
            for panel, shares in zip(panels, maps, strict=True)
        ]
        for i, panel in enumerate(panels):
            if i % across:
                panel.set_ylabel("")
            if i + across < len(panels):
                panel.set_xlabel("")
            else:  # the last of its column, though the last row may be short
                panel.tick_params(labelbottom=True)
        if len(axes) == 3:
            for panel, size in zip(panels, axes[0][1], strict=True):
                panel.set_title(f"{size} {axes[0][0]}")
        plots.share_bar(panels, images[0], label)
    wide = int(LETTERS * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.fill(line, wide) for line in what.splitlines()), fontsize="medium")
    figure.savefig(path, dpi=DPI)


def _limits(shares: np.ndarray) -> tuple[float, float]:
    """From which share to which, in steps of 5 %: from 0 to 1, shares much alike would have one colour."""
    finite = shares[np.isfinite(shares)] * STEPS
    low = min(math.floor(finite.min()), STEPS - 1)
    return low / STEPS, max(math.ceil(finite.max()), low + 1) / STEPS


def _sizes(rows: int, columns: int, across: int, down: int) -> tuple[float, float, float]:
    """Inches: the least side of a cell of a heat map, and the width and height of one of the maps."""
    width = min(max(CELL * columns, 3.6), 20 / across)
    height = min(max(CELL * rows, 2.0), 16 / down)
    return min(width / columns, height / rows), width + 0.8, height + 0.8
