"""More hidden units learn XOR more surely, and most settings sooner: shares of 2018, and a law of 1986.

First: Frankle and Carbin's lottery tickets (first arXiv version), 1,000 networks of each size, ReLU,
cross-entropy. Their shares are given from memory; we could not look them up, so agreement is weak evidence. Optimizer,
rate, initial weights and length are unknown to us, and are swept. "Zero loss" is a loss below 0.01. "Right" means
that no output is on the wrong side of ½ by more than 0.01 of its logit; if ½ counted as wrong, "right" and "zero
loss" would be the same, and the published shares of "right" would not be met. Found: of 16 settings two (Adam at
0.01, from N(0, 0.1²) and from Glorot's weights), chosen afterwards, agree with all ten shares within 2 points.
Second: Chauvin's law, epochs = 280 − 33 log2 H for H hidden units, in the PDP book (read in notes that cite it),
sigmoid, η 0.25. The error there, ½ΣΣ(y−t)², is 4·1/2 times our mean, so the rate here is 0.25·2 = 0.5. Momentum,
initial weights and criterion are swept; updates after each pattern were not tried. Expected: the law. Found: no
setting follows it. Without momentum learning takes 9 times as many epochs at H = 2, or more; momentum 0.9 from
U(±1) begins near the law, and falls to a quarter at H = 32, where the law falls to half.

    python examples/hidden_units.py  # 4 minutes on two cores; typical printout:

    % of seeds with zero loss, then right: memory, and by SGD 0.1/SGD 1/Adam 0.01/Adam 0.1
     H     memory          Glorot uniform               He normal                 N(0, 1)    N(0, 0.1²) cut at 2σ
     2  17.6 49.1 20/19/17/15 55/55/51/47 21/20/17/14 56/55/51/46 21/20/17/14 56/55/51/47  18/18/19/6 54/54/48/62
     4  55.3 78.3 59/59/54/50 84/83/79/75 66/65/57/51 87/86/82/77 63/60/55/49 85/83/81/75 56/55/56/26 82/82/78/58
     6  76.8 92.5 81/80/76/72 95/95/93/91 88/87/82/76 97/97/95/93 84/82/78/73 96/95/94/91 77/77/76/46 94/94/93/68
     8  87.5 96.8 92/92/88/85 99/99/98/97 96/96/93/89 99/99/99/98 94/92/90/86 99/99/99/97 89/89/88/61 99/99/98/77
    10  92.9 98.5 96/96/94/91 100/100/100/99 99/99/97/95 100/100/100/99 97/96/95/93 100/100/100/99 94/94/93/72 100/100/99/86
    (95 % intervals: ± 1.0 at most; all right with a loss above 0.01: 41 seeds)
    median epochs by 40-20-40 / to within 0.1, share that learns; by momentum and initial weights
     H publ.        0, U(±0.3)          0, U(±1)          0, U(±3)      0.9, U(±0.3)        0.9, U(±1)        0.9, U(±3)
     2   247   8774/9900  55 %   2173/3312  84 %   2995/3916  56 %    968/1046  97 %     272/364  85 %     374/466  62 %
     4   214   5574/6570  88 %   1239/2360 100 %    492/1664  98 %     622/708 100 %     164/260 100 %      78/180  99 %
     8   181   4164/5273  99 %    862/1855 100 %    224/1087 100 %     472/569 100 %     117/200 100 %      42/113 100 %
    16   148   3287/4596 100 %    635/1554 100 %     122/770  95 %     382/498 100 %      90/164 100 %       29/79  97 %
    32   115   2721/4150 100 %    482/1329 100 %     126/542  82 %     321/447 100 %      71/139 100 %       39/66  85 %
"""  # noqa: E501

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
from xorjax.statistics import arrays as statistics

