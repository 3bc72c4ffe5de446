"""CLAIM.

DOC
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
from xorjax import statistics

LEFT_OUT = {
    "lbfgs": "its line search finds the step, whatever the rate",
    "noisy_sgd": "draws its noise from one key, which would be the same for all members",
    "dpsgd": "draws such noise too, and wants gradients of single rows",
    "galore": "an SVD of each gradient: longer than all the others together",
    "sophia": "asks for the loss as a function, and draws numbers",
    "sam, mechanize, schedule_free": "wrap another optimizer (the two of schedule_free that stand alone are here)",
}


def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
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


def train(
    make: Callable[..., optax.GradientTransformation], rates: np.ndarray, args: argparse.Namespace
) -> np.ndarray:
    """Epochs to solve XOR, (rates, seeds), infinite if never."""
    trainer = xj.trainer(
        xj.mlp((2, 2, 1)), xj.xor(), lambda h: make(h["learning_rate"]), epochs=args.epochs, stop="solved"
    )
    members = xj.grid(learning_rate=rates, seeds=range(2 * args.seeds))
    first = xj.train_ensemble(trainer, members).solved_epoch.reshape(members.shape)
    return np.where(first < 0, np.inf, first)


def judged(epochs: np.ndarray, rates: np.ndarray) -> dict:
    """How half of the seeds does at the rate that the other half chose.

    Of the rates whose share is within a standard error of the best one, it is that which solves soonest.
    """
    choosing, judging = np.split(epochs, 2, axis=1)
    shares = [statistics.proportion(each, confidence=0.68) for each in np.isfinite(choosing)]
    low = max(shares, key=lambda each: each.share).low
    good = [i for i, each in enumerate(shares) if each.share >= low]
    best = min(good, key=lambda i: (np.median(choosing[i]), -shares[i].share))
    share = statistics.proportion(np.isfinite(judging[best]))
    return {
        "rate": float(rates[best]),
        "share": share.share,
        "interval": (share.low, share.high),
        "median_epochs": float(np.median(judging[best])) if share.share > 0.5 else None,
        "share_by_rate": np.isfinite(epochs).mean(axis=1).round(4).tolist(),
    }


def figure(found: dict[str, dict], rates: np.ndarray, args: argparse.Namespace) -> Figure:
    picture = Figure((11.5, 11), layout="constrained")
    left, middle, right = picture.subplots(1, 3, sharey=True, width_ratios=(3, 2, 1.3))
    shares = 100 * np.array([row["share_by_rate"] for row in found.values()])
    edges = np.sqrt(rates[1:] * rates[:-1])
    edges = np.concatenate([[rates[0] ** 2 / edges[0]], edges, [rates[-1] ** 2 / edges[-1]]])
    image = left.pcolormesh(edges, np.arange(len(found) + 1) - 0.5, shares, cmap="viridis", vmin=0, vmax=100)
    picture.colorbar(
        image, ax=left, location="top", label=f"share solved within {args.epochs:,} epochs, %", aspect=40
    )
    left.set(xscale="log", xlabel="learning rate; ○ the one chosen")
    left.set_yticks(range(len(found)), list(found))
    left.invert_yaxis()
    for y, row in enumerate(found.values()):
        left.plot(row["rate"], y, "o", mfc="none", color="white" if row["share"] < 0.6 else "black")
        low, high = row["interval"]
        share, error = 100 * row["share"], [[100 * (row["share"] - low)], [100 * (high - row["share"])]]
        middle.errorbar(share, y, xerr=error, fmt="o", ms=4, color="#0072B2")
        right.plot(row["median_epochs"] or np.nan, y, "o", ms=4, color="#D55E00")
    for axes in (middle, right):
        axes.grid(alpha=0.3)
    middle.set_xlabel("share solved at that rate, %,\nwith 95 % interval")
    right.set(xscale="log", xlabel="median epochs\nto solve")
    return picture


def printed(name: str, row: dict, rates: np.ndarray) -> str:
    low, high = (100 * limit for limit in row["interval"])
    epochs = row["median_epochs"] or np.inf
    end = "≤" if row["rate"] == rates[0] else "≥" if row["rate"] == rates[-1] else ""
    return f"{name:27}{low:3.0f}–{high:3.0f} %{epochs:7.0f}{end + format(row['rate'], '.2g'):>8}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=250, help="to choose a rate by, and as many to judge it by")
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument(
        "--rates", type=int, default=22, help="how many, evenly spaced in decades from 1e-4 to 1000"
    )
    parser.add_argument("--only", nargs="+", help="some optimizers, by name")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rates, found, failed = np.geomspace(1e-4, 1e3, args.rates), {}, {}
    for name, make in optimizers().items():
        if not args.only or name.removesuffix("*") in args.only:
            try:
                found[name] = judged(train(make, rates, args), rates)
            except (TypeError, ValueError) as error:
                failed[name] = str(error).splitlines()[0]
    found = dict(sorted(found.items(), key=lambda item: (-item[1]["share"], item[1]["median_epochs"] or np.inf)))

    lines = [printed(name, row, rates) for name, row in found.items()]
    half = (len(lines) + 1) // 2
    heading = f"{'':27}{'solved':>9}{'epochs':>7}{'rate':>8}"
    print(f"{heading}     {heading}")
    for i in range(half):
        print("     ".join(lines[i::half]))
    for name, reason in {**LEFT_OUT, **failed}.items():
        print(f"left out: {name}: {reason}" if name in LEFT_OUT else f"failed: {name}: {reason}")
    print("published: no such table is known to us")
    if args.out:
        figure(found, rates, args).savefig(args.out / "optimizers.png", dpi=100)
        numbers = {"rates": rates.round(6).tolist(), "optimizers": found, "left out": LEFT_OUT, "failed": failed}
        (args.out / "optimizers.json").write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
