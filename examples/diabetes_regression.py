"""A thousand small regressors say what a patient's disease will do, and how sure they are of it.

The diabetes data of Efron, Hastie, Johnstone and Tibshirani (2004), as scikit-learn has them: ten measurements of
442 patients, and how far the disease went in a year. Each regressor, 10-8-1, starts from a seed of its own and
trains on a bootstrap sample of its own; a quarter of the patients is held out. Trained for so long, more than half
of them predict worse than the mean of all patients would, and yet the mean of their predictions errs less than
nearly every one of them. Their spread says how much they differ; the disease itself varies more than that.

    python examples/diabetes_regression.py

Typical printout, after a quarter of a minute on two cores (needs scikit-learn):

    111 patients held out; root mean squared error of
      who predicts the mean of the others    70.5
      one regressor of 1,000, the median      72.5
      the mean of all their predictions      58.5, less than 99.9% of them
    spread of the predictions: 42.4; 81% of the patients lie within two of it
    patient    measured   mean ± spread
          0         321    278 ± 38
          1         215    251 ± 42
          2         127    150 ± 28
"""

import argparse

import numpy as np
import optax
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

import xorjax as xj


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=500)
    args = parser.parse_args()

    x, y = map(np.asarray, load_diabetes(return_X_y=True))
    x, x_held_out, y, y_held_out = map(np.asarray, train_test_split(x, y, test_size=0.25, random_state=0))

    def batch(inputs: np.ndarray, targets: np.ndarray) -> xj.Batch:
        return xj.Batch((inputs - x.mean(axis=0)) / x.std(axis=0), (targets[:, None] - y.mean()) / y.std())

    trainer = xj.trainer(
        xj.mlp((10, 8, 1), hidden="tanh", output="linear"),
        batch(x, y),
        optax.sgd(0.05, momentum=0.9),
        epochs=args.epochs,
        resample=True,
        validation=batch(x_held_out, y_held_out),
    )
    results = xj.train_ensemble(trainer, range(args.seeds))

    predicted = y.mean() + y.std() * np.asarray(results.validation_predictions)[..., 0]  # (members, patients)
    mean, spread = predicted.mean(axis=0), predicted.std(axis=0)

    def error(of: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean((of - y_held_out) ** 2, axis=-1))

    alone, together = error(predicted), error(mean)
    beaten = np.mean(alone > together)
    within = np.mean(np.abs(y_held_out - mean) < 2 * spread)
    print(f"{len(y_held_out)} patients held out; root mean squared error of")
    print(f"  who predicts the mean of the others  {error(np.full_like(y_held_out, y.mean())):6.1f}")
    print(f"  one regressor of {args.seeds:,}, the median    {np.median(alone):6.1f}")
    print(f"  the mean of all their predictions    {together:6.1f}, less than {beaten:.1%} of them")
    print(f"spread of the predictions: {spread.mean():.1f}; {within:.0%} of the patients lie within two of it")
    print("patient    measured   mean ± spread")
    for patient in range(3):
        print(f"{patient:7}  {y_held_out[patient]:10.0f}   {mean[patient]:4.0f} ± {spread[patient]:.0f}")


if __name__ == "__main__":
    main()