PUBLISHED = {2: (17.6, 49.1), 4: (55.3, 78.3), 6: (76.8, 92.5), 8: (87.5, 96.8), 10: (92.9, 98.5)}  # from memory
INITIALISERS = {
    "Glorot uniform": jax.nn.initializers.glorot_uniform(),
    "He normal": jax.nn.initializers.he_normal(),
    "N(0, 1)": xj.models.normal(1.0),
    "N(0, 0.1²) cut at 2σ": jax.nn.initializers.truncated_normal(0.1),
}
OPTIMIZERS = {optax.sgd: [0.1, 1.0], optax.adam: [0.01, 0.1]}  # with their rates
SETTINGS = [(optimizer.__name__, rate) for optimizer, rates in OPTIMIZERS.items() for rate in rates]
LAW = {hidden: 280 - 33 * math.log2(hidden) for hidden in (2, 4, 8, 16, 32)}  # Chauvin's
MOMENTA, RANGES = (0.0, 0.9), (0.3, 1.0, 3.0)
COLOURS, MARKERS = ("#0072B2", "#E69F00", "#009E73", "#D55E00"), "s^vx"
XOR = xj.xor()


def shares(hidden, seeds, epochs):
    """Of seeds with a loss below 0.01, and with no output on the wrong side, by initialiser and optimizer."""

    def model(h):
        def kernel(*of):  # its initialiser is a number, so that it may differ from member to member
            return jnp.stack([initialiser(*of) for initialiser in INITIALISERS.values()])[h["initialiser"]]

        return xj.mlp((2, hidden, 1), "relu", "linear", kernel_init=kernel)

    found, between = [], 0
    for optimizer, rates in OPTIMIZERS.items():
        how = {"epochs": epochs, "loss": xj.losses.sigmoid_cross_entropy, "stop": "solved"}
        trainer = xj.trainer(model, XOR, lambda h, of=optimizer: of(h["rate"]), **how)
        members = xj.grid(initialiser=list(range(len(INITIALISERS))), rate=rates, seeds=range(seeds))
        results = xj.train_ensemble(trainer, members)
        wrong = results.predictions * (1 - 2 * XOR.y) > 0.01  # logarithms of odds; 0 is an output of ½
        found.append(np.array([results.loss < 0.01, ~wrong.any(axis=(1, 2))]).reshape(2, *members.shape))
        between += ((results.accuracy == 1) & (results.loss >= 0.01)).sum()
    return np.concatenate(found, axis=2).mean(axis=-1), between


def epochs_to_learn(hidden, seeds, epochs, rule):
    """Of each seed, infinite for one that does not learn, by momentum and initial range."""

    def model(h):
        return xj.mlp(
            (2, hidden, 1), kernel_init=xj.models.uniform(h["range"]), bias_init=xj.models.uniform(h["range"])
        )

    how, rate = {"epochs": epochs, "solved": rule, "stop": "solved"}, 0.25 * XOR.y.size / 2
    trainer = xj.trainer(model, XOR, lambda h: optax.sgd(rate, h["momentum"]), **how)
    members = xj.grid(momentum=MOMENTA, range=RANGES, seeds=range(seeds))
    found = xj.train_ensemble(trainer, members).solved_epoch.reshape(members.shape)
    return np.where(found < 0, math.inf, found)


