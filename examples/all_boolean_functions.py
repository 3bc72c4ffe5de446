"""Of all Boolean functions of two and three inputs, parity is not the hardest: that is a ⊕ (b and c).

DOC
"""

import argparse
import json
from itertools import permutations, product
from pathlib import Path

import numpy as np
import optax
from matplotlib.figure import Figure
from scipy import optimize, stats

import xorjax as xj
from xorjax import statistics

PUBLISHED = {2: (14, 4), 3: (104, 14)}  # separable functions and NPN classes
NAMES = {  # of the least truth table of each class, for the inputs a, b, c = 000, 001, …
    **{"0000": "constant", "0001": "a and b", "0011": "a", "0110": "a ⊕ b"},
    **{"00000000": "constant", "00000001": "a and b and c", "00000011": "a and b", "00000110": "a and (b ⊕ c)"},
    **{"00000111": "a and (b or c)", "00001111": "a", "00010110": "two of three", "00010111": "majority"},
    **{"00011000": "only a, or only b and c", "00011001": "b = c if a, else b and c"},
    **{"00011011": "b if c, else a", "00011110": "a ⊕ (b and c)", "00111100": "a ⊕ b"},
    **{"01101001": "a ⊕ b ⊕ c, parity"},
}
CODINGS = {"0 and 1": "#D55E00", "−1 and 1": "#0072B2"}  # what stands for false and true in the inputs


def classes(tables: np.ndarray, inputs: np.ndarray, negate_inputs: bool) -> np.ndarray:
    """Of each function the least one that permuted (or negated) inputs or a negated output make of it."""
    n = inputs.shape[1]
    of_row, of_table = 2 ** np.arange(n)[::-1], 2 ** np.arange(len(inputs))[::-1]
    least = np.arange(len(tables))
    for flips, order in product(
        product([0, 1], repeat=n) if negate_inputs else [(0,) * n], permutations(range(n))
    ):
        changed = tables[:, (inputs[:, order] ^ np.array(flips)) @ of_row]
        least = np.minimum(least, np.minimum(changed @ of_table, (1 - changed) @ of_table))
    return least


def separable(table: np.ndarray, inputs: np.ndarray) -> bool:
    """Whether a plane parts the ones from the zeros: a linear program looks for it."""
    signed = (2 * table - 1)[:, None] * np.column_stack([inputs, np.ones(len(inputs))])
    costs, bounds = np.zeros(signed.shape[1]), (None, None)
    return optimize.linprog(costs, A_ub=-signed, b_ub=-np.ones(len(signed)), bounds=bounds).success


