"""Epochs to learn N-bit parity, N = 2 to 8: Tesauro and Janssens (1988), under what their source leaves open.

DOC
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
FORMS = ("½ sum, ε(1−α)", "sum, ε(1−α)", "mean, ε(1−α)", "mean, ε", "½ sum, ε")  # the gradient of what, times what
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#0072B2", "#D55E00")


def epochs_to_learn(bits, trials, limit, ranges, forms, momenta, solved):
    """Of each trial, infinite where the limit comes first, by initial range, form of the rate and momentum."""

    def model(h):
        initial = xj.uniform(h["range"])
        return xj.mlp((bits, 2 * bits, 1), kernel_init=initial, bias_init=initial)

    def optimizer(h):
        times, is_damped = h["form"]
        return optax.sgd(RATE[bits] * times * (1 - is_damped * h["momentum"]), h["momentum"])

    epochs = limit * EPOCHS[bits]
    trainer = xj.trainer(model, xj.parity(bits), optimizer, epochs=epochs, solved=solved, stop="solved")
    members = xj.grid(range=ranges, form=forms, momentum=momenta, seeds=range(trials))
    how = {"engine": "vmap", "chunk_size": 32} if bits > 5 else {}  # products of matrices that are worth the name
    epochs = xj.train_ensemble(trainer, members, **how).solved_epoch.reshape(members.shape)
    return np.where(epochs < 0, math.inf, np.maximum(epochs, 1))


def power_mean(epochs, power):
    """mean(1/t^power)^(−1/power) over trials: the fast ones count most, those that do not learn add 0."""
    with np.errstate(divide="ignore"):
        return np.mean(epochs**-power, axis=-1) ** (-1 / power)


def text(numbers):
    return "/".join("–" if number == math.inf else f"{number:.0f}" for number in numbers)


def draw(means, shares, path):
    figure = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    bits = np.array(list(means))
    for i, (form, colour) in enumerate(zip(FORMS, COLOURS, strict=True)):
        for j, (momentum, marker) in enumerate(zip(MOMENTA, "os^", strict=True)):
            style = {"color": colour, "mfc": "none", "label": f"{form}, α = {momentum}"}
            left.plot(bits + 0.1 * (i - 2), [means[n][i, j] for n in means], marker, **style)
            right.plot(bits + 0.1 * (i - 2), [100 * shares[n][i, j] for n in means], marker, **style)
    left.plot(bits, [EPOCHS[n] for n in means], "k_-", ms=20, mew=2, lw=0.8, label="published")
    left.set(xlabel="bits N", xticks=bits, ylabel="epochs, 1/√mean(1/t²)", yscale="log")
    left.set_title("Epochs to learn N-bit parity: published, and by 15 readings of the source", fontsize=10)
    right.set(xlabel="bits N", xticks=bits, ylabel="trials that learn within the limit, %", ylim=(-3, 103))
    left.legend(fontsize=7, ncols=2)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, nargs="+", default=list(EPOCHS))
    parser.add_argument("--seeds", type=float, default=1.0, help="times the trials of the full size")
    parser.add_argument("--limit", type=int, default=4, help="times the published epochs")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    means, shares, least, rows = {}, {}, {}, []
    print("1/√mean(1/t²) of epochs t, and % of trials that learn, at α = 0.94/0.97/0.99; ε times the gradient of")
    print(" N   ε publ." + "".join(f"{form:>20}" for form in FORMS))
    for n in args.bits:
        trials, initial = max(2, round(args.seeds * TRIALS[n])), 2.0 if n == 8 else 2.5
        ranges = [initial] if n > 5 else [initial, initial / 2]
        forms = np.array([(2**n / 2, 1), (2**n, 1), (1, 1), (1, 0), (2**n / 2, 0)])
        bench, strict = xj.solved_by_40_20_40(), lambda y_hat, y, loss: jnp.all(jnp.abs(y_hat - y) < 0.1)
        epochs = epochs_to_learn(n, trials, args.limit, ranges, forms, MOMENTA, bench)
        means[n], shares[n] = power_mean(epochs[0], 2), np.isfinite(epochs[0]).mean(axis=-1)
        cells = (f"{text(t)} {text(100 * share)}" for t, share in zip(means[n], shares[n], strict=True))
        print(f"{n:2}{RATE[n]:4g}{EPOCHS[n]:6}" + "".join(f"{each:>20}" for each in cells), flush=True)

        i, j = np.unravel_index(np.argmin(means[n]), means[n].shape)
        best, least[n] = epochs[0, i, j], means[n][i, j]
        to_tenth = epochs_to_learn(n, trials, args.limit, ranges[:1], forms[[i]], [MOMENTA[j]], strict)
        others = power_mean(to_tenth[0, 0, 0], 2), power_mean(epochs[1:], 2).min(initial=math.inf)
        numbers = [EPOCHS[n], least[n], power_mean(best, 1), statistics.quantiles(best, [0.5])[0], *others]
        learn = statistics.proportion(np.isfinite(best))
        share = f"{100 * learn.share:.0f} % ({100 * learn.low:.0f} to {100 * learn.high:.0f})"
        rows.append(
            f"{n:2}" + "".join(f"{text([t]):>8}" for t in numbers) + f"  {share:<17}{FORMS[i]}, α {MOMENTA[j]}"
        )
    print(
        "The least of each row: published, 1/√mean(1/t²), 1/mean(1/t), median; 1/√… until outputs are within 0.1;"
    )
    print("the least with half the initial range; trials that learn (95 % interval); setting", *rows, sep="\n")
    learned = [n for n in least if least[n] < math.inf]
    if len(learned) > 1:  # b of the law epochs ~ b^N, by least squares on logarithms
        laws = (np.log2([epochs[n] for n in learned]) for epochs in (EPOCHS, least))
        published, here = (2 ** np.polyfit(learned, law, 1)[0] for law in laws)
        print(f"Epochs grow as {published:.2f}^N, presentations of a pattern as {2 * published:.2f}^N; ", end="")
        print(f"the least here as {here:.2f}^N, {2 * here:.2f}^N.")

    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        numbers = {n: {"means": means[n].round(1).tolist(), "learn": shares[n].tolist()} for n in means}
        table = json.dumps({"by form and momentum": numbers, "least": rows}, ensure_ascii=False)
        (args.out / "parity.json").write_text(table.replace("Infinity", "null"))
        draw(means, shares, args.out / "parity.png")


if __name__ == "__main__":
    main()
