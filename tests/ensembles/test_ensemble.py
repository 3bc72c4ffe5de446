# pyright: reportOptionalMemberAccess=false

import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xorjax as xj
from xorjax.ensembles import rounds
from xorjax.ensembles import scheduler as blocks

MODEL, XOR = xj.mlp((2, 2, 1)), xj.xor()
TRAINER = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=60)
RATE = {"learning_rate": 2.0}


def assert_results_close(got, wanted, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_results_equal(got, wanted):
    assert_results_close(got, wanted, rtol=0, atol=0)


def member(results, i):
    return jax.tree.map(lambda leaf: leaf[i], results)


@pytest.mark.parametrize("seeds", [range(3), [5, 0, 4294967295], np.array([7, 7, 2**31], np.uint32)])
def test_a_member_is_its_seed_trained_alone(seeds):
    results = xj.train_ensemble(TRAINER, seeds, RATE, chunk_size=4)
    assert all(isinstance(leaf, np.ndarray) and len(leaf) == 3 for leaf in jax.tree.leaves(results))
    for i, seed in enumerate(seeds):
        alone = jax.jit(TRAINER.run)(jax.random.key(int(seed)), RATE)
        assert_results_close(member(results, i), alone)


@pytest.mark.parametrize("chunk_size", [1, 2, 5])
@pytest.mark.parametrize("record_every", [None, 7])
def test_chunks_give_what_one_chunk_gives(chunk_size, record_every):
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=60, record_every=record_every)
    whole = xj.train_ensemble(trainer, range(10), RATE, chunk_size=10)
    assert_results_close(xj.train_ensemble(trainer, range(10), RATE, chunk_size=chunk_size), whole)


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40, unique=True).flatmap(
        lambda seeds: st.tuples(st.just(seeds), st.permutations(seeds))
    )
)
@settings(max_examples=15)
def test_in_blocks_of_one_size_a_member_has_the_same_bits_in_any_company_and_order(seeds):
    first, second = seeds
    a = xj.train_ensemble(TRAINER, first, RATE, chunk_size=16)
    b = xj.train_ensemble(TRAINER, second, RATE, chunk_size=16)
    for seed in first[:5]:
        assert_results_equal(member(a, first.index(seed)), member(b, second.index(seed)))


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(blocks, "count_threads", lambda n_shards, threads=threads: threads)
        results.append(xj.train_ensemble(TRAINER, range(50), RATE, chunk_size=8))
    assert_results_equal(results[1], results[0])
    assert_results_equal(results[2], results[0])


def test_rounds_of_any_length_give_the_same_bits(monkeypatch):
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=300, record_every=7)
    whole = xj.train_ensemble(trainer, range(5), RATE, chunk_size=8)
    alone = [jax.jit(trainer.run)(jax.random.key(seed), RATE) for seed in range(5)]
    np.testing.assert_array_equal(whole.history.epoch, alone[0].history.epoch)
    np.testing.assert_allclose(whole.history.loss, [a.history.loss for a in alone], rtol=1e-5)
    for epochs, seconds in ((1, 0.0), (3, 1e-3), (7, 0.2), (11, 1e-2), (300, 10.0)):
        monkeypatch.setattr(rounds, "FIRST_ROUND", epochs)
        monkeypatch.setattr(rounds, "ROUND_SECONDS", seconds)
        assert_results_equal(xj.train_ensemble(trainer, range(5), RATE, chunk_size=8), whole)


@pytest.mark.slow
def test_more_records_than_fit_one_round_are_all_kept():
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=1000, record_every=3)
    results = xj.train_ensemble(trainer, range(2), RATE, chunk_size=2)
    alone = jax.jit(trainer.run)(jax.random.key(1), RATE)
    assert results.history.loss.shape == (2, 334)
    np.testing.assert_array_equal(results.history.epoch, np.arange(0, 1000, 3))
    np.testing.assert_allclose(results.history.loss[1], alone.history.loss, rtol=1e-4)
    np.testing.assert_array_equal(results.history.accuracy[1], alone.history.accuracy)


