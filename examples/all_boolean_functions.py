"""Of all Boolean functions of three inputs, parity is not the hardest: fewer seeds learn a ⊕ (b and c).

Networks 2-2-1 and 3-3-1, sigmoid, mean squared error, SGD at 4, 5,000 epochs, 1,000 seeds a function; solved is a
loss below 0.01 with all rows right. Expected: parity is the hardest. Found: it is only the slowest, with inputs 0
and 1. (Rate, width and length were not varied.) Functions of one NPN class become each other by permuted or
negated inputs or a negated output. By the symmetry of the initial weights they are equally hard with inputs −1
and 1, and with 0 and 1 if no input is negated. With negated inputs they are not: the p of Kruskal and Wallis,
that all functions of a class take equally long, is 0 to double precision. The other p (the second of each pair is
without negated inputs) are 0.015 to 0.24, rather low together; from other seeds (`--first-seed 1000000`) they are
0.2 to 0.72.

In the printout: the 95 % interval of the class, then the least and the most of its functions, then median epochs.

    python examples/all_boolean_functions.py

Typical printout, after half a minute on two cores:

    % solved, of each, median epochs                    inputs 0 and 1                   inputs −1 and 1
    16 functions of 2 inputs, linearly separable: published 14, here 14
    16 functions of 2 inputs, NPN classes: published 4, here 4
      a ⊕ b (2)                         78.7– 82.2   80.5– 80.5    348    80.2– 83.5   81.5– 82.3    189
      all separable (14)               100.0–100.0  100.0–100.0     75   100.0–100.0  100.0–100.0     46
      p that classes are alike                                 0; 0.24                      0.048; 0.026
    256 functions of 3 inputs, linearly separable: published 104, here 104
    256 functions of 3 inputs, NPN classes: published 14, here 14
      a ⊕ (b and c) (24)                78.2– 79.3   56.5– 97.0    443    76.4– 77.5   74.4– 79.9    264
      two of three (16)                 92.8– 93.5   71.9– 97.3    471    78.5– 79.7   76.1– 81.8    290
      b = c if a, else b and c (48)     97.3– 97.5   94.0– 99.6    368    98.2– 98.4   96.9– 99.2    229
      a alone, or b and c alone (8)     99.0– 99.4   98.8– 99.7    482    97.0– 97.7   96.5– 98.0    278
      a ⊕ b ⊕ c, parity (2)             99.5– 99.9   99.7– 99.9    618    97.5– 98.7   97.9– 98.4    195
      a ⊕ b (6)                         98.4– 99.0   98.2– 99.1    304    99.8–100.0   99.8–100.0    170
      a and (b ⊕ c) (24)                99.8– 99.9   99.4–100.0    302    99.7– 99.8   99.4–100.0    143
      b if c, else a (24)              100.0–100.0   99.8–100.0    240   100.0–100.0   99.9–100.0    145
      all separable (104)              100.0–100.0  100.0–100.0    105   100.0–100.0  100.0–100.0     56
      p that classes are alike                                0; 0.015                       0.11; 0.099
"""

import argparse
import json
from itertools import permutations, product
from pathlib import Path

import numpy as np
import optax
from matplotlib.figure import Figure
from scipy import stats

import xorjax as xj
from xorjax.statistics import arrays as statistics

PUBLISHED = {2: (14, 4), 3: (104, 14)}  # A000609 and A000370 of the OEIS
# The classes that are not separable, by their least truth table, for abc = 000, 001, …
NAMES = {"00000110": "a and (b ⊕ c)", "00010110": "two of three", "00011000": "a alone, or b and c alone"}
NAMES |= {"00011001": "b = c if a, else b and c", "00011011": "b if c, else a", "00011110": "a ⊕ (b and c)"}
NAMES |= {"0110": "a ⊕ b", "00111100": "a ⊕ b", "01101001": "a ⊕ b ⊕ c, parity"}
CODINGS, COLOURS = ("0 and 1", "−1 and 1"), ("#D55E00", "#0072B2")  # what inputs are for false and true


def classes(tables: np.ndarray, inputs: np.ndarray, negate_inputs: bool) -> np.ndarray:
    """Of each function the least that it becomes by permuted inputs, negated ones, and a negated output."""
    n = inputs.shape[1]
    of_row, of_table = 2 ** np.arange(n)[::-1], 2 ** np.arange(len(inputs))[::-1]
    least = np.arange(len(tables))
    for order, flips in product(permutations(range(n)), product([0, 1] if negate_inputs else [0], repeat=n)):
        changed = tables[:, (inputs[:, order] ^ np.array(flips)) @ of_row]
        least = np.minimum(least, np.minimum(changed @ of_table, (1 - changed) @ of_table))
    return least


