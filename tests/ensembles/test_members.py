"""Grids and random searches: described, sliced, trained."""

import itertools
import tracemalloc

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xorjax as xj

MODEL, XOR = xj.mlp((2, 2, 1)), xj.xor()
KEY = jax.random.key(5)
TABLES = np.array(list(itertools.product([0, 1], repeat=4)), np.float32)[:, :, None]


def by_rate_and_momentum(h):
    return optax.sgd(h["learning_rate"], h["momentum"])


def assert_same(got, wanted):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_grid_is_the_product_with_the_last_axis_fastest():
    members = xj.grid(seeds=[7, 3], learning_rate=[0.1, 0.2, 0.3], decay=0.5, momentum=(0.0, 0.9))
    assert members.axes == ("seed", "learning_rate", "momentum")
    assert members.shape == (2, 3, 2)
    seeds, hparams = members[:]
    wanted = list(itertools.product([7, 3], [0.1, 0.2, 0.3], [0.0, 0.9]))
    assert list(zip(seeds, hparams["learning_rate"], hparams["momentum"], strict=True)) == wanted
    assert (hparams["decay"] == 0.5).all()
    assert len(members) == len(hparams["decay"]) == 12


def test_the_axes_are_in_the_order_of_the_arguments():
    members = xj.grid(momentum=[0.0, 0.9], seeds=range(10, 30, 10))
    assert members.axes == ("momentum", "seed")
    np.testing.assert_array_equal(members[:][0], [10, 20, 10, 20])
    assert {name: list(at) for name, at in members.indices(slice(1, 3)).items()} == {
        "momentum": [0, 1],
        "seed": [1, 0],
    }


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_slice_of_a_grid_is_that_part_of_the_list(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    axes = {f"h{i}": np.arange(size) / 7 for i, size in enumerate(sizes[1:])}
    members = xj.grid(seeds=range(sizes[0]), **axes)
    start = data.draw(st.integers(0, len(members)))
    stop = data.draw(st.integers(start, len(members)))
    seeds, hparams = members[:]
    assert_same(members[start:stop], (seeds[start:stop], {name: h[start:stop] for name, h in hparams.items()}))


def test_a_grid_of_a_billion_is_described_and_sliced_at_once():
    tracemalloc.start()
    rates, momenta = np.geomspace(1e-3, 1, 10), np.linspace(0, 0.9, 10)
    members = xj.grid(seeds=range(10**7), learning_rate=rates, momentum=momenta)
    assert len(members) == 10**9
    at = [123_456_789, 999_999_999]
    for i in at:
        (seed,), hparams = members[i : i + 1]
        assert seed == i // 100
        assert (hparams["learning_rate"], hparams["momentum"]) == (rates[i // 10 % 10], momenta[i % 10])
    assert tracemalloc.get_traced_memory()[1] < 2**20  # bytes at the peak; listed they are gigabytes
    tracemalloc.stop()


def test_a_random_search_draws_what_scipy_describes_and_any_part_alike():
    from scipy import stats  # a second to import, in every process that collects

    distributions = {"learning_rate": stats.loguniform(1e-3, 1), "units": stats.randint(1, 5)}
    members = xj.random_search(KEY, 20_000, seeds=range(2), momentum=0.9, **distributions)
    assert (members.axes, members.shape) == (("draw", "seed"), (20_000, 2))
    seeds, hparams = members[:]
    np.testing.assert_array_equal(seeds[:4], [0, 1, 0, 1])
    rates = hparams["learning_rate"].reshape(members.shape)
    np.testing.assert_array_equal(rates[:, 0], rates[:, 1])
    assert stats.kstest(rates[:, 0], distributions["learning_rate"].cdf).pvalue > 0.01
    assert stats.chisquare(np.bincount(hparams["units"].astype(int))[1:]).pvalue > 0.01
    assert (hparams["momentum"] == 0.9).all()
    for part in (slice(0, 1), slice(7, 19), slice(39_990, 40_000), slice(5, 5)):
        assert_same(members[part], (seeds[part], {name: h[part] for name, h in hparams.items()}))


def test_what_a_random_search_draws_depends_on_key_and_name_alone():
    from scipy.stats import uniform

    rate = uniform(0, 1)
    drawn = xj.random_search(KEY, 50, seeds=[0], learning_rate=rate)[:][1]["learning_rate"]
    more = xj.random_search(KEY, 90, seeds=[4, 5], decay=rate, learning_rate=rate)[:100][1]
    np.testing.assert_array_equal(more["learning_rate"][::2], drawn)
    other = xj.random_search(jax.random.key(6), 50, seeds=[0], learning_rate=rate)[:][1]["learning_rate"]
    for different in (more["decay"][::2], other):
        assert abs(np.corrcoef(different, drawn)[0, 1]) < 0.5


@pytest.mark.parametrize("engine", ["lanes", "vmap"])
def test_members_of_a_grid_are_those_of_separate_runs(engine):
    trainer = xj.trainer(MODEL, XOR, by_rate_and_momentum, epochs=50)
    members = xj.grid(seeds=[3, 8], learning_rate=[0.1, 2.0], momentum=[0.0, 0.9])
    results = xj.train_ensemble(trainer, members, engine=engine, chunk_size=8)
    seeds, hparams = members[:]
    for i, seed in enumerate(seeds):
        alone = xj.train_ensemble(
            trainer, [seed], {name: h[i] for name, h in hparams.items()}, engine=engine, chunk_size=8
        )
        assert_same(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], results), alone)


SCHEDULES = {
    "cosine": lambda h: optax.sgd(optax.cosine_decay_schedule(h["rate"], 40)),
    "warm-up": lambda h: optax.adam(
        optax.join_schedules(
            [optax.linear_schedule(0.0, h["rate"], 5), optax.cosine_decay_schedule(h["rate"], 25)], [5]
        ),
        h["b1"],
        h["b2"],
    ),
    "piecewise": lambda h: optax.sgd(optax.piecewise_constant_schedule(h["rate"], {10: 0.5, 20: 0.1})),
    "weight decay": lambda h: optax.adamw(h["rate"], weight_decay=h["b1"]),
}


@jax.numpy_dtype_promotion("standard")  # which optax's schedules want
@pytest.mark.parametrize(
    "name", [name if name == "piecewise" else pytest.param(name, marks=pytest.mark.slow) for name in SCHEDULES]
)
def test_schedules_and_moments_may_differ_by_member(name):
    trainer = xj.trainer(MODEL, XOR, SCHEDULES[name], epochs=45)
    members = xj.grid(seeds=[1], rate=[0.05, 0.5], b1=[0.5, 0.9], b2=0.99)
    results = xj.train_ensemble(trainer, members, engine="lanes")
    _, hparams = members[:]
    assert len(set(results.loss)) > 1
    for i in range(len(members)):
        own = {name: h[i] for name, h in hparams.items()}
        assert_same(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], results), xj.train_ensemble(trainer, [1], own))
        alone = jax.jit(trainer.run)(jax.random.key(1), own)
        np.testing.assert_allclose(results.loss[i], alone.loss, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lanes", "vmap"])
def test_every_boolean_function_at_once(engine):
    def make(batch):
        return xj.trainer(MODEL, batch, by_rate_and_momentum, epochs=300)

    trainer = make(lambda h: xj.Batch(XOR.x, h["targets"]))
    members = xj.grid(seeds=range(3), targets=TABLES, learning_rate=2.0, momentum=0.9)
    results = xj.train_ensemble(trainer, members, engine=engine)
    losses = results.loss.reshape(members.shape)
    for i in (0, 6, 9, 15):
        table = make(xj.truth_table(TABLES[i, :, 0]))
        alone = xj.train_ensemble(table, range(3), {"learning_rate": 2.0, "momentum": 0.9}, engine=engine)
        np.testing.assert_allclose(losses[:, i], alone.loss, rtol=2e-4)
        single = xj.train_ensemble(trainer, *members[i : i + 1], engine=engine)
        if engine == "lanes":
            np.testing.assert_array_equal(single.loss, losses[0, i : i + 1])


def test_an_initial_scale_may_differ_by_member():
    def model(h):
        return MODEL._replace(init=lambda key: jax.tree.map(lambda leaf: h["scale"] * leaf, MODEL.init(key)))

    trainer = xj.trainer(model, XOR, optax.sgd(0.0), epochs=1)
    results = xj.train_ensemble(trainer, xj.grid(seeds=[4], scale=[1.0, 2.0]))
    np.testing.assert_array_equal(2 * results.params[0].kernel[0], results.params[0].kernel[1])