def test_hyper_parameters_are_shared_or_one_for_each_member():
    trainer = xj.trainer(
        lambda h: xj.mlp((2, 2, 1), kernel_init=xj.models.uniform(h["scale"])),
        XOR,
        lambda h: optax.sgd(h["optimizer"]["learning_rate"], h["optimizer"]["momentum"]),
        epochs=60,
    )
    rates, scales = [0.1, 1.0, 3.0], np.array([0.5, 1.0, 2.0])
    hparams = {"optimizer": {"learning_rate": np.array(rates), "momentum": 0.5}, "scale": scales}
    results = xj.train_ensemble(trainer, [4, 4, 9], hparams, chunk_size=4)
    for i, seed in enumerate([4, 4, 9]):
        own = {"optimizer": {"learning_rate": rates[i], "momentum": 0.5}, "scale": float(scales[i])}
        alone = jax.jit(trainer.run)(jax.random.key(seed), own)
        assert_results_close(member(results, i), alone, rtol=1e-4)
    assert results.loss[0] != results.loss[1]


@pytest.mark.slow
@pytest.mark.lenient
def test_an_optimizer_of_products_of_its_own_products():
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.contrib.muon(h["learning_rate"]), epochs=100)
    in_lanes, plain = (xj.train_ensemble(trainer, range(8), RATE, engine=engine) for engine in ("lanes", "vmap"))
    np.testing.assert_allclose(in_lanes.loss, plain.loss, rtol=1e-3)


def test_other_random_generators_are_refused():
    with jax.default_prng_impl("rbg"), pytest.raises(ValueError, match="jax_default_prng_impl='rbg' must be"):
        xj.train_ensemble(TRAINER, range(8), RATE)


# 64 is as long as a block, so that its axes could be confused.
@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 64])
@pytest.mark.parametrize("engine", ["lanes", "vmap"])
def test_a_hyper_parameter_may_be_a_vector(engine, length):
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["rates"][0] + h["rates"][1]), epochs=20, record_every=5)
    rates = np.random.default_rng(0).uniform(0, 1, (70, length)).astype(np.float32)
    results = xj.train_ensemble(trainer, range(70), {"rates": rates}, engine=engine)
    for i in (0, 69):
        alone = jax.jit(trainer.run)(jax.random.key(i), {"rates": jnp.asarray(rates[i])})
        assert_results_close(member(results._replace(history=None), i), alone._replace(history=None))
        np.testing.assert_allclose(results.history.loss[i], alone.history.loss, rtol=1e-5)


def test_a_shared_hyper_parameter_is_the_same_as_one_repeated():
    shared = xj.train_ensemble(TRAINER, range(5), RATE, chunk_size=8)
    for repeated in (np.full(5, 2.0), [2.0] * 5):
        assert_results_equal(
            xj.train_ensemble(TRAINER, range(5), {"learning_rate": repeated}, chunk_size=8), shared
        )


def test_the_number_of_members_and_the_values_of_hparams_compile_nothing(compilations):
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=40, record_every=9)
    xj.train_ensemble(trainer, range(20), RATE, chunk_size=8)
    assert compilations
    for seeds, rate in ((range(20), 2.0), ([3], 0.5), (np.arange(100, 133), np.linspace(0.1, 1, 33))):
        compilations.clear()
        xj.train_ensemble(trainer, seeds, {"learning_rate": rate}, chunk_size=8)
        assert compilations == []


@pytest.mark.slow
def test_a_member_that_diverges_changes_no_other():
    model = xj.mlp((2, 4, 1), hidden="relu", output="linear")
    trainer = xj.trainer(model, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=60)
    rates = np.full(8, 0.1)
    healthy = xj.train_ensemble(trainer, range(8), {"learning_rate": rates}, chunk_size=8)
    rates[3] = 1e6
    mixed = xj.train_ensemble(trainer, range(8), {"learning_rate": rates}, chunk_size=8)
    assert mixed.outcome[3] == xj.Outcome.DIVERGED
    others = np.delete(np.arange(8), 3)
    assert (healthy.outcome != xj.Outcome.DIVERGED).all()
    assert_results_equal(member(mixed, others), member(healthy, others))


@pytest.mark.slow
def test_stop_and_mini_batches_follow_each_member():
    trainer = xj.trainer(
        xj.mlp((2, 4, 1)),
        XOR,
        lambda h: optax.sgd(h["learning_rate"], 0.9),
        epochs=1500,
        batch_size=3,
        stop="solved",
    )
    results = xj.train_ensemble(trainer, range(6), RATE, chunk_size=8)
    solved = results.outcome == xj.Outcome.SOLVED
    assert len(set(results.epochs[solved])) > 1
    np.testing.assert_array_equal(results.epochs[solved], results.solved_epoch[solved])
    assert (results.epochs[~solved] == 1500).all()
    for i in np.flatnonzero(solved):
        alone = jax.jit(trainer.run)(jax.random.key(int(i)), RATE)
        assert abs(int(alone.epochs) - int(results.epochs[i])) <= 2


