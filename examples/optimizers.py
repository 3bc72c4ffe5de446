"""On XOR none of 44 optimizers of optax solves more seeds than plain SGD at a rate of 10, and Adam far fewer.

The 44 of optax and optax.contrib (*) that a learning rate is enough for train the tutorial's network, 2-2-1,
sigmoid, mean squared error, full batch, at 22 rates for 10,000 epochs. Solved is a loss below 0.01 with all
patterns right. Half of 500 seeds choose the rate (the soonest within a standard error of the best share), the
other half say what it does: Wilson's 95 % interval of the share solved (those of the first few overlap: which of
them is best this does not tell), and the median epochs of all. All else is at optax's defaults. The rate of
polyak_sgd is its largest step.

    python examples/optimizers.py

Typical printout, after 6 minutes on two cores (twelve lines left out here):

                                  solved epochs    rate                                 solved epochs    rate
    sgd                         82– 90 %    132      10   optimistic_adam_v2          51– 64 %    204   0.046
    polyak_sgd                  82– 90 %    136      10   radam                       51– 63 %    240    0.22
    novograd                    77– 87 %    126    0.01   amsgrad                     51– 63 %    344     0.1
    dowg*                       75– 85 %    146    0.46   ademamix*                   50– 62 %    206   0.046
    schedule_free_sgd*          75– 84 %    164      22   adam                        50– 62 %    214   0.046
    adagrad                     74– 84 %    106     4.6   momo_adam*                  50– 62 %    214   0.046
    dog*                        74– 84 %    464       1   adamw                       50– 62 %    214   0.046
    …
    adamaxw                     52– 64 %    302     0.1   fromage                     38– 51 %    inf  0.0046
    cocob*                      52– 64 %    352     4.6   lamb                        36– 48 %    inf  0.0022
    optimistic_adam             51– 64 %    204   0.046   simplified_ademamix*        12– 21 %    inf ≤0.0001
    Published: no such table is known to us. Left out:
    lbfgs: searches along a line for its step, slow in lanes
    galore: an SVD at each step, slow in lanes
    noisy_sgd: draws the same noise for all members
    dpsgd: draws noise, wants gradients of rows
    sophia: asks for the loss as a function
    sam, mechanize, schedule_free: wrap another optimizer
"""

import argparse
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optax
from matplotlib.figure import Figure

import xorjax as xj
from xorjax.statistics import arrays as statistics

Optimizer = Callable[..., optax.GradientTransformation]
LEFT_OUT = {
    "lbfgs": "searches along a line for its step, slow in lanes",
    "galore": "an SVD at each step, slow in lanes",
    "noisy_sgd": "draws the same noise for all members",
    "dpsgd": "draws noise, wants gradients of rows",
    "sophia": "asks for the loss as a function",
    "sam, mechanize, schedule_free": "wrap another optimizer",
}


def optimizers() -> dict[str, Optimizer]:
    """What optax makes from a learning rate; a * marks those of optax.contrib."""
    found = {}
    for module, mark in ((optax, ""), (optax.contrib, "*")):
        for name in dir(module):
            make = getattr(module, name)
            if name in LEFT_OUT or name.startswith(("_", "scale_by_")) or not (name.islower() and callable(make)):
                continue
            if next(iter(inspect.signature(make).parameters), "") in ("learning_rate", "max_learning_rate"):
                found[name + mark] = make
    return found


