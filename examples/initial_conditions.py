"""Its initial weights decide whether a network learns XOR; at a high rate the boundary between both looks fractal.

After Kolen and Pollack, "Back propagation is sensitive to initial conditions" (1990). Their networks are 2-2-1,
with sigmoids; a run is t-convergent if it meets the criterion within t epochs. We could read only their abstract;
the numbers t = 50,000, and rate η 3.25, momentum α 0.40 for a slice of weight space, are from memory. So rate,
momentum and range are swept. The criterion is that each output is on its side of 0.4 and 0.6; batches are full
(updates after each pattern were not tried). The slice is not theirs: it is one of many, through the weights of
seed 0. Each zoom is into the eighth of a side that has most of the boundary, which favours places where the
boundary is dense. Expected: the range matters much, and slices look fractal. Found: the first throughout; the
second at η 13, not at η 3.25.

An error of ½ Σ (o − t)² over the four patterns has twice the gradient of ours, the mean of (o − t)²: a rate η of
theirs is 2η here. All nine weights, biases too, are drawn from U(−r, r).

    python examples/initial_conditions.py --out .

Typical printout, after 4 minutes on two cores (η 1 left out here):

    networks of 10,000 not converged within 20,000 epochs, by range r of the weights
      η     α         0.1    0.25     0.5       1     1.5       2       3       4       5       6       8      10
     0.50   0.0     74.0%    8.9%    6.4%   16.7%   26.0%   32.6%   41.7%   49.1%   55.5%   61.1%   71.3%   79.2%
     0.50   0.4     49.0%    3.9%    6.2%   16.7%   25.8%   32.3%   41.2%   48.1%   54.2%   59.6%   69.3%   77.3%
     0.50   0.9      2.5%    2.1%    6.4%   16.4%   25.0%   31.1%   39.2%   45.9%   51.7%   56.6%   64.7%   72.1%
     3.25   0.0      6.3%    1.9%    6.1%   16.1%   25.3%   31.3%   39.9%   46.4%   52.1%   56.6%   65.1%   72.6%
     3.25   0.4      2.0%    1.8%    6.0%   15.9%   25.0%   30.8%   39.7%   46.0%   51.5%   56.0%   63.9%   71.2%
     3.25   0.9      0.6%    4.3%   11.7%   22.6%   30.6%   36.8%   44.6%   50.8%   56.2%   60.3%   67.2%   72.3%
    13.00   0.0     83.2%   40.7%   19.7%   29.5%   39.6%   42.4%   46.0%   50.4%   54.7%   58.3%   65.0%   71.9%
    13.00   0.4     71.0%   31.5%   16.6%   28.8%   36.4%   41.2%   45.9%   50.9%   55.2%   60.1%   67.3%   73.7%
    13.00   0.9    100.0%   99.6%   91.4%   88.0%   88.6%   89.0%   89.9%   91.8%   92.7%   93.1%   93.9%   94.9%
    95 % intervals of ±1.0 points at most

                                    published     here                                 conditions that differ
    share not converged, by range   differs much  3.0% to 76.7% at η 1.0, α 0.0        swept; t = 20,000; criterion
    slice at η 3.25, two zooms      fractal-like  box dimension 1.08, 1.07, 0.99       slice, zooms; t = 2,000
    slice at η 13, two zooms                      box dimension 1.26, 1.77, 1.92       slice, zooms; t = 2,000
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import xorjax as xj
from xorjax import statistics as accumulators
from xorjax.statistics.box_counting import boundary, box_counts

RANGES = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
ETAS, ALPHAS = (0.5, 1.0, 3.25, 13.0), (0.0, 0.4, 0.9)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")
SLICED = (3.25, 13.0)  # η of the slices, at α 0.4
ZOOM = 8  # times, twice
Window = tuple[float, float, float, float]


def trainer(model: Callable[[Any], xj.Model], epochs: int) -> xj.Trainer:
    return xj.trainer(
        model,
        xj.xor(),
        lambda h: optax.sgd(h["learning_rate"], h["momentum"]),
        epochs=epochs,
        solved=xj.losses.solved_by_40_20_40(),
        stop="solved",
    )


def drawn(h: dict[str, Any]) -> xj.Model:
    """All weights and biases from U(−r, r)."""
    return xj.mlp((2, 2, 1), kernel_init=xj.models.uniform(h["range"]), bias_init=xj.models.uniform(h["range"]))


def in_slice(h: dict[str, Any]) -> xj.Model:
    """The seed's weights from U(−4, 4), but for one of each hidden unit, which are the place in the slice."""
    model = drawn({"range": 4.0})

    def init(key: jax.Array) -> tuple[xj.models.Dense, ...]:
        first, second = model.init(key)
        kernel = first.kernel.at[0, 0].set(h["u"]).at[1, 1].set(h["v"])
        return xj.models.Dense(kernel, first.bias), second

    return xj.Model(init, model.apply)