def test_progress_grows_from_nothing_to_all():
    calls = []
    trainer = xj.trainer(MODEL, XOR, optax.sgd(0.1), epochs=30_000)
    xj.train_ensemble(
        trainer,
        range(300),
        engine="vmap",
        chunk_size=64,
        progress=lambda *call: calls.append((*call, threading.current_thread())),
    )
    done, total, threads = zip(*calls, strict=True)
    assert set(total) == {300}
    assert list(done) == sorted(done)
    assert done[-1] == 300
    assert len(set(done)) > 3
    assert all(isinstance(d, int) for d in done)
    assert set(threads) == {threading.current_thread()}


@pytest.mark.slow
def test_progress_is_called_between_quick_blocks_too():
    calls = []
    trainer = xj.trainer(MODEL, XOR, optax.sgd(0.1), epochs=1)
    begun = time.perf_counter()
    xj.train_ensemble(trainer, range(200_000), chunk_size=64, progress=lambda *call: calls.append(call))
    assert len(calls) > (time.perf_counter() - begun) / 0.1 / 4
    assert len(calls) > 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_stops_the_work_within_a_round(error):
    trainer = xj.trainer(MODEL, XOR, optax.sgd(0.1), epochs=10**9)

    def interrupt(done, total):
        raise error("enough")

    begun = time.perf_counter()
    with pytest.raises(error, match="enough"):
        xj.train_ensemble(trainer, range(64), chunk_size=16, progress=interrupt)
    assert time.perf_counter() - begun < 60  # where the epochs alone would take hours
    assert not [t for t in threading.enumerate() if t.name.startswith("xorjax")]


