"""More hidden units make XOR surer and quicker to learn: Frankle and Carbin's shares, Chauvin's law of 1986.

DOCSTRING
"""

import argparse
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import xorjax as xj
from xorjax import statistics

PUBLISHED = {2: (49.1, 17.6), 4: (78.3, 55.3), 6: (92.5, 76.8), 8: (96.8, 87.5), 10: (98.5, 92.9)}  # %, recalled
INITIALISERS = {
    "Glorot uniform": jax.nn.initializers.glorot_uniform(),
    "He normal": jax.nn.initializers.he_normal(),
    "N(0, 1)": xj.normal(1.0),
    "N(0, 0.1²) cut at 2σ": jax.nn.initializers.truncated_normal(0.1),
}
OPTIMIZERS = {optax.sgd: [0.1, 1.0], optax.adam: [0.01, 0.1]}  # with their rates
SIZES = [2, 4, 8, 16, 32]  # of Chauvin's law
MOMENTA, RANGES = [0.0, 0.9], [0.3, 1.0, 3.0]
ETA = 0.25
COLOURS = "#0072B2", "#E69F00", "#009E73", "#D55E00"


def any_initialiser(which):
    """The kernel of one of `INITIALISERS`, by its number, so that it may differ from member to member."""
    return lambda key, shape, dtype: jnp.stack([init(key, shape, dtype) for init in INITIALISERS.values()])[which]


def shares(hidden, seeds, epochs):
    """Shares with a loss below 0.01, all right, and right where ½ counts as right, by initialiser and optimizer."""
    found = []
    for optimizer, rates in OPTIMIZERS.items():
        trainer = xj.trainer(
            lambda h: xj.mlp((2, hidden, 1), "relu", "linear", kernel_init=any_initialiser(h["initialiser"])),
            batch := xj.xor(),
            lambda h, optimizer=optimizer: optimizer(h["rate"]),
            epochs=epochs,
            loss=xj.sigmoid_cross_entropy,
            stop="solved",
        )
        members = xj.grid(initialiser=list(range(len(INITIALISERS))), rate=rates, seeds=range(seeds))
        results = xj.train_ensemble(trainer, members)
        wrong = results.predictions * (1 - 2 * batch.y) > 0.01  # logarithms of odds that are on the wrong side
        holds = np.array([results.loss < 0.01, results.accuracy == 1, ~wrong.any(axis=(1, 2))])
        found.append(holds.reshape(3, *members.shape).mean(axis=-1))
    return np.concatenate(found, axis=2)  # criterion, initialiser, optimizer and rate


def within_a_tenth(y_hat, y, loss):
    return jnp.all(jnp.abs(y_hat - y) < 0.1)


def epochs_to_learn(hidden, seeds, epochs, rule):
    """Of each seed, infinite for one not solved, by momentum and initial range."""
    trainer = xj.trainer(
        lambda h: xj.mlp((2, hidden, 1), kernel_init=xj.uniform(h["range"]), bias_init=xj.uniform(h["range"])),
        batch := xj.xor(),
        lambda h: optax.sgd(ETA * batch.y.size / 2, h["momentum"]),
        epochs=epochs,
        solved=rule,
        stop="solved",
    )
    members = xj.grid(momentum=MOMENTA, range=RANGES, seeds=range(seeds))
    found = xj.train_ensemble(trainer, members).solved_epoch.reshape(members.shape)
    return np.where(found < 0, math.inf, found)