def train(tables: np.ndarray, inputs: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Epochs to solve, (codings, functions, seeds), infinite if never; every network has a seed of its own."""
    n, shape = inputs.shape[1], (len(CODINGS), len(tables), args.seeds)
    trainer = xj.trainer(
        xj.mlp((n, args.hidden_units or n, 1)),
        lambda h: xj.Batch(inputs * (1 - h["false"]) + h["false"], h["targets"]),
        optax.sgd(args.learning_rate),
        epochs=args.epochs,
        stop="solved",
    )
    coding, function, _ = (index.ravel() for index in np.indices(shape))
    hparams = {"false": np.float32([0, -1])[coding], "targets": tables[function, :, None].astype(np.float32)}
    first = xj.train_ensemble(trainer, np.arange(coding.size), hparams).solved_epoch
    return np.where(first < 0, np.inf, first).reshape(shape)


def alike(epochs: np.ndarray, class_of: np.ndarray) -> float:
    """Kruskal and Wallis's p, of all classes at once, that the functions of a class take equally long to solve."""
    groups = [np.minimum(epochs[class_of == number], 2.0**31) for number in np.unique(class_of)]
    groups = [group for group in groups if len(group) > 1 and np.ptp(group) > 0]
    h = sum(stats.kruskal(*group).statistic for group in groups)
    return float(stats.chi2.sf(h, sum(len(group) - 1 for group in groups)))


def row_of(name: str, epochs: np.ndarray) -> dict:
    """What is found of some functions, from epochs (codings, functions, seeds)."""
    found = [statistics.proportion(np.isfinite(each).ravel()) for each in epochs]
    medians = [statistics.epochs_to_solve(np.where(np.isinf(each), -1, each).ravel(), [0.5])[0] for each in epochs]
    return {
        "functions": f"{name} ({epochs.shape[1]})",
        "share": [each.share for each in found],
        "interval": [(each.low, each.high) for each in found],
        "median_epochs": [float(median) for median in medians],
        "share_of_each_function": np.isfinite(epochs).mean(axis=-1).round(4).tolist(),
    }


def study(n: int, args: argparse.Namespace) -> list[dict]:
    """Trains all functions of n inputs, prints what is found, and gives the classes, the hardest first."""
    inputs = xj.parity(n).x.astype(int)
    tables = np.arange(2**2**n)[:, None] >> np.arange(2**n)[::-1] & 1
    npn, unnegated = (classes(tables, inputs, negate_inputs) for negate_inputs in (True, False))
    is_separable = np.array([separable(table, inputs) for table in tables])
    epochs = train(tables, inputs, args)

    hard, easy = [], []
    for number in np.unique(npn):
        row = row_of(NAMES["".join(map(str, tables[number]))], epochs[:, npn == number])
        (easy if is_separable[number] else hard).append(row)
    for rows in (hard, easy):
        rows.sort(key=lambda row: (sum(row["share"]), -row["median_epochs"][0]))

    print(f"{len(tables)} functions of {n} inputs, {args.seeds:,} seeds each    published   here")
    print(f"    linearly separable {PUBLISHED[n][0]:31} {is_separable.sum():6}")
    print(f"    classes under negation and permutation {PUBLISHED[n][1]:11} {len(hard + easy):6}")
    print(f"{'solved: interval, its functions, median epochs':30}" + "".join(f"{c:>19}{'':11}" for c in CODINGS))
    for row in [*hard, row_of("all separable ones", epochs[:, is_separable])]:
        line = f"    {row['functions']:30}"
        for i in range(len(CODINGS)):
            each = 100 * np.array(row["share_of_each_function"][i])
            low, high = (100 * limit for limit in row["interval"][i])
            line += f"{low:9.1f}–{high:.1f} % {each.min():6.0f}–{each.max():.0f} % {row['median_epochs'][i]:7.0f}"
        print(line)
    for text, class_of in {"p that the functions of a class are alike": npn, "… of those": unnegated}.items():
        print(text, *(f"{alike(each, class_of):.2g}" for each in epochs))
    return hard + easy


def figure(rows: list[dict], args: argparse.Namespace) -> Figure:
    picture = Figure((11, 7), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    for i, (coding, colour) in enumerate(CODINGS.items()):
        y = np.arange(len(rows)) + 0.3 * i - 0.15
        for row, at in zip(rows, y, strict=True):
            each = 100 * np.array(row["share_of_each_function"][i])
            left.scatter(each, np.full(len(each), at), 14, colour, alpha=0.4, linewidths=0)
        share, interval = (100 * np.array([row[of][i] for row in rows]) for of in ("share", "interval"))
        left.errorbar(share, y, xerr=np.abs(interval.T - share), fmt="|", color=colour, capsize=4, ms=12)
        right.scatter([row["median_epochs"][i] for row in rows], y, 30, colour, label=f"inputs {coding}")
    left.set_yticks(range(len(rows)), [row["functions"] for row in rows])
    left.invert_yaxis()
    left.set_xlabel("share solved, %: class with 95 % interval, and each of its functions as a dot")
    right.set(xscale="log", xlabel="median epochs to solve")
    right.legend()
    picture.suptitle(
        "Not parity is hardest; and coded as 0 and 1, functions that differ by a negated input are not alike"
    )
    return picture


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=4.0)
    parser.add_argument("--hidden-units", type=int, help="as many as inputs if not given")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = {f"{n} inputs": study(n, args) for n in (2, 3)}
    if args.out:
        figure(found["3 inputs"], args).savefig(args.out / "all_boolean_functions.png", dpi=110)
        (args.out / "all_boolean_functions.json").write_text(json.dumps(found, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