def slices_of(eta: float, size: int, sliced: xj.Trainer) -> tuple[list[np.ndarray], list[Window]]:
    """Epochs to solve, (u, v), nan where the limit came first, of a slice and two zooms into it; their windows."""
    pictures, windows = [], [(-10.0, 10.0, -10.0, 10.0)]
    for _ in range(3):
        left, right, low, high = windows[-1]
        places = {"u": np.linspace(left, right, size), "v": np.linspace(low, high, size)}
        members = xj.grid(**places, learning_rate=2 * eta, momentum=0.4, seeds=[0])
        epochs = xj.train_ensemble(sliced, members).solved_epoch.reshape(size, size)
        pictures.append(np.where(epochs < 0, np.nan, epochs))
        windows.append(busiest(pictures[-1], windows[-1]))
    return pictures, windows[:3]


def busiest(epochs: np.ndarray, window: Window) -> Window:
    """The part of a window, of so many along each side, with most of the boundary in it."""
    side = len(epochs) // ZOOM
    edges = boundary(np.isfinite(epochs))[: side * ZOOM - 1, : side * ZOOM - 1]
    edges = np.pad(edges, (0, side * ZOOM - len(edges)))
    counts = edges.reshape(ZOOM, side, ZOOM, side).sum(axis=(1, 3))
    i, j = divmod(int(counts.argmax()), ZOOM)
    left, right, low, high = window
    wide, tall = (right - left) / ZOOM, (high - low) / ZOOM
    return left + i * wide, left + (i + 1) * wide, low + j * tall, low + (j + 1) * tall


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10_000, help="networks at each range, rate and momentum")
    parser.add_argument("--epochs", type=int, default=20_000, help="limit t")
    parser.add_argument("--size", type=int, default=1_000, help="networks along each side of a slice")
    parser.add_argument("--slice-epochs", type=int, default=2_000, help="limit t in slices")
    parser.add_argument("--out", type=Path, help="folder for figure and numbers")
    args = parser.parse_args()
    if args.size < ZOOM or min(args.seeds, args.epochs, args.slice_epochs) < 1:
        parser.error(f"--size must be {ZOOM} or more, --seeds, --epochs and --slice-epochs 1 or more")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)

    rates = 2 * np.array(ETAS)
    members = xj.grid(learning_rate=rates, momentum=ALPHAS, range=RANGES, seeds=range(args.seeds))
    by = ["learning_rate", "momentum", "range"]
    solved = xj.train_ensemble(trainer(drawn, args.epochs), members, reduce=accumulators.share(by=by))
    print(f"networks of {args.seeds:,} not converged within {args.epochs:,} epochs, by range r of the weights")
    print(f"  η     α    {''.join(f'{r:>8g}' for r in RANGES)}")
    for i, eta in enumerate(ETAS):
        for j, alpha in enumerate(ALPHAS):
            print(f"{eta:5.2f}  {alpha:4.1f}  {''.join(f'{100 * (1 - s):7.1f}%' for s in solved.share[i, j])}")
    print(f"95 % intervals of ±{50 * (solved.high - solved.low).max():.1f} points at most\n")

    sliced = trainer(in_slice, args.slice_epochs)
    slices = {eta: slices_of(eta, args.size, sliced) for eta in SLICED}
    dimensions = {eta: [box_counts(boundary(np.isfinite(e))).dimension for e in slices[eta][0]] for eta in SLICED}
    spread = solved.share.max(axis=2) - solved.share.min(axis=2)
    i, j = np.unravel_index(spread.argmax(), spread.shape)
    hangs = (
        f"{1 - solved.share[i, j].max():.1%} to {1 - solved.share[i, j].min():.1%} at η {ETAS[i]}, α {ALPHAS[j]}"
    )
    print(f"{'':<31} {'published':<13} {'here':<36} conditions that differ")
    differ = f"swept; t = {args.epochs:,}; criterion"
    print(f"{'share not converged, by range':<31} {'differs much':<13} {hangs:<36} {differ}")
    for eta, found in dimensions.items():
        here = f"box dimension {', '.join(f'{each:.2f}' for each in found)}"
        name, published = f"slice at η {eta:g}, two zooms", "fractal-like" if eta == 3.25 else ""
        print(f"{name:<31} {published:<13} {here:<36} slice, zooms; t = {args.slice_epochs:,}")
    if args.out:
        draw(args.out / "initial_conditions.png", solved, slices, args.slice_epochs)
        shares, windows = (1 - solved.share).round(5).tolist(), {eta: each for eta, (_, each) in slices.items()}
        numbers = {
            "eta": ETAS, "alpha": ALPHAS, "range": RANGES, "not_converged": shares, "seeds": args.seeds,
            "epochs": args.epochs, "size": args.size, "slice_epochs": args.slice_epochs, "windows": windows,
            "dimensions": dimensions,
        }  # fmt: skip
        (args.out / "initial_conditions.json").write_text(json.dumps(numbers) + "\n")


