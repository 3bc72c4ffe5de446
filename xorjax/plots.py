"""Figures: numbers in, matplotlib Axes out; computes nothing. Colours are Okabe and Ito's, safe for all eyes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from xorjax.published import PublishedRun
from xorjax.results import History
from xorjax.statistics import SurvivalCurve

BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"


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
) -> None:
    """Output of one network over the plane of its two inputs, with the patterns that it was trained on.

    Args:
      ax: where to draw.
      axis: coordinates of the grid, the same for both inputs.
      outputs: output at (first input, second input), first input first.
      x: the patterns, and `y`: their targets.
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
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    ax.figure.colorbar(image, ax=ax, label="output", shrink=0.85)


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


def unsolved_members(ax: Axes, curve: SurvivalCurve) -> None:
    """Share of members that have not met the solved rule, against epochs."""
    ax.step(curve.epoch, curve.unsolved, where="post", color=BLUE)
    ax.fill_between(curve.epoch, curve.unsolved, step="post", color=BLUE, alpha=0.15)
    ax.set_xlim(0, curve.epoch[-1])
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
    shown: int = 2000,
) -> None:
    """A strip of dots for each pattern: what the first `shown` members say of it, and its target."""
    outputs = np.asarray(predictions)[:shown, :, 0]
    n_members, n_rows = outputs.shape
    spread = (np.arange(n_members) * 0.618034 % 1 - 0.5) * 0.8  # even, and no random numbers to seed
    for row in range(n_rows):
        ax.plot(row + spread, outputs[:, row], ".", markersize=2, alpha=0.4, color=BLUE, rasterized=True)
    targets = np.asarray(y)[:, 0]
    ax.hlines(targets, np.arange(n_rows) - 0.45, np.arange(n_rows) + 0.45, color=VERMILION, label="target")
    ax.set_xticks(range(n_rows), ["".join(str(int(bit)) for bit in pattern) for pattern in np.asarray(x)])
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel("pattern")
    ax.set_ylabel("output")
    ax.set_title("predictions" + ("" if n_members == len(np.asarray(predictions)) else f" (first {n_members:,})"))
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
