"""The spread of 1,000 small regressors is too narrow a forecast of a patient; with noise added it holds.

The diabetes data of Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression" (2004), as scikit-learn has
them: 442 patients, ten measurements. Four times 110 are held out; 1,000 networks 10-8-1, each with own seed and
bootstrap sample, train on the other 332. Their spread is what seed and sample matter; noise² is what square errors
exceed the square spread by, in the mean over patients out of the networks' samples (after Heskes 1997), never over
those held out. How long to train is swept. (Spread of least squares is the standard error of its predictions.)

    python examples/diabetes_ensemble.py --out examples/figures

Typical printout, after half a minute on two cores (needs scikit-learn):

    least squares on all 442 patients    published    here    conditions that differ
      R²                                     0.518   0.518    none; published from memory
      residual standard error                54.15   54.15    none; published from memory
      sum of |coefficients|                   3460    3460    none; published from memory

    440 patients held out, each once; no published figures are known to us
                      R² of the  R² of one     mean    noise    50 % intervals hold   90 % intervals hold
                           mean   (median)   spread             spread   with noise   spread   with noise
    least squares          0.49       0.49      9.7     54.2     9.8 %       47.7 %   22.3 %       89.8 %
    20 epochs              0.49       0.43     19.7     51.6    18.0 %       47.7 %   41.8 %       89.5 %
    100 epochs             0.50       0.41     21.8     50.1    20.2 %       52.7 %   50.2 %       90.0 %
    500 epochs             0.47       0.14     43.4     33.9    40.7 %       51.8 %   77.3 %       88.4 %
"""

import argparse
import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

import xorjax as xj

