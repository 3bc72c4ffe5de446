"""Epochs to learn N-bit parity, N = 2 to 8: Tesauro and Janssens's law, under what their source leaves open.

DOCSTRING
"""

import argparse
import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import xorjax as xj
from xorjax import statistics

EPOCHS = {2: 24, 3: 33, 4: 75, 5: 128, 6: 312, 7: 781, 8: 1953}  # published
RATE = {2: 30, 3: 20, 4: 12, 5: 7, 6: 3, 7: 2, 8: 1.5}
TRIALS = {2: 10_000, 3: 5_000, 4: 2_000, 5: 500, 6: 150, 7: 50, 8: 24}  # ours, of each setting
MOMENTA = (0.94, 0.97, 0.99)
COLOURS = {
    "½ sum, ε(1−α)": "#009E73",
    "sum, ε(1−α)": "#CC79A7",
    "mean, ε(1−α)": "#E69F00",
    "mean, ε": "#0072B2",
    "½ sum, ε": "#D55E00",
}


def initial_range(bits):
    return 2.0 if bits == 8 else 2.5


def forms(bits):
    """For each form of the rate: what ε is multiplied by, and whether by 1−α besides."""
    return np.array([(2**bits / 2, 1), (2**bits, 1), (1, 1), (1, 0), (2**bits / 2, 0)])


def times_to_learn(bits, trials, limit, ranges, forms, momenta, solved):
    """Epochs of each trial, infinite for one not solved within the limit, by range, form and momentum."""
    trainer = xj.trainer(
        lambda h: xj.mlp(
            (bits, 2 * bits, 1), kernel_init=xj.uniform(h["range"]), bias_init=xj.uniform(h["range"])
        ),
        xj.parity(bits),
        lambda h: optax.sgd(RATE[bits] * h["form"][0] * (1 - h["form"][1] * h["momentum"]), h["momentum"]),
        epochs=limit * EPOCHS[bits],
        solved=solved,
        stop="solved",
    )
    members = xj.grid(range=ranges, form=forms, momentum=momenta, seeds=range(trials))
    how = {"engine": "vmap", "chunk_size": 32} if bits > 5 else {}  # products of matrices that are worth the name
    epochs = xj.train_ensemble(trainer, members, **how).solved_epoch.reshape(members.shape)
    return np.where(epochs < 0, math.inf, np.maximum(epochs, 1))


def power_mean(epochs, power):
    """mean(1/t^power)^(−1/power): fast trials count most, one that is not solved adds 0."""
    mean = np.mean(epochs**-power, axis=-1)
    return np.power(mean, -1 / power, where=mean > 0, out=np.full_like(mean, math.inf))


def within_a_tenth(y_hat, y, loss):
    return jnp.all(jnp.abs(y_hat - y) < 0.1)


def text(number):
    return f"{number:.0f}" if number < math.inf else "–"


def growth(bits, epochs):
    """b of epochs ~ b^N, by least squares on logarithms."""
    return math.exp(np.polyfit(bits, np.log(epochs), 1)[0])


def draw(means, shares, path):
    figure = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    bits = np.array(list(means))
    for i, (form, colour) in enumerate(COLOURS.items()):
        for j, (momentum, marker) in enumerate(zip(MOMENTA, "os^", strict=True)):
            style = {
                "color": colour,
                "marker": marker,
                "ls": "none",
                "mfc": "none",
                "label": f"{form}, α = {momentum}",
            }
            left.plot(bits + 0.1 * (i - 2), [means[n][i, j] for n in means], **style)
            right.plot(bits + 0.1 * (i - 2), [100 * shares[n][i, j] for n in means], **style)
    left.plot(bits, [EPOCHS[n] for n in bits], "k_-", ms=20, mew=2, lw=0.8, label="published")
    left.set(xlabel="bits N", ylabel="epochs t: 1/√mean(1/t²) over trials", yscale="log")
    left.set_title(
        "Epochs to learn N-bit parity: published, and under fifteen readings of the source", fontsize=10
    )
    right.set(xlabel="bits N", ylabel="trials that learn within the limit, %", ylim=(-3, 103))
    right.set_title("How many trials learn", fontsize=10)
    left.legend(fontsize=7, ncols=2)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, nargs="+", default=list(EPOCHS))
    parser.add_argument("--seeds", type=float, default=1.0, help="times the trials of the full size")
    parser.add_argument("--limit", type=int, default=4, help="times the published epochs")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    means, shares, least = {}, {}, {}
    print(f"1/√mean(1/t²) at α = {' / '.join(map(str, MOMENTA))}, ε times the gradient of")
    print(" N    ε   published" + "".join(f"{form:>17}" for form in COLOURS))
    for n in args.bits:
        trials, how = max(2, round(args.seeds * TRIALS[n])), xj.solved_by_40_20_40()
        ranges = [initial_range(n)] if n > 5 else [initial_range(n), initial_range(n) / 2]
        epochs = times_to_learn(n, trials, args.limit, ranges, forms(n), MOMENTA, how)
        means[n], shares[n] = power_mean(epochs[0], 2), np.isfinite(epochs[0]).mean(axis=-1)
        i, j = np.unravel_index(np.argmin(means[n]), means[n].shape)
        strict = times_to_learn(n, trials, args.limit, ranges[:1], forms(n)[[i]], [MOMENTA[j]], within_a_tenth)
        least[n] = {
            "setting": f"{list(COLOURS)[i]}, α {MOMENTA[j]}",
            "means": [float(power_mean(epochs[0, i, j], power)) for power in (2, 1)],
            "median": float(statistics.quantiles(epochs[0, i, j], [0.5])[0]),
            "solved": statistics.proportion(np.isfinite(epochs[0, i, j])),
            "within a tenth": float(power_mean(strict[0, 0, 0], 2)),
            "half the range": float(power_mean(epochs[1:], 2).min(initial=math.inf)),
        }
        cells = ("/".join(map(text, each)) for each in means[n])
        print(f"{n:2}{RATE[n]:5g}{EPOCHS[n]:12}" + "".join(f"{each:>17}" for each in cells), flush=True)
    print("share of trials that learn, %")
    for n in args.bits:
        cells = ("/".join(f"{100 * share:.0f}" for share in each) for each in shares[n])
        print(f"{n:2}{'':17}" + "".join(f"{each:>17}" for each in cells))

    print("the least of each row: published, 1/√mean(1/t²), 1/mean(1/t), median, share (95 % interval), setting;")
    print("1/√mean(1/t²) until outputs are within 0.1; the least with half the initial range")
    for n, best in least.items():
        learn = best["solved"]
        share = f"{100 * learn.share:.0f} % ({100 * learn.low:.0f} to {100 * learn.high:.0f})"
        numbers = "".join(f"{text(t):>6}" for t in (EPOCHS[n], *best["means"], best["median"]))
        others = f"{text(best['within a tenth']):>6}{text(best['half the range']):>6}"
        print(f"{n:2}{numbers}  {share:<18}{best['setting']:<24}{others}")
    published = growth(args.bits, [EPOCHS[n] for n in args.bits])
    here = growth(args.bits, [best["means"][0] for best in least.values()])
    print(f"epochs grow as {published:.2f}^N (published) and {here:.2f}^N (the least here); presentations of")
    print(f"patterns, 2^N an epoch, as {2 * published:.2f}^N and {2 * here:.2f}^N")

    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "parity.json").write_text(json.dumps({"least": least, "published": EPOCHS}))
        draw(means, shares, args.out / "parity.png")


if __name__ == "__main__":
    main()
