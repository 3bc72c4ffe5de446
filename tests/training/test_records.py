# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false

"""What is recorded on the way: at which epochs, of which network, by every engine alike."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xorjax as xj
from xorjax.ensembles.engines import lanes

pytestmark = pytest.mark.usefixtures("quick_compiler")

MODEL, XOR = xj.mlp((2, 2, 1)), xj.xor()
EXTRAS = ["predictions", "params", "gradient_norm"]
EPOCHS, MEMBERS = 400, 70
RATES = {"learning_rate": np.geomspace(0.05, 5, MEMBERS)}


def observe(params, hparams):
    return {"size": sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)), "rate": hparams["learning_rate"]}


def trainer(**options):
    settings = {"epochs": EPOCHS, "record": EXTRAS, "observe": observe, **options}
    return xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"], 0.9), **settings)


def member_of(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


SCHEDULES = {
    "every 37th": {"record_every": 37},
    "log-spaced, and the end": {"record_at": xj.training.log_spaced(EPOCHS)},
    "from the middle": {"record_at": [3, 4, 250]},
    "more than fit a round": {"record_at": range(100, 300)},
}
WAYS = {
    "full batch": {},
    "mini-batches": {"batch_size": 3},
    "stopped": {"stop": "solved", "solved": xj.losses.solved_by_loss(0.24, all_right=False)},
}


CASES = [
    ("every 37th", "full batch"),
    ("log-spaced, and the end", "mini-batches"),
    ("from the middle", "stopped"),
    ("more than fit a round", "full batch"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "way"), CASES)
def test_a_record_is_of_the_network_as_it_was(schedule, way):
    """By replaying members to these epochs, and judging them there by other means."""
    member = trainer(**SCHEDULES[schedule], **WAYS[way])
    results = xj.train_ensemble(member, range(MEMBERS), RATES)
    history = results.history
    at = SCHEDULES[schedule].get("record_at", range(0, EPOCHS, 37))
    np.testing.assert_array_equal(history.epoch, at)
    for seed in (0, 41, 69):
        rate = {"learning_rate": RATES["learning_rate"][seed]}
        then = xj.replay(member, seed, rate, epochs=at)
        recorded = member_of(history._replace(epoch=None), seed)
        for got, wanted in zip(jax.tree.leaves(recorded.params), jax.tree.leaves(then.params), strict=True):
            np.testing.assert_array_equal(got, wanted)
        np.testing.assert_allclose(recorded.predictions, then.predictions, rtol=1e-5)
        np.testing.assert_array_equal(recorded.observed["rate"], np.float32(rate["learning_rate"]))
        sizes = [
            sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(member_of(then.params, i)))
            for i in range(len(at))
        ]
        np.testing.assert_allclose(recorded.observed["size"], sizes, rtol=1e-5)
        grads = jax.vmap(jax.grad(lambda params: xj.mse(MODEL.apply(params, XOR.x), XOR.y)))(then.params)
        norms = np.sqrt(sum((np.asarray(g) ** 2).reshape(len(at), -1).sum(1) for g in jax.tree.leaves(grads)))
        np.testing.assert_allclose(recorded.gradient_norm, norms, rtol=1e-3, atol=1e-6)
        if way != "mini-batches":
            np.testing.assert_allclose(recorded.loss, then.loss, rtol=1e-5)
            np.testing.assert_array_equal(recorded.accuracy, then.accuracy)


@pytest.mark.slow
def test_engines_and_a_network_alone_record_alike():
    member = trainer(record_at=xj.training.log_spaced(EPOCHS), batch_size=2)
    rates = member_of(RATES, slice(45))  # at greater ones a last bit soon makes another trajectory
    in_lanes, vmapped = (xj.train_ensemble(member, range(45), rates, engine=name) for name in ("lanes", "vmap"))
    alone = jax.jit(member.run)(jax.random.key(30), member_of(RATES, 30))
    # an output of ½ is right or wrong by its last bit
    histories = [each.history._replace(accuracy=None) for each in (in_lanes, vmapped)]
    for one, other in zip(*map(jax.tree.leaves, histories), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-2, atol=1e-4)
    of_member = member_of(in_lanes.history._replace(epoch=None), 30)
    for one, other in zip(
        jax.tree.leaves(of_member), jax.tree.leaves(alone.history._replace(epoch=None)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_the_record_at_the_end_is_the_result():
    results = xj.train_ensemble(trainer(record_at=np.array([EPOCHS])), range(5), member_of(RATES, slice(5)))
    for name in ("loss", "accuracy", "predictions"):
        np.testing.assert_allclose(getattr(results.history, name)[:, 0], getattr(results, name), rtol=1e-6)
    for got, wanted in zip(jax.tree.leaves(results.history.params), jax.tree.leaves(results.params), strict=True):
        np.testing.assert_array_equal(got[:, 0], wanted)


def test_what_is_not_asked_for_is_not_recorded():
    member = trainer(record=(), observe=None, record_every=100)
    history = jax.eval_shape(member.run, jax.random.key(0), member_of(RATES, 0)).history
    assert history.loss.shape == (4,)
    assert history[3:] == (None,) * 4


@pytest.mark.slow
def test_what_is_observed_does_not_change_how_members_are_trained():
    """A surface of 2,500 points is no reason for another depth, and is none to unroll it."""
    side = np.linspace(-1, 2, 50, dtype=np.float32)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    member = trainer(observe=lambda params, hparams: MODEL.apply(params, points), record_at=[0, 7])
    rate = member_of(RATES, 0)
    assert (
        lanes.explain_depth(member, rate)[:3]
        == lanes.explain_depth(trainer(record_every=50, record=(), observe=None), rate)[:3]
    )
    results = xj.train_ensemble(member, range(3), member_of(RATES, slice(3)))
    assert results.history.observed.shape == (3, 2, 2500, 1)
    params = jax.tree.map(lambda leaf: leaf[:, 1], results.history.params)
    wanted = jax.vmap(lambda params: MODEL.apply(params, points))(params)
    np.testing.assert_allclose(results.history.observed[:, 1], wanted, rtol=1e-5)


@pytest.mark.slow
def test_losses_of_mini_batches_are_those_of_each_epoch():
    """A record at every epoch of the choice is that of the trainer that records them all."""
    at = [0, 1, 5, 30, 399]
    rates = member_of(RATES, slice(20))
    some, every = (
        xj.train_ensemble(trainer(batch_size=3, **schedule), range(20), rates).history
        for schedule in ({"record_at": at}, {"record_every": 1, "record": (), "observe": None})
    )
    np.testing.assert_allclose(some.loss, every.loss[:, at], rtol=1e-4)
    np.testing.assert_array_equal(some.accuracy, every.accuracy[:, at])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"stop": "solved", "solved": lambda y_hat, y, loss: loss < 0.26}, marks=pytest.mark.slow)],
)
def test_what_is_recorded_may_be_differentiated(options):
    """Also where a network has stopped, and an update that is not made grows without end."""
    member = xj.trainer(
        MODEL,
        XOR,
        lambda h: optax.sgd(optax.exponential_decay(h["a"], 1, 1.2)),
        epochs=700 if options else 12,
        record_every=100 if options else 5,
        **options,
    )

    def loss(rate):
        return member.run(jax.random.key(0), {"a": rate}).history.loss[-1]

    with jax.numpy_dtype_promotion("standard"):
        slope = jax.jit(jax.grad(loss))(0.01)
        _, along = jax.jit(lambda rate: jax.jvp(loss, (rate,), (1.0,)))(0.01)
    assert slope != 0
    np.testing.assert_allclose(slope, along, rtol=1e-3)


@pytest.mark.slow
def test_memory_follows_the_records_and_not_the_epochs():
    """As many records of ten times the epochs compile to the same buffers."""

    def buffers(epochs):
        member = trainer(epochs=epochs, record_at=xj.training.log_spaced(epochs)[-8:])
        key, rate = jax.random.key(0), member_of(RATES, 0)
        analysis = jax.jit(member.run).lower(key, rate).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes

    assert buffers(10_000) == buffers(100_000)


def test_log_spaced_epochs():
    assert xj.training.log_spaced(1) == [0, 1]
    assert xj.training.log_spaced(10, per_decade=10) == [0, 1, 2, 3, 4, 5, 6, 8, 10]
    for epochs, per_decade in ((7, 1), (1000, 0.5), (12_345, 20), (2**30, 7)):
        found = xj.training.log_spaced(epochs, per_decade)
        assert found == sorted(set(found))
        assert (found[0], found[1], found[-1]) == (0, 1, epochs)
        assert all(type(epoch) is int for epoch in found)
        late = np.array([epoch for epoch in found[:-1] if epoch > 20 * per_decade])
        np.testing.assert_allclose(np.diff(np.log10(late)), 1 / per_decade, rtol=0.1)
    assert xj.training.log_spaced(10**6, per_decade=0.5) == [0, 1, 100, 10_000, 1_000_000]