def draw(found, medians, path):
    figure = Figure(figsize=(11, 4.6), dpi=88, layout="constrained")
    left, right = figure.subplots(1, 2)
    for criterion, (style, what) in enumerate((("-", "zero loss"), (":", "right"))):
        for i, (name, colour) in enumerate(zip(INITIALISERS, COLOURS, strict=True)):
            for k, marker in enumerate(MARKERS):
                each = [100 * shares[criterion, i, k] for shares in found.values()]
                label = None if criterion or k else name
                left.plot(list(found), each, marker + style, c=colour, ms=4, lw=1, label=label)
        published = [PUBLISHED[h][criterion] for h in found]
        left.plot(list(found), published, f"ko{style}", lw=2, label=f"memory, {what}")
    for marker, (optimizer, rate) in zip(MARKERS, SETTINGS, strict=True):
        left.plot([], [], "k" + marker, ms=4, label=f"{optimizer} {rate:g}")
    left.set(xlabel="hidden units (ReLU)", ylabel="seeds, %", ylim=(0, 101), xticks=list(found))
    left.set_title("XOR: zero loss (solid), no pattern wrong (dotted)")
    for j, k in np.ndindex(2, 3):
        style = {"ls": ("--", "-")[j], "c": COLOURS[k], "label": f"momentum {MOMENTA[j]:g}, U(±{RANGES[k]:g})"}
        right.plot(list(medians), [each[0, j, k] for each in medians.values()], **style)
    right.plot(list(medians), [LAW[h] for h in medians], "ko-", lw=2, label="published fit")
    right.set(xlabel="hidden units (sigmoid)", ylabel="epochs, median", xscale="log", yscale="log", ylim=(20, 1e5))
    right.set_title("Epochs to learn XOR, by the 40-20-40 criterion")
    right.set_xticks(list(medians), list(map(str, medians)))
    right.minorticks_off()
    left.legend(fontsize=7, loc="lower right", ncols=2)
    right.legend(fontsize=8, ncols=2, loc="upper right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10_000, help="of each setting; a tenth for the second part")
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument(
        "--hidden", type=int, nargs="+", choices=sorted({*PUBLISHED, *LAW}), default=sorted({*PUBLISHED, *LAW})
    )
    parser.add_argument("--out", type=Path, help="folder for figure and numbers")
    args = parser.parse_args()
    if min(args.seeds, args.epochs) < 1:
        parser.error("--seeds and --epochs must be 1 or more")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)

    found, between, medians, learning = {}, 0, {}, {}
    print("% of seeds with zero loss, then right: memory, and by SGD 0.1/SGD 1/Adam 0.01/Adam 0.1")
    print(" H     memory" + "".join(f"{name:>24}" for name in INITIALISERS))
    for h in sorted({*PUBLISHED} & {*args.hidden}):
        found[h], more = shares(h, args.seeds, args.epochs)
        between += more
        pairs = (100 * found[h]).swapaxes(0, 1)
        cells = (" ".join("/".join(f"{share:.0f}" for share in each) for each in pair) for pair in pairs)
        print("{:2}{:6}{:5}".format(h, *PUBLISHED[h]) + "".join(f" {each:>23}" for each in cells), flush=True)
    low, high = statistics.interval(args.seeds // 2, args.seeds)
    print(
        f"(95 % intervals: ± {50 * (high - low):.1f} at most; all right with a loss above 0.01: {between} seeds)"
    )
    print("median epochs by 40-20-40 / to within 0.1, share that learns; by momentum and initial weights")
    print(" H publ." + "".join(f"{f'{m:g}, U(±{r:g})':>18}" for m in MOMENTA for r in RANGES))
    for h in sorted({*LAW} & {*args.hidden}):
        rules = xj.losses.solved_by_40_20_40(), lambda y_hat, y, loss: jnp.all(jnp.abs(y_hat - y) < 0.1)
        epochs = np.array([epochs_to_learn(h, max(10, args.seeds // 10), args.epochs, rule) for rule in rules])
        medians[h], learning[h] = np.median(epochs, axis=-1), 100 * np.isfinite(epochs[0]).mean(axis=-1)
        each = zip(*medians[h].reshape(2, -1), learning[h].ravel(), strict=True)
        cells = (f"{low:.0f}/{high:.0f} {share:3.0f} %".replace("inf", "–") for low, high, share in each)
        print(f"{h:2}{LAW[h]:6.0f}" + "".join(f" {cell:>17}" for cell in cells), flush=True)

    if args.out:
        parts = {
            "shares by zero loss and right, initialiser, optimizer": found,
            "median epochs by criterion (40-20-40, within 0.1), momentum, range": medians,
            "share that learns, %, by momentum, range": learning,
        }
        numbers = {what: {h: each.round(5).tolist() for h, each in part.items()} for what, part in parts.items()}
        numbers |= {
            "initialisers": list(INITIALISERS),
            "optimizers": SETTINGS,
            "momenta": MOMENTA,
            "ranges": RANGES,
        }
        numbers |= {"recalled": PUBLISHED, "fit": LAW, "all right with a loss above 0.01": int(between)}
        (args.out / "hidden_units.json").write_text(json.dumps(numbers).replace("Infinity", "null"))
        if found and medians:
            draw(found, medians, args.out / "hidden_units.png")


if __name__ == "__main__":
    main()