def draw(found, medians, path):
    figure = Figure(figsize=(11, 4.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (initialiser, colour) in enumerate(zip(INITIALISERS, COLOURS, strict=True)):
        for criterion, hatch, label in ((0, None, initialiser), (2, "////", None)):
            values = 100 * np.array([each[criterion, i] for each in found.values()])
            style = {"fc": colour, "alpha": 0.3} if criterion == 0 else {"fc": "none", "ec": colour, "alpha": 0.6}
            left.fill_between(list(found), values.min(1), values.max(1), hatch=hatch, label=label, lw=0.5, **style)
    for marker, of, label in ("o", 1, "published zero loss"), ("s", 0, "published right"):
        left.plot(list(found), [PUBLISHED[h][of] for h in found], f"k{marker}--", label=label + " (recalled)")
    left.set(xlabel="hidden units (ReLU)", ylabel="networks, %", ylim=(0, 101), xticks=list(found))
    left.set_title("XOR from 10,000 seeds: filled, zero loss; hatched, right if ½ counts as right", fontsize=10)
    for (j, momentum), style in zip(enumerate(MOMENTA), ("--", "-"), strict=True):
        for (k, initial), colour in zip(enumerate(RANGES), COLOURS, strict=False):
            low, high = (np.array([medians[h][rule][j, k] for h in medians]) for rule in range(2))
            right.plot(list(medians), low, style, color=colour, label=f"momentum {momentum:g}, U(±{initial:g})")
            right.fill_between(list(medians), low, high, color=colour, alpha=0.12, lw=0)
    right.plot(list(medians), [280 - 33 * math.log2(h) for h in medians], "k-", lw=2.5, label="Chauvin's fit")
    right.set(xlabel="hidden units (sigmoid)", ylabel="epochs, median of all seeds", xscale="log", yscale="log")
    right.set_xticks(list(medians), [str(h) for h in medians])
    right.set_title("Epochs to learn: lines 40-20-40, bands up to within 0.1 of the targets", fontsize=10)
    left.legend(fontsize=8, loc="lower right")
    right.legend(fontsize=8, ncols=2)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10_000, help="of each setting; a tenth for the second part")
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--hidden", type=int, nargs="+", default=sorted({*PUBLISHED, *SIZES}))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    print(
        f"% of {args.seeds:,} seeds; published: zero loss, right; here by SGD 0.1 / SGD 1 / Adam 0.01 / Adam 0.1"
    )
    print(" H  published" + "".join(f"{name:>24}" for name in INITIALISERS))
    found, gap = {}, 0.0
    for hidden in (h for h in PUBLISHED if h in args.hidden):
        found[hidden] = shares(hidden, args.seeds, args.epochs)
        gap = max(gap, (found[hidden][1] - found[hidden][0]).max())
        for of, criterion, name in (1, 0, "zero"), (0, 2, "right"):
            cells = ("/".join(f"{100 * share:.1f}" for share in row) for row in found[hidden][criterion])
            head = f"{hidden:2}" if of else "  "
            print(f"{head} {PUBLISHED[hidden][of]:4} {name:<5}" + "".join(f"{c:>24}" for c in cells), flush=True)
    print(f"right strictly, but with a loss above 0.01: at most {100 * gap:.2f} % of the seeds in any setting")
    widest = statistics.proportion(np.arange(args.seeds) % 2 == 0)
    print(f"95 % intervals: at most ± {50 * (widest.high - widest.low):.1f}")

    print("\nmedian epochs by 40-20-40 / until within 0.1 of the targets; share that learns within the limit")
    print(" H  Chauvin" + "".join(f"{f'momentum {m:g}, U(±{r:g})':>22}" for m in MOMENTA for r in RANGES[:]))
    medians, rules = {}, (xj.solved_by_40_20_40(), within_a_tenth)
    for hidden in (h for h in SIZES if h in args.hidden):
        epochs = [epochs_to_learn(hidden, max(10, args.seeds // 10), args.epochs, rule) for rule in rules]
        medians[hidden] = np.median(epochs, axis=-1)
        solved = 100 * np.isfinite(epochs[0]).mean(axis=-1)
        cells = zip(*(each.ravel() for each in (*medians[hidden], solved)), strict=True)
        texts = (f"{low:.0f}/{high:.0f} {share:3.0f} %" for low, high, share in cells)
        print(f"{hidden:2}{280 - 33 * math.log2(hidden):9.0f}" + "".join(f"{t:>22}" for t in texts), flush=True)

    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        numbers = {"shares": {h: each.tolist() for h, each in found.items()}}
        numbers |= {"medians": {h: each.tolist() for h, each in medians.items()}}
        (args.out / "hidden_units.json").write_text(json.dumps(numbers))
        draw(found, medians, args.out / "hidden_units.png")


if __name__ == "__main__":
    main()