def train(make: Optimizer, rates: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Epochs to solve XOR, (rates, seeds), infinite if never."""
    network, data = xj.mlp((2, 2, 1)), xj.xor()
    trainer = xj.trainer(network, data, lambda h: make(h["learning_rate"]), epochs=args.epochs, stop="solved")
    members = xj.grid(learning_rate=rates, seeds=range(2 * args.seeds))
    first = xj.train_ensemble(trainer, members).solved_epoch.reshape(members.shape)
    return np.where(first < 0, np.inf, first)


def judged(epochs: np.ndarray, rates: np.ndarray) -> dict:
    """How half of the seeds does at the rate that the other half chose: of those whose share is within a standard
    error of the best one, that which solves soonest."""
    choosing, judging = np.split(epochs, 2, axis=1)
    shares = [statistics.proportion(each, confidence=0.68) for each in np.isfinite(choosing)]
    low = max(shares, key=lambda each: each.share).low
    good = [i for i, each in enumerate(shares) if each.share >= low]
    best = min(good, key=lambda i: (np.median(choosing[i]), -shares[i].share))
    share = statistics.proportion(np.isfinite(judging[best]))
    return {
        "rate": float(rates[best]),
        "solved": [share.low, share.share, share.high],
        "median_epochs": float(np.median(judging[best])) if share.share > 0.5 else None,
        "share_by_rate": np.isfinite(epochs).mean(axis=1).round(4).tolist(),
    }


def report(found: dict[str, dict], rates: np.ndarray) -> None:
    lines, half = [], (len(found) + 1) // 2
    for name, row in found.items():
        end = {rates[0]: "≤", rates[-1]: "≥"}.get(row["rate"], "") + f"{row['rate']:.2g}"
        low, _, high = (100 * each for each in row["solved"])
        lines.append(f"{name:27}{low:3.0f}–{high:3.0f} %{row['median_epochs'] or np.inf:7.0f}{end:>8}")
    print("   ".join([f"{'':27}{'solved':>9}{'epochs':>7}{'rate':>8}"] * 2))
    print(*("   ".join(lines[i::half]) for i in range(half)), sep="\n")


def figure(found: dict[str, dict], rates: np.ndarray, epochs: int) -> Figure:
    picture = Figure((11, 10.5), layout="constrained")
    left, middle, right = picture.subplots(1, 3, sharey=True, width_ratios=(3, 2, 1.3))
    shares = 100 * np.array([row["share_by_rate"] for row in found.values()])
    image = left.pcolormesh(rates, range(len(found)), shares, shading="nearest", vmin=0, vmax=100)
    picture.colorbar(image, ax=left, location="top", label="share solved by learning rate, %", aspect=40)
    for y, row in enumerate(found.values()):
        marker = {rates[0]: "<", rates[-1]: ">"}.get(row["rate"], "o")
        left.plot(row["rate"], y, marker, mfc="none", color="black", clip_on=False)
        low, share, high = (100 * each for each in row["solved"])
        middle.errorbar(share, y, xerr=[[share - low], [high - share]], fmt="o", ms=4, color="#0072B2")
        right.plot(row["median_epochs"] or np.nan, y, "o", ms=4, color="#D55E00")
    left.set_yticks(range(len(found)), list(found))
    left.invert_yaxis()
    left.set(xscale="log", xlabel="learning rate\n(○: chosen; ◁ ▷: at the edge)")
    middle.set_xlabel("share solved at that rate, %,\nby other seeds, 95 % interval")
    right.set_xlim(10, max(20, epochs))
    right.set(xscale="log", xlabel="median epochs to solve\n(none: half never do)")
    for axes in (middle, right):
        axes.grid(alpha=0.3)
    picture.suptitle(
        f"XOR by a 2-2-1 network: {len(found)} optimizers of optax (* of optax.contrib), by the share solved"
    )
    return picture


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=250, help="to choose a rate by, and as many to judge it by")
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--rates", type=int, default=22, help="how many, from 1e-4 to 1000")
    parser.add_argument("--only", nargs="+", help="some optimizers, by name")
    parser.add_argument("--out", type=Path, help="folder for figure and numbers")
    args = parser.parse_args()
    if min(args.seeds, args.epochs, args.rates - 1) < 1:
        parser.error("--seeds and --epochs must be 1 or more, --rates 2 or more")
    makers = optimizers()
    known = {name.removesuffix("*") for name in makers}
    if unknown := {*(args.only or known)} - known:
        parser.error(f"--only: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    rates, found, without = np.geomspace(1e-4, 1e3, args.rates), {}, dict(LEFT_OUT)
    for name, make in makers.items():
        if not args.only or name.removesuffix("*") in args.only:
            try:
                found[name] = judged(train(make, rates, args), rates)
            except (TypeError, ValueError) as error:
                without[name] = f"failed: {error}"
    found = dict(
        sorted(found.items(), key=lambda item: (-item[1]["solved"][1], item[1]["median_epochs"] or np.inf))
    )
    report(found, rates)
    print("Published: no such table is known to us. Left out:", *map(": ".join, without.items()), sep="\n")
    if args.out:
        numbers = {"rates": rates.round(6).tolist(), "optimizers": found, "without": without}
        (args.out / "optimizers.json").write_text(json.dumps(numbers))
        figure(found, rates, args.epochs).savefig(args.out / "optimizers.png", dpi=100)


if __name__ == "__main__":
    main()
