"""Figures: numbers in, matplotlib Axes out; computes nothing. Colours are Okabe and Ito's, safe for all eyes."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from xorjax.reports.published import PublishedRun
from xorjax.reports.sweep import labels
from xorjax.statistics import Shares, Survival
from xorjax.training.results import History

BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
MAX_TICKS = 24  # of an axis of a heat map
LOG_RATIO = 30  # of the largest to the least of values that are drawn on a log axis
MAX_DOTS = 8000  # of all strips of predictions
LABELLED_ROWS = 16  # of a task: each pattern has its label


def loss_curve(ax: Axes, history: History) -> None:
    """Loss of one network against epochs, with its accuracy on a second axis."""
    ax.semilogy(history.epoch, history.loss, color=BLUE)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss (mean squared error)", color=BLUE)
    right = ax.twinx()
    right.step(history.epoch, history.accuracy, where="post", color=VERMILION, linewidth=1)
    right.set_ylabel("accuracy", color=VERMILION)
    right.set_ylim(-0.02, 1.05)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_title("training")


def decision_surface(
    ax: Axes,
    axis: Float[ArrayLike, " k"],
    outputs: Float[ArrayLike, "k k"],
    x: Float[ArrayLike, "n 2"],
    y: Float[ArrayLike, "n 1"],
) -> QuadMesh:
    """Output of one network over the plane of its two inputs, with the patterns that it was trained on.

    Args:
      ax: where to draw.
      axis: coordinates of the grid, the same for both inputs.
      outputs: output at (first input, second input), first input first.
      x: the patterns, and `y`: their targets.

    Returns:
      The colours, for a colour bar.
    """
    image = ax.pcolormesh(axis, axis, np.transpose(outputs), cmap="cividis", vmin=0, vmax=1, rasterized=True)
    ax.contour(axis, axis, np.transpose(outputs), levels=[0.5], colors="white", linewidths=1.5)
    x, target = np.asarray(x), np.asarray(y)[:, 0]
    for value, marker in ((0, "o"), (1, "s")):
        rows = x[target == value]
        ax.scatter(*rows.T, s=70, marker=marker, c="white", edgecolors="black", label=f"target {value}", zorder=3)
    ax.set_xlabel("first input")
    ax.set_ylabel("second input")
    ax.set_aspect("equal")
    ax.set_title("output of the network (white line: ½)")
    return image


def loss_histogram(ax: Axes, losses: Float[ArrayLike, " members"], published: Sequence[PublishedRun] = ()) -> None:
    """Final losses on a log axis, with published results as lines."""
    losses = np.asarray(losses, np.float64)
    drawn = losses[np.isfinite(losses) & (losses > 0)]
    if drawn.size:
        low, high = np.log10(drawn.min()), np.log10(drawn.max())
        ax.hist(drawn, bins=np.logspace(low - 0.02, high + 0.02, 80).tolist(), color=BLUE)
    for run, color, style in zip(
        published, (VERMILION, GREEN, PURPLE, ORANGE), ("-", "--", "-.", ":"), strict=False
    ):
        ax.axvline(run.loss, color=color, linestyle=style, label=f"{run.source}: {run.loss:.3g}")
    ax.set_xscale("log")
    ax.set_xlabel("final loss (mean squared error)")
    ax.set_ylabel("members")
    ax.set_title(f"{drawn.size:,} members" + ("" if drawn.size == losses.size else f" of {losses.size:,}, finite"))
    if published:
        ax.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def binned_losses(ax: Axes, edges: Float[ArrayLike, " bins1"], counts: Float[ArrayLike, " bins"]) -> None:
    """Final losses on a log axis, from how many members there are between each two edges."""
    edges, counts = np.asarray(edges), np.asarray(counts)
    ax.stairs(counts, edges, fill=True, color=BLUE)
    if counts.any():
        first, last = np.flatnonzero(counts)[[0, -1]]
        ax.set_xlim(float(edges[max(first - 2, 0)]), float(edges[min(last + 3, len(edges) - 1)]))
    ax.set_xscale("log")
    ax.set_xlabel("final loss")
    ax.set_ylabel("members")


def survival_curves(ax: Axes, curves: Mapping[str, Survival]) -> None:
    """Share of members not yet solved against epochs, with intervals; a curve for each name."""
    colors = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, "#56B4E9")
    for (name, curve), color in zip(curves.items(), itertools.cycle(colors), strict=False):
        ax.step(curve.epoch, curve.unsolved, where="post", color=color, label=name or None)
        ax.fill_between(curve.epoch, curve.low, curve.high, step="post", color=color, alpha=0.2, linewidth=0)
    ax.set_ylim(0, 1.02)
    ax.set_xlim(left=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("epochs")
    ax.set_ylabel("members not yet solved")
    if any(curves):
        ax.legend(frameon=False)


def unsolved_members(ax: Axes, curve: Survival, epochs: int) -> None:
    """Share of members that have not met the solved rule, against epochs."""
    at = np.concatenate([[0], curve.epoch, [epochs]])
    unsolved = np.concatenate([[1], curve.unsolved, curve.unsolved[-1:] if len(curve.epoch) else [1]])
    ax.step(at, unsolved, where="post", color=BLUE)
    ax.fill_between(at, unsolved, step="post", color=BLUE, alpha=0.15)
    ax.set_xlim(0, epochs)
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("epoch")
    ax.set_ylabel("members not yet solved")
    ax.set_title("survival of the unsolved")


def prediction_strips(
    ax: Axes,
    predictions: Float[ArrayLike, "members n 1"],
    x: Float[ArrayLike, "n n_in"],
    y: Float[ArrayLike, "n 1"],
    shown: int | None = None,
) -> None:
    """A strip of dots for each pattern: what the first members say of it, and its target.

    Args:
      ax: where to draw.
      predictions: of the members.
      x: the patterns, and `y`: their targets.
      shown: how many members; None is as many as give 8,000 dots in all.
    """
    n_members, n_rows, _ = np.shape(predictions)
    outputs = np.asarray(predictions)[: shown or -(-MAX_DOTS // n_rows), :, 0]
    spread = (np.arange(len(outputs)) * 0.618034 % 1 - 0.5) * 0.8  # even, and no random numbers to seed
    for row in range(n_rows):
        ax.plot(row + spread, outputs[:, row], ".", markersize=2, alpha=0.4, color=BLUE, rasterized=True)
    targets = np.asarray(y)[:, 0]
    ax.hlines(targets, np.arange(n_rows) - 0.45, np.arange(n_rows) + 0.45, color=VERMILION, label="target")
    every = -(-n_rows // LABELLED_ROWS)
    patterns = ["".join(str(int(bit)) for bit in pattern) for pattern in np.asarray(x)[::every]]
    ax.set_xticks(range(0, n_rows, every), patterns, rotation=0 if n_rows <= 8 else 90)
    ax.set_xlim(-0.6, n_rows - 0.4)
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel("pattern")
    ax.set_ylabel("output")
    ax.set_title("predictions" + ("" if len(outputs) == n_members else f" (first {len(outputs):,})"))
    place = (0.5, -0.16 if n_rows <= 8 else -0.28)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=place)


Axis = tuple[str, Sequence[float]]  # its name and its values


def heat_map(
    ax: Axes,
    shares: Float[ArrayLike, "rows columns"],
    rows: Axis,
    columns: Axis,
    limits: tuple[float, float] = (0, 1),
    numbers: bool = True,
) -> AxesImage:
    """Shares over two axes as colours, their values side by side however far apart; hatched where one is nan.

    Args:
      ax: where to draw.
      shares: between 0 and 1.
      rows: the first axis of the shares, upwards, and `columns`: the second.
      limits: the shares that the first and the last colour stand for.
      numbers: whether to write each share in percent.

    Returns:
      The image, for `share_bar`.
    """
    shares = np.asarray(shares, np.float64)
    image = ax.imshow(shares, origin="lower", cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.patch.set(facecolor="white", edgecolor="0.6", hatch="////")
    if numbers:
        colors = image.to_rgba(shares)[..., :3]
        light = colors**2.2 @ [0.2126, 0.7152, 0.0722] > 0.18  # where black is told from it better than white
        for (i, j), value in np.ndenumerate(shares):
            if np.isfinite(value):
                color = "black" if light[i, j] else "white"
                ax.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=color, fontsize="small")
    for (name, values), set_ticks, set_label in (
        (rows, ax.set_yticks, ax.set_ylabel),
        (columns, ax.set_xticks, ax.set_xlabel),
    ):
        every = -(-len(values) // MAX_TICKS)
        set_ticks(range(0, len(values), every), labels(values)[::every])
        set_label(name)
    ax.tick_params(axis="x", rotation=45 if len(columns[1]) > 6 else 0)
    return image


def share_bar(axes: Axes | Sequence[Axes], image: AxesImage, label: str) -> None:
    """What the colours of heat maps mean, beside them."""
    first = axes if isinstance(axes, Axes) else axes[0]
    bar = first.figure.colorbar(image, ax=axes, label=label)
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")


def shares_along(ax: Axes, along: Axis, shares: Shares, label: str) -> None:
    """Shares over one axis, its values ascending, with their intervals; a gap where one is nan."""
    name, values = along
    at = np.asarray(values, np.float64)
    share, low, high = (np.where(np.isnan(shares.share), np.nan, each) for each in shares[2:])
    ax.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
    ax.plot(at, share, "o-", color=BLUE, markersize=5 if len(at) <= 40 else 2)
    if at[0] > 0 and at[-1] / at[0] >= LOG_RATIO:
        ax.set_xscale("log")
    if len(at) <= MAX_TICKS // 2:
        ax.set_xticks(at, labels(at.tolist()))
        ax.minorticks_off()
    ax.set_ylim(-0.02, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel(name)
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