FOLDS, HELD_OUT = 4, 110
NOMINAL = np.arange(5, 100, 5)  # per cent of the patients that central intervals should hold
COLOURS = ["black", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#0072B2"]


def least_squares(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> tuple[np.ndarray, ...]:
    """Predictions, their standard errors, the residual standard error, and the coefficients."""
    rows, new = (np.column_stack([np.ones(len(each)), each]) for each in (x, x_new))
    found = np.linalg.lstsq(rows, y)[0]
    noise = np.sqrt(np.sum((y - rows @ found) ** 2) / (len(y) - len(found)))
    return new @ found, noise * np.linalg.norm(new @ np.linalg.pinv(rows), axis=1), noise, found[1:]


def judged(errors: np.ndarray, spread: np.ndarray, noise: np.ndarray, total: float) -> dict[str, Any]:
    """A line of the table: how good and how wide forecasts are, and what share of patients each interval holds."""
    line: dict[str, Any] = {"R²": 1 - np.sum(errors**2) / total, "spread": spread.mean(), "noise": noise.mean()}
    for kind, deviation in {"spread": spread, "with noise": np.hypot(spread, noise)}.items():
        z = np.abs(errors / deviation)
        line[f"inside, {kind}"] = [100 * np.mean(z < NormalDist().inv_cdf(0.5 + q / 200)) for q in NOMINAL]
    return line


def figure(measured: np.ndarray, mean: np.ndarray, spread: np.ndarray, noise: np.ndarray, table: dict) -> Figure:
    drawn = Figure(figsize=(11.5, 5.3), layout="constrained")
    left, right = drawn.subplots(1, 2)
    x, y, narrow, wide = (each[:HELD_OUT] for each in (measured, mean, spread, np.hypot(spread, noise)))
    left.errorbar(x, y, wide, fmt="none", ecolor="#56B4E9", elinewidth=0.9, label="± one deviation, with noise")
    left.errorbar(x, y, narrow, fmt=".k", ecolor="#0072B2", elinewidth=2, label="± one deviation, spread alone")
    left.axline((150, 150), slope=1, color="black", linewidth=0.8)
    left.set(xlabel="progression measured after a year", ylabel="progression predicted: mean of the networks")
    left.set_title(f"{HELD_OUT} of {len(measured)} held-out patients, after {list(table)[-1]}")
    half = 1.96 * np.sqrt(NOMINAL * (100 - NOMINAL) / len(measured))
    right.fill_between(NOMINAL, NOMINAL - half, NOMINAL + half, color="0.85", label="95 % of perfect forecasters")
    for i, (name, line) in enumerate(table.items()):
        for kind, style in {"with noise": "-", "spread": "--"}.items():
            right.plot(NOMINAL, line[f"inside, {kind}"], style, color=COLOURS[i % 6], label=f"{name}, {kind}")
    right.set(xlabel="nominal coverage of the interval, %", ylabel="held-out patients inside, %")
    right.set(xlim=(0, 100), ylim=(0, 100), title="Spread alone is too narrow; with noise it holds")
    for axes in (left, right):
        axes.legend(loc="upper left", fontsize="small")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--epochs", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--out", type=Path, help="folder for figure and numbers")
    args = parser.parse_args()
    if args.seeds < 2 or min(args.epochs) < 1:
        parser.error("--seeds must be 2 or more, for a spread, and --epochs 1 or more")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    seeds, ends = np.arange(args.seeds), sorted({*args.epochs})
    x, y = map(np.asarray, load_diabetes(return_X_y=True))
    fitted, _, residual, found = least_squares(x, y, x)
    r_squared = 1 - np.sum((y - fitted) ** 2) / np.sum((y - y.mean()) ** 2)
    print("least squares on all 442 patients    published    here    conditions that differ")
    print(f"  R²                                     0.518 {r_squared:7.3f}    none; published from memory")
    print(f"  residual standard error                54.15 {residual:7.2f}    none; published from memory")
    print(f"  sum of |coefficients|                   3460 {sum(abs(found)):7.0f}    none; published from memory")

    order = np.random.default_rng(0).permutation(len(x))  # the last two always train, so that folds are alike
    held_out = order[: FOLDS * HELD_OUT].reshape(FOLDS, HELD_OUT)
    trained_on = np.array([np.setdiff1d(order, out) for out in held_out])
    centre, unit = y[trained_on].mean(axis=1)[:, None], y[trained_on].std(axis=1)[:, None]
    inputs = np.sqrt(len(x)) * x  # of unit variance
    tables = inputs[trained_on], ((y[trained_on] - centre) / unit)[..., None], inputs[held_out]
    batch_x, batch_y, x_held_out = (jnp.asarray(table, jnp.float32) for table in tables)
    model = xj.mlp((10, 8, 1), hidden="tanh", output="linear")
    trainer = xj.trainer(
        model,
        lambda h: xj.Batch(batch_x[h["fold"]], batch_y[h["fold"]]),
        optax.sgd(0.05, momentum=0.9),
        epochs=ends[-1],
        resample=True,
        record_at=ends,
        record=["predictions"],
        observe=lambda params, h: model.apply(params, x_held_out[h["fold"]]),
    )
    history: Any = xj.train_ensemble(trainer, xj.grid(fold=np.arange(FOLDS), seeds=seeds)).history
    times_drawn = jax.jit(jax.vmap(lambda seed: trainer.init(jax.random.key(seed), {"fold": 0}).weights))(seeds)

    measured, total = y[held_out].ravel(), np.sum((y[held_out] - centre) ** 2)
    fits = [least_squares(x[on], y[on], x[out])[:3] for on, out in zip(trained_on, held_out, strict=True)]
    mean, spread, noise = np.array([np.broadcast_arrays(*fit) for fit in fits]).swapaxes(0, 1).reshape(3, -1)
    table = {"least squares": judged(measured - mean, spread, noise, total)}
    for i, end in enumerate(ends):
        # In the unit of the measurement, as (folds, seeds, patients), of those trained on and of those held out.
        of_rows, of_held_out = (
            centre[..., None] + unit[..., None] * np.asarray(each)[:, i, :, 0].reshape(FOLDS, len(seeds), -1)
            for each in (history.predictions, history.observed)
        )
        out_of_bag = np.ma.masked_array(of_rows, np.broadcast_to(np.asarray(times_drawn) > 0, of_rows.shape))
        excess = (y[trained_on] - out_of_bag.mean(axis=1)) ** 2 - out_of_bag.var(axis=1)
        noise = np.sqrt(np.maximum(excess.mean(axis=1), 0.0)).repeat(HELD_OUT)
        mean, spread = of_held_out.mean(axis=1).ravel(), of_held_out.std(axis=1).ravel()
        each = 1 - np.sum((of_held_out - y[held_out][:, None]) ** 2, axis=(0, 2)) / total
        table[f"{end} epochs"] = judged(measured - mean, spread, noise, total) | {"R² of one": np.median(each)}
    print(f"\n{measured.size} patients held out, each once; no published figures are known to us")
    print("                  R² of the  R² of one     mean    noise    50 % intervals hold   90 % intervals hold")
    print("                       mean   (median)   spread             spread   with noise   spread   with noise")
    for name, line in table.items():
        inside = [line[f"inside, {kind}"][q // 5 - 1] for q in (50, 90) for kind in ("spread", "with noise")]
        fit = f"{line['R²']:12.2f}{line.get('R² of one', line['R²']):11.2f}"
        print(f"{name:15}{fit}{line['spread']:9.1f}{line['noise']:9.1f}", end="")
        print("{:8.1f} %{:11.1f} %{:7.1f} %{:11.1f} %".format(*inside))
    if args.out is not None:
        report = json.dumps({"nominal": NOMINAL.tolist(), **table}, indent=1)
        (args.out / "diabetes_ensemble.json").write_text(report + "\n", encoding="utf-8")
        figure(measured, mean, spread, noise, table).savefig(args.out / "diabetes_ensemble.png", dpi=110)


if __name__ == "__main__":
    main()