def draw(path: Path, solved: accumulators.Shares, slices: dict[float, Any], limit: int) -> None:
    figure = Figure(figsize=(15, 7), dpi=90, layout="constrained")
    axes = figure.subplots(2, 4, width_ratios=(1.2, 1, 1, 1))
    for ax, j in zip(axes[:, 0], (0, 2), strict=True):
        for i, (eta, colour) in enumerate(zip(ETAS, COLOURS, strict=True)):
            ax.plot(RANGES, 1 - solved.share[i, j], "o-", ms=3, color=colour, label=f"η {eta:g}")
            ax.fill_between(RANGES, 1 - solved.high[i, j], 1 - solved.low[i, j], color=colour, alpha=0.3, lw=0)
        ax.set(xlabel="range r of the initial weights", ylabel="share not converged", ylim=(0, 1.02), xscale="log")
        ax.set_title(f"2-2-1 networks on XOR, α {ALPHAS[j]:g}")
        ax.legend()
    for row, (eta, (pictures, windows)) in zip(axes[:, 1:], slices.items(), strict=True):
        for k, (ax, epochs, window) in enumerate(zip(row, pictures, windows, strict=True)):
            norm = LogNorm(10, max(20, limit))  # white: not within the limit
            ax.imshow(epochs.T, "cividis_r", origin="lower", extent=window, norm=norm)
            ax.set(xlabel="weight from the first input", aspect="auto")
            ax.set_title(f"η {eta:g}, α 0.4: a slice" if k == 0 else f"{ZOOM**k} times closer")
            ax.ticklabel_format(useOffset=False)
            if k < 2:
                left, right, low, high = windows[k + 1]
                ax.plot([left, right, right, left, left], [low, low, high, high, low], color="#D55E00", lw=1.5)
        row[0].set_ylabel("weight from the second input")
    figure.colorbar(
        axes[0, 1].images[0], ax=axes[:, 1:], label="epochs to converge (white: not within the limit)", aspect=40
    )
    figure.savefig(path)


if __name__ == "__main__":
    main()
