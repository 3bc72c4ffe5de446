"""The shapes and dtypes in signatures, checked at run time by jaxtyping and beartype, at no cost to users."""

import subprocess
import sys

import pytest

CHECKED = """
from jaxtyping import install_import_hook
with install_import_hook("xorjax", "beartype.beartype"):
    import xorjax as xj
    from xorjax.reports import figures, page
    from xorjax.statistics import arrays as statistics
    from xorjax.statistics import outcomes
import jax, numpy as np, optax

def program():
    trainer = xj.trainer(
        lambda h: xj.mlp((3, 4, 1), hidden="tanh", kernel_init=xj.models.uniform(h["scale"])), xj.parity(3),
        lambda h: optax.sgd(h["learning_rate"]), epochs=9, batch_size=3, record_every=2, stop="solved")
    hparams = {"learning_rate": 0.5, "scale": np.linspace(0.1, 2, 5)}
    results = xj.train_ensemble(trainer, range(5), hparams, chunk_size=2)
    params = xj.mlp((2, 2, 1)).init(jax.random.key(0))
    xj.keras.params_from_keras(xj.keras.params_to_keras(params)), xj.summary(params)
    xj.accuracy(np.zeros((4, 2)), np.ones((4, 2)))
    statistics.proportion(results.accuracy == 1), statistics.quantiles(results.loss, [0.5])
    statistics.epochs_to_solve(results.solved_epoch, [0.5])
    outcomes.count_outcomes(results.predictions, xj.parity(3).y)
"""


def checked(line):
    return subprocess.run([sys.executable, "-c", CHECKED + line], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_program_keeps_its_signatures():
    run = checked("program(); print('kept')")
    assert run.stdout == "kept\n", run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    ["statistics.quantiles(np.zeros((2, 2)), [0.5])", "xj.mse(np.zeros(4), np.ones((4, 1)))"],
)
def test_a_signature_that_is_not_kept_is_found(wrong):
    run = checked(wrong)
    assert "jaxtyping.TypeCheckError" in run.stderr