def train(tables: np.ndarray, inputs: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Epochs to solve, (codings, functions, seeds), infinite if never; every network has a seed of its own."""
    n, shape = inputs.shape[1], (len(CODINGS), len(tables), args.seeds)
    model, optimizer = xj.mlp((n, args.hidden_units or n, 1)), optax.sgd(args.learning_rate)
    trainer = xj.trainer(model, lambda h: xj.Batch(h["x"], h["y"]), optimizer, epochs=args.epochs, stop="solved")
    coding, function, _ = (index.ravel() for index in np.indices(shape))
    codings = np.stack([inputs, 2 * inputs - 1])
    hparams = {"x": codings[coding].astype(np.float32), "y": tables[function, :, None].astype(np.float32)}
    seeds = np.arange(args.first_seed, args.first_seed + coding.size)
    first = xj.train_ensemble(trainer, seeds, hparams).solved_epoch
    return np.where(first < 0, np.inf, first).reshape(shape)


def alike(epochs: np.ndarray, class_of: np.ndarray) -> float:
    """Kruskal and Wallis's p, of all classes at once, that the functions of a class take equally long to solve."""
    groups = [np.minimum(epochs[class_of == number], 2.0**31) for number in np.unique(class_of)]
    groups = [group for group in groups if len(group) > 1 and np.ptp(group) > 0]
    h = sum(stats.kruskal(*group).statistic for group in groups)
    return float(stats.chi2.sf(h, sum(len(group) - 1 for group in groups)))


def row_of(name: str, epochs: np.ndarray) -> dict:
    """Prints what is found of some functions, from epochs (codings, functions, seeds)."""
    row: dict = {"functions": f"{name} ({epochs.shape[1]})"}
    line = f"  {row['functions']:30}"
    for coding, found in zip(CODINGS, epochs, strict=True):
        total = statistics.proportion(np.isfinite(found).ravel())
        low, share, high = solved = [100 * each for each in (total.low, total.share, total.high)]
        each, median = 100 * np.isfinite(found).mean(axis=1), float(np.median(found))
        row[coding] = {
            "solved": solved,
            "of_each": each.round(2).tolist(),
            "epochs": median if share > 50 else None,
        }
        line += f"{low:8.1f}–{high:5.1f} {each.min():6.1f}–{each.max():5.1f} {median:6.0f}"
    print(line)
    return row


def study(n: int, args: argparse.Namespace) -> dict:
    """Trains all functions of n inputs and prints what is found, the hardest class first."""
    inputs = np.asarray(xj.parity(n).x, int)
    tables = np.arange(2**2**n)[:, None] >> np.arange(2**n)[::-1] & 1
    npn, unnegated = classes(tables, inputs, True), classes(tables, inputs, False)
    sums = np.array(list(product(range(-2, 3), repeat=n))) @ inputs.T  # weights that are enough for three inputs
    by_a_plane = {tuple(each > limit) for each in sums for limit in range(-8, 8)}
    hard = np.array([tuple(table == 1) not in by_a_plane for table in tables])
    counted = int((~hard).sum()), len(set(npn))
    for what, *counts in zip(("linearly separable", "NPN classes"), PUBLISHED[n], counted, strict=True):
        print(f"{len(tables)} functions of {n} inputs, {what}: published {counts[0]}, here {counts[1]}")
    epochs = train(tables, inputs, args)
    by_share = sorted(set(npn[hard]), key=lambda number: np.isfinite(epochs[:, npn == number]).mean())
    rows = [row_of(NAMES["".join(map(str, tables[number]))], epochs[:, npn == number]) for number in by_share]
    rows.append(row_of("all separable", epochs[:, ~hard]))
    p = {
        coding: {"whole": alike(each, npn), "unnegated": alike(each, unnegated)}
        for coding, each in zip(CODINGS, epochs, strict=True)
    }
    cells = ("; ".join(f"{each:.2g}" for each in both.values()) for both in p.values())
    print(f"  {'p that classes are alike':30}" + "".join(f"{cell:>34}" for cell in cells))
    return {"published": PUBLISHED[n], "here": counted, "p that classes are alike": p, "classes": rows}


def figure(rows: list[dict]) -> Figure:
    picture = Figure((10.5, 5), layout="constrained")
    axes = picture.subplots()
    for y, row in enumerate(rows):
        for coding, colour, at in zip(CODINGS, COLOURS, (y - 0.12, y + 0.12), strict=True):
            each, (low, share, high) = row[coding]["of_each"], row[coding]["solved"]
            label = None if y else f"a function, inputs {coding}"
            axes.scatter(each, np.full(len(each), at), 18, colour, alpha=0.5, linewidths=0, label=label)
            beside = at + (-0.1 if at < y else 0.1)
            axes.errorbar(share, beside, xerr=[[share - low], [high - share]], fmt="|", color="black", capsize=3)
    axes.set_yticks(range(len(rows)), [row["functions"] for row in rows])
    axes.set(
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="share solved, %: a dot for each function; black: the whole class, with its 95 % interval",
    )
    axes.set_title(
        "Fewer seeds learn a ⊕ (b and c) than parity; with inputs 0 and 1, functions of one class differ"
    )
    axes.legend(loc="lower left")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, nargs="+", choices=(2, 3), default=[2, 3])
    parser.add_argument("--seeds", type=int, default=1000, help="of each function")
    parser.add_argument("--first-seed", type=int, default=0, help="each network has one of its own, from this on")
    parser.add_argument("--epochs", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=4.0)
    parser.add_argument("--hidden-units", type=int, help="as many as inputs, if not given")
    parser.add_argument("--out", type=Path, help="folder for figure and numbers")
    args = parser.parse_args()
    if min(args.seeds, args.epochs) < 1:
        parser.error("--seeds and --epochs must be 1 or more")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    print(f"{'% solved, of each, median epochs':32}{f'inputs {CODINGS[0]}':>34}{f'inputs {CODINGS[1]}':>34}")
    found = {n: study(n, args) for n in args.inputs}
    if args.out:
        figure(found[max(found)]["classes"]).savefig(args.out / "all_boolean_functions.png", dpi=110)
        (args.out / "all_boolean_functions.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