def test_blocks_come_in_order_and_closing_stops_the_rest():
    blocks = xj.ensembles.iter_results(TRAINER, range(10**9), RATE, chunk_size=1)
    where, first = next(blocks)
    size = where.stop
    assert where == slice(0, size)
    assert next(blocks)[0] == slice(size, 2 * size)
    blocks.close()
    assert_results_equal(first, xj.train_ensemble(TRAINER, range(size), RATE))
    assert not [t for t in threading.enumerate() if t.name.startswith("xorjax")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lanes", "vmap"])
@pytest.mark.parametrize("options", [{}, {"record_every": 7}, {"batch_size": 3, "stop": "solved"}])
def test_a_replay_is_the_member_bit_for_bit_and_shows_its_way(engine, options):
    settings = {"epochs": 90, "solved": lambda y_hat, y, loss: loss < 0.24, **options}
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"], 0.9), **settings)
    members = xj.grid(seeds=range(20), learning_rate=[0.5, 2.0])
    results = xj.train_ensemble(trainer, members, engine=engine)
    for i in (0, 17, 39):
        (seed,), rate = members[i : i + 1]
        rate = {"learning_rate": rate["learning_rate"][0]}
        way = xj.replay(trainer, int(seed), rate, epochs=[0, 1, 30, 90], engine=engine)
        assert_results_equal(member(way, -1), member(results._replace(history=None), i))
        assert way.epochs.tolist() == [min(epoch, results.epochs[i]) for epoch in (0, 1, 30, 90)]
        start = trainer.init(jax.random.key(int(seed)), rate)
        assert_results_close(member(way, 0).params, start.params)
        if not options:
            short = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"], 0.9), epochs=30)
            assert_results_equal(
                member(way, 2).params, member(xj.train_ensemble(short, [seed], rate, engine=engine), 0).params
            )


@pytest.mark.slow
def test_training_ends_when_the_time_is_over():
    settings = {"epochs": 2**30, "stop": "solved", "record_every": 2**20}
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"], 0.9), **settings)
    begun = time.perf_counter()
    results = xj.train_ensemble(trainer, range(3000), RATE, chunk_size=1024, seconds=1.5)
    assert time.perf_counter() - begun < 15
    unfinished = results.outcome == xj.Outcome.UNFINISHED
    assert 0 < unfinished.sum() < 3000
    solved = results.outcome == xj.Outcome.SOLVED
    assert (unfinished | solved).all()
    np.testing.assert_array_equal(results.epochs[solved], results.solved_epoch[solved])
    one = np.flatnonzero(unfinished & (results.epochs > 0))[0]
    epochs = int(results.epochs[one])
    again = xj.replay(trainer, int(one), RATE, epochs=[epochs])
    assert_results_equal(member(again.params, 0), member(results.params, one))


@pytest.mark.slow
def test_settings_of_the_calling_thread_hold_for_the_work():
    with jax.enable_x64(True):
        trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=60)
        results = xj.train_ensemble(trainer, range(3), RATE, chunk_size=4)
        alone = jax.jit(trainer.run)(jax.random.key(2), RATE)
    assert results.loss.dtype == results.params[0].kernel.dtype == np.float64
    np.testing.assert_allclose(results.loss[2], alone.loss, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lanes", "vmap"])
def test_a_setting_holds_for_a_trainer_that_ran_with_another(engine):
    single = xj.train_ensemble(TRAINER, range(3), RATE, engine=engine)
    with jax.enable_x64(True):
        double = xj.train_ensemble(TRAINER, range(3), RATE, engine=engine)
    assert single.loss.dtype == np.float32
    assert double.loss.dtype == double.params[0].kernel.dtype == np.float64
    assert_results_equal(single, xj.train_ensemble(TRAINER, range(3), RATE, engine=engine))


@pytest.mark.slow
def test_members_of_a_low_precision_model():
    trainer = xj.trainer(
        xj.mlp((2, 2, 1), dtype=jnp.bfloat16), XOR, optax.sgd(1.0, 0.5), epochs=20, batch_size=3, record_every=2
    )
    results = xj.train_ensemble(trainer, range(3), chunk_size=4)
    assert results.predictions.dtype == results.history.loss.dtype == jnp.bfloat16
    alone = jax.jit(trainer.run)(jax.random.key(1))
    np.testing.assert_allclose(np.float64(results.loss[1]), np.float64(alone.loss), rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learning_rate", "right", "quantiles"),
    [(0.01, 0.573, [0.0075, 0.0142, 0.0612, 0.148]), (0.02, 0.755, [0.00214, 0.0026, 0.00356, 0.0619])],
)
def test_the_tutorials_distribution_comes_out_again(learning_rate, right, quantiles):
    """The design's figures are of 16,384 other seeds; these 2,048 agree within three standard errors."""
    trainer = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=100_000)
    results = xj.train_ensemble(trainer, range(2048), {"learning_rate": learning_rate})
    assert abs((results.accuracy == 1).mean() - right) < 3 * np.sqrt(right * (1 - right) / 2048)
    for share, loss in zip((0.05, 0.25, 0.5, 0.75), quantiles, strict=True):
        below = (results.loss < loss).mean()
        assert abs(below - share) < 3 * np.sqrt(share * (1 - share) / 2048)
    assert (results.outcome != xj.Outcome.DIVERGED).all()


MEMORY = """
import resource, sys
import optax
import xorjax as xj
trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1), epochs=2)
for members in (1_000, int(sys.argv[1])):
    for _ in xj.ensembles.iter_results(trainer, range(members), chunk_size=1000):
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_depends_on_the_block_and_not_on_the_number_of_members():
    def peak_megabytes(members):
        command = [sys.executable, "-c", MEMORY, str(members)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024

    assert peak_megabytes(1_000_000) < peak_megabytes(10_000) + 20  # the results alone would be 76 MB


def test_a_result_is_a_table_in_a_notebook():
    recorded = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=20, record_every=10)
    results = xj.train_ensemble(recorded, range(10), {"learning_rate": [0.1] * 9 + [np.inf]})
    page = results._repr_html_() or ""
    assert "<th>networks</th><td>10</td>" in page
    assert "<th>unsolved</th><td>9 (90.0 %)</td>" in page
    assert "<th>diverged</th><td>1 (10.0 %)</td>" in page
    assert f"greatest {np.nanmax(results.loss):.3g}</td>" in page
    assert "<th>records</th><td>of 2 epochs</td>" in page
    one = jax.jit(TRAINER.run)(jax.random.key(0), {"learning_rate": 0.1})
    assert "<th>networks</th><td>1</td>" in (one._repr_html_() or "")
    shapes = jax.eval_shape(TRAINER.run, jax.random.key(0), {"learning_rate": 0.1})
    assert shapes._repr_html_() is None
    traced = jax.jit(lambda key: TRAINER.run(key, {"learning_rate": 0.1})._repr_html_() is None)
    assert traced(jax.random.key(0))
