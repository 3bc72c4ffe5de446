"""The shapes and dtypes in signatures, checked at run time by jaxtyping and beartype, at no cost to users."""

import subprocess
import sys

import pytest

CHECKED = """
import jaxtyping
with jaxtyping.install_import_hook("xorjax", "beartype.beartype"):
    import xorjax as xj
    from xorjax.reports import figures, page
    from xorjax.statistics import arrays as statistics
    from xorjax.statistics import outcomes
import jax, numpy as np, optax
jax.config.update("jax_disable_most_optimizations", True)

trainer = xj.trainer(
    lambda h: xj.mlp((2, 2, 1), kernel_init=xj.models.uniform(h["scale"])), xj.xor(),
    lambda h: optax.sgd(h["learning_rate"]), epochs=9, batch_size=3, record_every=2, stop="solved")
hparams = {"learning_rate": 0.5, "scale": np.linspace(0.1, 2, 3)}
results = xj.train_ensemble(trainer, range(3), hparams, chunk_size=2)
params = xj.mlp((2, 2, 1)).init(jax.random.key(0))
xj.keras.params_from_keras(xj.keras.params_to_keras(params)), xj.summary(params)
xj.accuracy(np.zeros((4, 2)), np.ones((4, 2)))
statistics.proportion(results.accuracy == 1), statistics.quantiles(results.loss, [0.5])
statistics.epochs_to_solve(results.solved_epoch, [0.5]), outcomes.count_outcomes(results.predictions, xj.xor().y)
print("kept")

for wrong in (lambda: statistics.quantiles(np.zeros((2, 2)), [0.5]), lambda: xj.mse(np.zeros(4), np.ones((4, 1)))):
    try:
        wrong()
    except jaxtyping.TypeCheckError:
        print("found")
"""


@pytest.mark.slow
def test_a_program_keeps_its_signatures_and_one_that_does_not_is_found():
    run = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True, check=False)
    assert run.stdout == "kept\nfound\nfound\n", run.stderr
