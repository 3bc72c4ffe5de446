# pyright: reportOptionalMemberAccess=false

"""Rules to stop by, and the time that they save, without a bit's difference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xorjax as xj
from xorjax.ensembles import chunk as chunks

quick = pytest.mark.usefixtures("quick_compiler")
MODEL, XOR = xj.mlp((2, 2, 1)), xj.xor()
EPOCHS = 600
RULES = {
    "solved": "solved",
    "plateau": xj.training.plateau(20, 1e-4),
    "either": ["solved", xj.training.plateau(30, 1e-3)],
    "own": xj.training.StopRule(lambda dtype: (), lambda carried, solved, loss, epoch: (carried, loss < 0.2)),
}


def trainer(stop, **options):
    settings = {"epochs": EPOCHS, "solved": lambda y_hat, y, loss: loss < 0.24, **options}
    return xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"], 0.9), stop=stop, **settings)


def rates(n):
    return {"learning_rate": np.geomspace(0.05, 5, n)}


def bits(results):
    return [np.ascontiguousarray(leaf).view(f"u{leaf.itemsize}") for leaf in jax.tree.leaves(results)]


@pytest.mark.parametrize(
    ("rule", "record_every", "batch_size"),
    [
        ("own", None, None),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("solved", 250, 3), ("plateau", 7, None), ("either", None, None), ("plateau", 250, 3)]
        ),
    ],
)
def test_compaction_changes_no_bit(rule, record_every, batch_size, monkeypatch):
    member = trainer(RULES[rule], record_every=record_every, batch_size=batch_size)
    n_trained = []
    run_epochs = chunks.Chunk.run_epochs
    monkeypatch.setattr(
        chunks.Chunk,
        "run_epochs",
        lambda self, epochs: (n_trained.append(self._n_trained), run_epochs(self, epochs))[1],
    )
    hparams = rates(300)
    hparams["learning_rate"][3] = np.inf  # a member that diverges among the others
    compacted = xj.train_ensemble(member, range(300), hparams)
    assert min(n_trained) <= 64 < max(n_trained)  # lanes that are trained
    monkeypatch.setattr(chunks.Chunk, "compact", lambda self, epoch: self.n_members)
    whole = xj.train_ensemble(member, range(300), hparams)
    for got, wanted in zip(bits(compacted), bits(whole), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert len(set(compacted.epochs)) > 10
    assert compacted.outcome[3] == xj.Outcome.DIVERGED
    chosen = [299, 5, 64]
    some = xj.train_ensemble(member, chosen, {"learning_rate": hparams["learning_rate"][chosen]})
    for got, wanted in zip(bits(some._replace(history=None)), bits(compacted._replace(history=None)), strict=True):
        np.testing.assert_array_equal(got, wanted[chosen])


@pytest.mark.slow
@quick
@pytest.mark.parametrize("rule", ["either", "own"])
def test_engines_and_a_network_alone_stop_alike(rule):
    member = trainer(RULES[rule], record_every=50)
    lanes, vmap = (xj.train_ensemble(member, range(40), rates(40), engine=name) for name in ("lanes", "vmap"))
    alike = np.abs(lanes.epochs - vmap.epochs) <= 2
    assert alike.mean() > 0.9
    np.testing.assert_allclose(lanes.loss[alike], vmap.loss[alike], rtol=0.01)
    alone = jax.jit(member.run)(jax.random.key(39), {"learning_rate": rates(40)["learning_rate"][39]})
    assert abs(int(alone.epochs) - int(lanes.epochs[39])) <= 2
    np.testing.assert_allclose(alone.history.loss, lanes.history.loss[39], rtol=0.02)


@pytest.mark.slow
@quick
def test_what_is_recorded_after_the_end_is_what_it_ended_with():
    results = xj.train_ensemble(trainer("solved", record_every=9), range(30), rates(30))
    after = results.history.epoch >= results.epochs[:, None]
    assert 0 < after.sum() < after.size
    np.testing.assert_array_equal(
        results.history.loss[after], np.broadcast_to(results.loss[:, None], after.shape)[after]
    )
    assert (results.history.loss[~after] >= 0.24).all()


@quick
def test_a_plateau_is_what_it_says():
    """By the losses of every epoch of the same network without it."""
    losses = xj.train_ensemble(trainer("never", record_every=1), range(20), rates(20)).history.loss
    stopped = xj.train_ensemble(trainer(xj.training.plateau(15, 1e-3)), range(20), rates(20))
    wanted = []
    for member in losses:
        best, since = np.float32(np.inf), 0
        for epoch, loss in enumerate(member):
            if loss < best - np.float32(1e-3):
                best, since = loss, epoch
            if epoch - since >= 15:
                wanted.append(epoch)
                break
        else:
            wanted.append(EPOCHS)
    assert len(set(wanted)) > 5
    np.testing.assert_array_equal(stopped.epochs, wanted)


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_a_plateau():
    member = xj.trainer(MODEL, XOR, optax.sgd(float("inf")), epochs=50, stop=xj.training.plateau(5))
    results = xj.train_ensemble(member, range(2))
    assert (results.outcome == xj.Outcome.DIVERGED).all()
    assert (results.epochs < 10).all()


@pytest.mark.slow
@quick
def test_training_ends_when_all_have_stopped():
    seen = []
    member = xj.trainer(
        MODEL, XOR, optax.sgd(1.0), epochs=2**30, stop=xj.training.plateau(5, 1.0), record_every=2**27
    )
    results = xj.train_ensemble(member, range(3), progress=lambda *call: seen.append(call))
    assert (results.epochs == 5).all()
    assert results.history.loss.shape == (3, 8)
    np.testing.assert_array_equal(results.history.loss[:, 1:], np.repeat(results.loss[:, None], 7, axis=1))
    assert seen[-1] == (3, 3)


@quick
def test_the_rule_carries_the_dtype_of_the_loss():
    member = xj.trainer(
        xj.mlp((2, 2, 1), dtype=jnp.bfloat16), XOR, optax.sgd(1.0), epochs=30, stop=xj.training.plateau(3)
    )
    state = jax.eval_shape(member.init, jax.random.key(0))
    assert state.stopping[0].dtype == jnp.bfloat16
    assert jax.jit(member.run)(jax.random.key(0)).epochs <= 30


@quick
def test_stopping_compiles_once(compilations):
    member = trainer("solved")
    xj.train_ensemble(member, range(300), rates(300))
    before = len(compilations)
    xj.train_ensemble(member, range(500), rates(500))
    assert before > 0
    assert len(compilations) == before
