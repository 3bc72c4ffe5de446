"""The learning rates at which a small network can be trained are separated from the others by a fractal.

After Sohl-Dickstein, "The boundary of neural network trainability is fractal" (2024, arXiv 2402.06184) and its
notebook: one hidden layer of 16 tanh units without biases, in the mean-field scaling, y = W₁ tanh(√(2/16) W₀ x) /
16, on as many rows of noise (272) as there are parameters, in float64. A pixel is one network, trained by
full-batch gradient descent for 500 steps; the learning rates of the two layers are its place. A network converges
if the mean of its last 20 losses is below its first.

    python examples/trainability_boundary.py --out . --store boundary.zarr

It is a study: kill it, start it again, and it goes on. `--size 4096` is the published resolution, a day's work or
two, and `--worker 3/16` a part of it; `--low` and `--high` are powers of ten of both rates: zoom in.

Typical printout, after 23 minutes on two cores:

    38.2% of 262,144 networks converge; 59.5% overflow before step 500.
    box dimension of the boundary   published   here   conditions that differ
    median over sizes of boxes           1.66   1.40   one picture of 512², no median over zooms of 4096²
    fitted to all sizes                         1.39   the same; these rates; one seed
    (Published of six conditions: 1.17 to 1.98.)

Expected (read in the paper): 1.66 for this condition, tanh with full batches. Found: 1.40, which is 0.26 less.
The picture here is of the whole boundary, and theirs are zooms into it; how much of the difference comes from that
was not tried.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import zarr.storage
from matplotlib.figure import Figure

import xorjax as xj
from xorjax.statistics.box_counting import boundary, box_counts

WIDTH, LAST = 16, 20
ROWS = WIDTH * WIDTH + WIDTH  # as many as parameters
PUBLISHED, LEAST, MOST = 1.66, 1.17, 1.98  # box dimensions: of this condition; of the six of the paper's Table 1


def init(key: jax.Array) -> dict[str, jax.Array]:
    key_input, key_output = jax.random.split(key)
    return {
        "input": jax.random.normal(key_input, (WIDTH, WIDTH)),
        "output": jax.random.normal(key_output, (WIDTH, 1)),
    }


def apply(params: dict[str, jax.Array], x: Any) -> jax.Array:
    return jnp.tanh(x @ params["input"] * jnp.sqrt(2 / WIDTH)) @ params["output"] / WIDTH


def sgd(hparams: dict[str, jax.Array]) -> optax.GradientTransformation:
    """With a learning rate for each layer."""
    layers = {"input": "input", "output": "output"}
    return optax.partition({layer: optax.sgd(hparams[layer]) for layer in layers}, layers)


def trainer(steps: int) -> xj.Trainer:
    key_x, key_y = jax.random.split(jax.random.key(272))
    noise = xj.Batch(
        np.asarray(jax.random.normal(key_x, (ROWS, WIDTH))), np.asarray(jax.random.normal(key_y, (ROWS, 1)))
    )
    overflow = xj.training.StopRule(
        lambda dtype: (), lambda carried, solved, loss, epoch: (carried, ~jnp.isfinite(loss))
    )
    return xj.trainer(
        xj.Model(init, apply),
        noise,
        sgd,
        epochs=steps,
        record_at=[0, *range(steps - LAST, steps)],
        stop=overflow,  # nothing comes back from there
    )


def draw(path: Path, ratio: np.ndarray, epochs: np.ndarray, rates: dict[str, np.ndarray], title: str) -> None:
    """Blue: converged, the darker the lower the loss. Orange: not; the lighter, the sooner it overflowed."""
    figure = Figure(figsize=(8.2, 6.6), dpi=100, layout="constrained")
    ax = figure.subplots()
    converged = ratio < 1
    layers = (
        (
            np.where(converged, np.log10(np.maximum(ratio, 1e-6)), np.nan),
            "Blues_r",
            "log₁₀ of last losses / first",
        ),
        (np.where(converged, np.nan, epochs), "Oranges", "not converged: steps until the loss overflowed"),
    )
    for values, colours, label in layers:
        image = ax.pcolormesh(rates["output"], rates["input"], values, cmap=colours, rasterized=True)
        figure.colorbar(image, ax=ax, label=label, shrink=0.8)
    ax.set(xscale="log", yscale="log", xlabel="learning rate of the output layer", title=title)
    ax.set_ylabel("learning rate of the input layer")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512, help="networks along each axis")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--low", type=float, nargs=2, default=(0.0, 1.0), help="log10 of input's, output's rate")
    parser.add_argument("--high", type=float, nargs=2, default=(6.0, 4.0))
    parser.add_argument("--store", help="folder to go on in; without it the study is lost when this ends")
    parser.add_argument("--worker", help="3/16 trains every 16th shard, from the third on")
    parser.add_argument("--out", type=Path, help="folder for figure and numbers")
    args = parser.parse_args()
    if args.size < 4 or args.steps <= LAST:
        parser.error(f"--size must be 4 or more, and --steps more than {LAST}")
    if args.worker and not args.store:
        parser.error("--worker wants a --store, in which workers meet")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)

    jax.config.update("jax_enable_x64", True)
    bounds = zip(("input", "output"), args.low, args.high, strict=True)
    rates = {layer: np.logspace(low, high, args.size) for layer, low, high in bounds}
    study = xj.run_study(
        trainer(args.steps),
        range(1),
        rates,
        store=args.store or zarr.storage.MemoryStore(),
        keep=["history", "epochs"],
        worker=args.worker,
        progress=True,
    ).transpose("seed", "input", "output", ...)
    loss, epochs = study["history/loss"].to_numpy()[0], study["epochs"].to_numpy()[0]
    if np.isnan(epochs).any():
        sys.exit(f"{np.isnan(epochs).sum():,} networks of other workers are not trained yet")
    with np.errstate(all="ignore"):  # some losses are infinite
        ratio = loss[..., 1:].mean(axis=-1) / loss[..., 0]
    ratio = np.where(np.isnan(ratio), np.inf, ratio)

    share, overflowed = np.mean(ratio < 1), np.mean(epochs < args.steps)
    print(f"{share:.1%} of {ratio.size:,} networks converge; {overflowed:.1%} overflow before step {args.steps}.")
    boxes = box_counts(boundary(ratio < 1))
    if not boxes.counts.any():
        print("There is no boundary between these rates.")
    median = np.median(-np.diff(np.log2(np.maximum(boxes.counts, 1))))
    condition = f"one picture of {args.size}², no median over zooms of 4096²"
    print("box dimension of the boundary   published   here   conditions that differ")
    print(f"median over sizes of boxes      {PUBLISHED:9}   {median:.2f}   {condition}")
    print(f"fitted to all sizes             {'':9}   {boxes.dimension:.2f}   the same; these rates; one seed")
    print(f"(Published of six conditions: {LEAST} to {MOST}.)")
    if args.out:
        title = f"Trainable (blue) or not: {args.size}² networks, box dimension {median:.2f}"
        draw(args.out / "trainability_boundary.png", ratio, epochs, rates, title)
        numbers = {
            "size": args.size, "low": args.low, "high": args.high, "converged": share, "overflowed": overflowed,
            "sides": boxes.sides.tolist(), "counts": boxes.counts.tolist(), "median": median,
            "fitted": boxes.dimension,
        }  # fmt: skip
        (args.out / "trainability_boundary.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
