"""A member is its seed and hyper-parameters: bit for bit the same in every company, by the engine `lanes`."""

import jax
import numpy as np
import optax
import pytest

import xorjax as xj
from xorjax.ensembles import scheduler as blocks
from xorjax.ensembles.engines import choice, lanes

XOR, PARITY = xj.xor(), xj.parity(4)
MODEL = xj.mlp((2, 2, 1))
EPOCHS = 40
pytestmark = pytest.mark.lenient


def by_rate(make):
    return lambda h: make(h["learning_rate"])


TRAINERS = {
    "sgd": xj.trainer(MODEL, XOR, by_rate(optax.sgd), epochs=EPOCHS),
    "momentum": xj.trainer(MODEL, XOR, by_rate(lambda rate: optax.sgd(rate, 0.9)), epochs=EPOCHS),
    "adam": xj.trainer(MODEL, XOR, by_rate(optax.adam), epochs=EPOCHS),
    "mini-batches": xj.trainer(MODEL, XOR, by_rate(optax.sgd), epochs=EPOCHS, batch_size=3),
    "stop": xj.trainer(
        MODEL,
        XOR,
        by_rate(lambda r: optax.sgd(r, 0.9)),
        epochs=EPOCHS,
        solved=lambda y_hat, y, loss: loss < 0.24,
        stop="solved",
    ),
    "records": xj.trainer(MODEL, XOR, by_rate(optax.sgd), epochs=EPOCHS, record_every=7),
    "array": xj.trainer(
        xj.mlp((4, 8, 1), hidden="tanh"), PARITY, by_rate(lambda r: optax.adam(0.01 * r)), epochs=EPOCHS
    ),
    "large": xj.trainer(xj.mlp((5, 20, 1)), xj.parity(5), by_rate(optax.sgd), epochs=4),
    "vmap": xj.trainer(xj.mlp((4, 96, 32, 1)), PARITY, by_rate(optax.sgd), epochs=2),
}
LARGEST = 4_097


def every_trainer(quick):
    """Parametrize with all trainers; `quick` alone is not slow."""
    names = [pytest.param(name, marks=() if name == quick else pytest.mark.slow) for name in TRAINERS]
    return pytest.mark.parametrize("name", names)


def rates(n):
    return np.geomspace(0.1, 10, LARGEST).astype(np.float32)[:n]


def trained(name, seeds, rates, **options):
    return xj.train_ensemble(TRAINERS[name], seeds, {"learning_rate": rates}, engine="lanes", **options)


def bits(results):
    """Every array of the results as integers, so that nan equals nan and 0 is not -0."""
    leaves = jax.tree.leaves(results._replace(history=results.history and results.history._replace(epoch=None)))
    return [np.ascontiguousarray(leaf).view(f"u{leaf.itemsize}") for leaf in leaves]


def assert_same_bits(got, wanted, members):
    for a, b in zip(bits(got), bits(wanted), strict=True):
        np.testing.assert_array_equal(a, b[members])


@pytest.fixture(scope="module")
def whole():
    kept = {}

    def results(name):
        if name not in kept:
            kept[name] = trained(name, np.arange(LARGEST), rates(LARGEST))
        return kept[name]

    return results


def test_the_trainers_are_of_every_depth():
    hparams = {"learning_rate": jax.ShapeDtypeStruct((), np.float32)}
    depths = {name: lanes.explain_depth(trainer, hparams).depth for name, trainer in TRAINERS.items()}
    assert {name: depths[name] for name in ("sgd", "momentum", "stop", "array", "large", "vmap")} == {
        **dict.fromkeys(("sgd", "momentum", "stop"), "scalar"),
        **dict.fromkeys(("array", "large"), "array"),
        "vmap": "vmap",
    }
    sizes = {name: lanes.choose_block_size(trainer, hparams) for name, trainer in TRAINERS.items()}
    assert sizes["array"] < sizes["large"]  # so blocks of both sizes of that depth are tested


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_any_number_of_members(name, whole):
    for n in (1, 2, 3, 7, 16, 63, 1_000):
        assert_same_bits(trained(name, np.arange(n), rates(n)), whole(name), slice(n))


@every_trainer(quick="array")
def test_any_order(name, whole):
    shuffled = np.random.default_rng(0).permutation(1_000)
    for order in (np.arange(1_000)[::-1], shuffled):
        assert_same_bits(trained(name, order, rates(LARGEST)[order]), whole(name), order)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_any_chunk_size(name, whole):
    for chunk_size in (1, 100, 1_000):
        got = trained(name, np.arange(1_100), rates(1_100), chunk_size=chunk_size)
        assert_same_bits(got, whole(name), slice(1_100))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", TRAINERS)
def test_any_number_of_threads(name, threads, whole, monkeypatch):
    monkeypatch.setattr(blocks, "count_threads", lambda n_shards: threads)
    assert_same_bits(trained(name, np.arange(700), rates(700)), whole(name), slice(700))


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="vectors are those of a CPU")
@pytest.mark.parametrize("bits_of_vector", ["128", "256", "512"])
@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "vmap"])  # whose products are XLA's own
def test_any_vector_width(name, bits_of_vector, whole, monkeypatch):
    width = {"xla_cpu_prefer_vector_width": bits_of_vector}
    monkeypatch.setitem(choice.ENGINES, "lanes", lanes.ENGINE._replace(run_options=lambda: width))
    assert_same_bits(trained(name, np.arange(200), rates(200)), whole(name), slice(200))


@every_trainer(quick="stop")
def test_a_diverging_member_changes_no_other(name, whole):
    mixed = rates(200)
    mixed[::3] = 1e38
    results = trained(name, np.arange(200), mixed)
    healthy = np.arange(200) % 3 != 0
    for a, b in zip(bits(results), bits(whole(name)), strict=True):
        np.testing.assert_array_equal(a[healthy], b[:200][healthy])
    plain = xj.train_ensemble(TRAINERS[name], np.arange(200), {"learning_rate": mixed}, engine="vmap")
    np.testing.assert_array_equal(results.outcome == xj.Outcome.DIVERGED, plain.outcome == xj.Outcome.DIVERGED)


@every_trainer(quick="stop")
def test_engines_agree(name, whole):
    """Bits differ by the order of sums, and in 40 epochs at these rates a difference grows."""
    plain = xj.train_ensemble(TRAINERS[name], np.arange(500), {"learning_rate": rates(500)}, engine="vmap")
    in_lanes = jax.tree.map(lambda leaf: leaf[:500], whole(name)._replace(history=None))
    for a, b in zip(jax.tree.leaves(in_lanes), jax.tree.leaves(plain._replace(history=None)), strict=True):
        if np.issubdtype(a.dtype, np.integer):
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
