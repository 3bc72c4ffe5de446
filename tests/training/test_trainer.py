"""One network trained alone: by reference, step by step, and under JAX's transformations."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import xorjax as xj

pytestmark = pytest.mark.usefixtures("quick_compiler")

MODEL, XOR = xj.mlp((2, 2, 1)), xj.xor()
KEY = jax.random.key(3)


def sgd(h):
    return optax.sgd(h["learning_rate"])


def assert_trees_close(got, wanted, **tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), **tolerance)


def assert_trees_equal(got, wanted):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def check_gradient_descent(layer_sizes, outputs, seed, epochs):
    batch = xj.truth_table(outputs)
    model = xj.mlp((batch.x.shape[1], *layer_sizes, 1), hidden="tanh")
    trainer = xj.trainer(model, batch, optax.sgd(0.7), epochs=epochs)
    result = jax.jit(trainer.run)(jax.random.key(seed))
    expected = reference.train(model.init(jax.random.key(seed)), *batch, 0.7, epochs, hidden="tanh")
    assert_trees_close(result.params, expected, rtol=1e-3, atol=1e-4)
    _, activations = reference.forward(expected, batch.x, "tanh", "sigmoid")
    np.testing.assert_allclose(result.predictions, activations[-1], rtol=1e-3, atol=1e-4)


def test_training_is_gradient_descent_by_hand():
    check_gradient_descent([3, 2], "0110", seed=5, epochs=40)


@pytest.mark.slow
@given(
    layer_sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    outputs=st.sampled_from([2, 4, 8]).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n)),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(1, 40),
)
@settings(max_examples=6)
def test_training_of_any_network_is_gradient_descent_by_hand(layer_sizes, outputs, seed, epochs):
    check_gradient_descent(layer_sizes, outputs, seed, epochs)


@pytest.mark.parametrize(
    ("batch_size", "shuffle"),
    [(3, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, True), (2, False), (7, False)])],
)
def test_mini_batches_are_gradient_descent_by_hand(batch_size, shuffle):
    batch = xj.parity(3)
    model = xj.mlp((3, 3, 1))
    trainer = xj.trainer(
        model, batch, optax.sgd(0.5), epochs=12, batch_size=batch_size, shuffle=shuffle, record_every=1
    )
    result = jax.jit(trainer.run)(KEY)
    key_shuffle = trainer.init(KEY).key_shuffle
    assert (key_shuffle is not None) == shuffle

    def batches(epoch):
        rows = np.arange(8)
        if key_shuffle is not None:
            rows = np.asarray(jax.random.permutation(jax.random.fold_in(key_shuffle, epoch), 8))
        return [rows[i : i + batch_size] for i in range(0, 8, batch_size)]

    initial = model.init(KEY)
    expected = reference.train(initial, *batch, 0.5, 12, batches)
    assert_trees_close(result.params, expected, rtol=1e-4, atol=1e-5)

    losses, layers = [], initial  # of the last epoch, each batch from before its own update
    before = reference.train(initial, *batch, 0.5, 11, batches)
    layers = before
    for rows in batches(11):
        loss, _ = reference.loss_and_gradients(layers, batch.x[rows], batch.y[rows])
        losses.append(loss * len(rows) / 8)
        layers = reference.train(layers, batch.x[rows], batch.y[rows], 0.5, 1)
    np.testing.assert_allclose(result.history.loss[-1], sum(losses), rtol=1e-5)


def test_each_epoch_and_each_member_has_a_permutation_of_its_own():
    seen = []  # the rows that an epoch visits, in their order, through a loss that tells its one row apart

    def spy(y_hat, y):
        jax.debug.callback(lambda row: seen.append(int(row)), y[0, 0], ordered=True)
        return jnp.mean(y_hat - y_hat)

    batch = xj.Batch(np.zeros((6, 1), np.float32), np.arange(6, dtype=np.float32)[:, None])
    trainer = xj.trainer(
        xj.mlp((1, 1)),
        batch,
        optax.sgd(0.0),
        epochs=3,
        batch_size=1,
        loss=spy,
        solved=lambda *_: jnp.array(False),
    )
    orders = []
    for seed in (0, 1):
        state = trainer.init(jax.random.key(seed))
        for _ in range(3):
            seen.clear()
            state, _ = jax.jit(trainer.step)(state)
            jax.effects_barrier()
            visited = tuple(seen[:6])
            assert sorted(visited) == list(range(6))
            orders.append(visited)
    assert len(set(orders)) == 6


def test_the_shuffling_key_is_not_a_key_of_the_model():
    trainer = xj.trainer(MODEL, XOR, optax.sgd(0.1), epochs=1, batch_size=2)
    keys = [KEY, *jax.random.split(KEY, 64), trainer.init(KEY).key_shuffle]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys)


@cache
def metrics_by_steps(batch_size):
    trainer = xj.trainer(MODEL, XOR, optax.sgd(0.5), epochs=50, batch_size=batch_size)
    state, step, metrics = trainer.init(KEY), jax.jit(trainer.step), []
    for _ in range(50):
        state, now = step(state)
        metrics.append(now)
    return jax.tree.map(lambda *each: np.stack(each), *metrics)


@pytest.mark.parametrize(
    ("record_every", "batch_size"),
    [(7, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, 3), (20, 4), (50, 4)])],
)
def test_history_is_what_steps_report(record_every, batch_size):
    trainer = xj.trainer(MODEL, XOR, optax.sgd(0.5), epochs=50, record_every=record_every, batch_size=batch_size)
    history, metrics = jax.jit(trainer.run)(KEY).history, metrics_by_steps(batch_size)
    np.testing.assert_array_equal(history.epoch, np.arange(0, 50, record_every))
    np.testing.assert_allclose(history.loss, metrics.loss[::record_every], rtol=1e-6)
    np.testing.assert_array_equal(history.accuracy, metrics.accuracy[::record_every])


@pytest.mark.slow
def test_history_takes_memory_by_records_and_not_by_epochs():
    def memory(epochs, record_every):
        trainer = xj.trainer(MODEL, XOR, optax.sgd(0.5), epochs=epochs, record_every=record_every)
        analysis = jax.jit(trainer.run).lower(KEY).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes

    of_100_records = memory(10**6, 10**4)
    assert of_100_records == memory(10**3, 10)
    assert memory(10**6, 10**2) > of_100_records + 8 * 9000


def test_epochs_in_pieces_are_run_bit_for_bit():
    trainer = xj.trainer(MODEL, XOR, sgd, epochs=100, record_every=10)
    hparams = {"learning_rate": 0.5}
    result = jax.jit(trainer.run)(KEY, hparams)
    state, run_epochs, records = trainer.init(KEY, hparams), jax.jit(trainer.run_epochs), []
    for epochs in (30, 50, 20):
        spans = np.where(np.arange(10) < epochs // 10, 10, 0)
        state, metrics = run_epochs(state, hparams, spans)
        records += list(np.asarray(metrics.loss)[: epochs // 10])
    assert_trees_equal(jax.jit(trainer.finish)(state, hparams), result._replace(history=None))
    np.testing.assert_array_equal(records, result.history.loss)


@pytest.mark.parametrize(
    "rule",
    [xj.losses.solved_by_loss(0.05), pytest.param(xj.losses.solved_by_40_20_40(), marks=pytest.mark.slow)],
)
def test_solved_epoch_is_the_first_at_which_the_rule_holds_and_stop_freezes_there(rule):
    def result(epochs, **options):
        return jax.jit(xj.trainer(MODEL, XOR, optax.sgd(8.0), epochs=epochs, solved=rule, **options).run)(KEY)

    free = result(3000, record_every=1, record=["predictions", "params"])
    y_hats = free.history.predictions
    holds = jax.jit(jax.vmap(lambda y_hat: rule(y_hat, XOR.y, xj.mse(y_hat, XOR.y))))(y_hats)
    epoch = int(np.argmax(holds))
    assert 0 < epoch < 2999
    params = jax.tree.map(lambda leaf: leaf[epoch], free.history.params)
    assert (free.solved_epoch, free.epochs) == (epoch, 3000)
    assert result(epoch).solved_epoch == epoch  # judged after the last update too
    before = result(epoch - 1)
    assert (before.solved_epoch, before.outcome) == (-1, xj.Outcome.UNSOLVED)
    frozen = result(3000, stop="solved")
    assert (frozen.solved_epoch, frozen.epochs, frozen.outcome) == (epoch, epoch, xj.Outcome.SOLVED)
    assert_trees_close(frozen.params, params, rtol=1e-4)


def test_a_network_may_be_solved_from_the_start():
    good = jax.jit(xj.trainer(MODEL, XOR, optax.sgd(8.0), epochs=3000).run)(KEY).params
    model = MODEL._replace(init=lambda key: good)
    result = jax.jit(xj.trainer(model, XOR, optax.sgd(8.0), epochs=5, stop="solved").run)(KEY)
    assert (result.solved_epoch, result.epochs, result.outcome) == (0, 0, xj.Outcome.SOLVED)
    assert_trees_equal(result.params, good)


@pytest.mark.slow
def test_stop_freezes_with_mini_batches_and_momentum():
    def result(epochs, stop):
        optimizer = optax.sgd(1.0, 0.9)
        trainer = xj.trainer(MODEL, XOR, optimizer, epochs=epochs, batch_size=3, stop=stop)
        return jax.jit(trainer.run)(KEY)

    frozen = result(3000, "solved")
    assert 0 < frozen.epochs < 3000
    free = result(int(frozen.epochs), "never")
    assert_trees_equal(frozen.params, free.params)
    assert frozen.solved_epoch == free.solved_epoch == frozen.epochs


@pytest.mark.parametrize(
    ("model", "learning_rate", "outcome"),
    [
        (xj.mlp((2, 8, 1), hidden="relu", output="linear"), 100.0, xj.Outcome.DIVERGED),
        (xj.mlp((2, 8, 1), hidden="tanh"), 2.0, xj.Outcome.SOLVED),
    ],
)
def test_outcomes(model, learning_rate, outcome):
    result = jax.jit(xj.trainer(model, XOR, optax.sgd(learning_rate), epochs=2000).run)(KEY)
    assert result.outcome == outcome
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((result.loss, result.params)))
    assert finite == (outcome != xj.Outcome.DIVERGED)
    assert (result.solved_epoch >= 0) == (outcome == xj.Outcome.SOLVED)


def test_an_infinite_parameter_is_divergence_even_where_the_loss_is_finite():
    params = MODEL.init(KEY)
    model = MODEL._replace(init=lambda key: (params[0]._replace(bias=jnp.array([jnp.inf, 0.0])), params[1]))
    result = jax.jit(xj.trainer(model, XOR, optax.sgd(0.0), epochs=1).run)(KEY)
    assert np.isfinite(result.loss)
    assert result.outcome == xj.Outcome.DIVERGED


def test_every_number_of_the_optimizer_and_the_model_can_be_a_traced_hyper_parameter(compilations):
    def trainer(read):
        return xj.trainer(
            lambda h: xj.mlp((2, 2, 1), kernel_init=xj.models.uniform(read(h)["scale"])),
            XOR,
            lambda h: optax.sgd(read(h)["learning_rate"], read(h)["momentum"]),
            epochs=200,
        )

    hparams = {"learning_rate": 0.5, "momentum": 0.9, "scale": 1.0}
    others = {"learning_rate": 0.25, "momentum": 0.8, "scale": 2.0}
    expected = jax.jit(trainer(lambda h: others).run)(KEY)
    run = jax.jit(trainer(lambda h: h).run)
    first = run(KEY, hparams)
    compilations.clear()
    for name, value in others.items():
        assert float(run(KEY, {**hparams, name: value}).loss) != float(first.loss)
    assert_trees_close(run(KEY, others).params, expected.params, rtol=1e-4, atol=1e-5)
    assert compilations == []


@pytest.mark.slow
@pytest.mark.lenient
@pytest.mark.parametrize(
    ("optimizer", "batch_size"),
    [
        ("adam", 3),
        ("adamw", 4),
        ("lion", 4),
        ("rmsprop", 3),
        ("lbfgs", 4),
        ("polyak_sgd", 3),
        ("noisy_sgd", 3),
        ("adan", 4),
    ],
)
def test_optimizers_of_optax_train(optimizer, batch_size):
    make = getattr(optax, optimizer)
    keyed = {"key": jax.random.key(0)} if optimizer == "noisy_sgd" else {}
    trainer = xj.trainer(
        xj.mlp((2, 4, 1), hidden="tanh"), XOR, lambda h: make(h, **keyed), epochs=400, batch_size=batch_size
    )
    result = jax.jit(trainer.run)(KEY, 0.05)
    assert result.loss < 0.25
    assert result.epochs == 400


@pytest.mark.slow
def test_composes_with_vmap_and_grad():
    trainer = xj.trainer(MODEL, XOR, sgd, epochs=20, record_every=5)
    keys = jax.random.split(KEY, 3)
    rates = {"learning_rate": jnp.array([0.1, 0.5, 2.0])}
    together = jax.jit(jax.vmap(trainer.run))(keys, rates)
    assert together.loss.shape == (3,)
    run = jax.jit(trainer.run)
    for i in range(3):
        alone = run(keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], rates))
        assert_trees_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, rtol=1e-5, atol=1e-6)

    with jax.enable_x64(True):

        def final_loss(rate):
            return trainer.run(jax.random.key(3), {"learning_rate": rate}).loss

        slope, loss = jax.jit(jax.grad(final_loss))(0.5), jax.jit(final_loss)
        np.testing.assert_allclose(slope, (loss(0.5 + 1e-6) - loss(0.5 - 1e-6)) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize(("batch_size", "stop"), [(3, "solved"), pytest.param(4, "never", marks=pytest.mark.slow)])
def test_shapes_are_known_without_computing(batch_size, stop):
    trainer = xj.trainer(MODEL, XOR, sgd, epochs=20, record_every=6, batch_size=batch_size, stop=stop)
    shapes = jax.eval_shape(trainer.run, KEY, {"learning_rate": 0.1})
    result = jax.jit(trainer.run)(KEY, {"learning_rate": 0.1})
    assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda a: (a.shape, a.dtype), result)
    assert shapes.history.loss.shape == (4,)


@cache
def result_in(dtype):
    def init(key):  # the same initial weights for all, as far as the dtypes go
        return jax.tree.map(lambda p: p.astype(dtype), xj.mlp((2, 3, 1), dtype="float32").init(key))

    model = xj.mlp((2, 3, 1))._replace(init=init)
    trainer = xj.trainer(model, XOR, optax.sgd(1.0, 0.9), epochs=50, record_every=10)
    with jax.enable_x64(dtype == "float64"):
        return jax.device_get(jax.jit(trainer.run)(jax.random.key(3)))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        ("bfloat16", 0.05),
        pytest.param("float64", 1e-6, marks=pytest.mark.slow),
        pytest.param("float16", 0.01, marks=pytest.mark.slow),
    ],
)
def test_all_arithmetic_is_in_the_dtype_of_the_params(dtype, tolerance):
    got, single = result_in(dtype), result_in("float32")
    floats = (got.params, got.loss, got.predictions, got.history.loss)
    assert {leaf.dtype for leaf in jax.tree.leaves(floats)} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(np.float64(got.loss), np.float64(single.loss), rtol=tolerance)


@pytest.mark.lenient
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_hyper_parameters_of_another_dtype_leave_the_state_its_own(dtype):
    model = xj.mlp((2, 2, 1), dtype=dtype)
    with jax.enable_x64(True):
        trainer = xj.trainer(model, XOR, lambda h: optax.adam(h["rate"], h["b1"]), epochs=10)
        hparams = {"rate": np.float64(0.1), "b1": np.float64(0.9)}
        result = jax.jit(trainer.run)(jax.random.key(0), hparams)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype(dtype)}
    assert np.isfinite(np.float64(result.loss))


@pytest.mark.lenient
def test_any_pair_of_functions_is_a_model():
    model = xj.Model(
        init=lambda key: {"w": jax.random.normal(key, (2, 5)), "v": jnp.zeros((5, 1))},
        apply=lambda p, x: jax.nn.sigmoid(jnp.tanh((2 * x - 1) @ p["w"]) ** 2 @ p["v"]),
    )
    result = jax.jit(xj.trainer(model, XOR, optax.adam(0.05), epochs=1000).run)(KEY)
    assert result.outcome == xj.Outcome.SOLVED
    assert set(result.params) == {"w", "v"}


@pytest.mark.lenient
def test_several_outputs_are_classified_by_the_largest():
    x = XOR.x
    y = np.eye(2, dtype=np.float32)[XOR.y[:, 0].astype(int)]
    model = xj.mlp((2, 8, 2), hidden="tanh", output="softmax")
    result = jax.jit(xj.trainer(model, xj.Batch(x, y), optax.adam(0.05), epochs=500).run)(KEY)
    assert result.predictions.shape == (4, 2)
    assert result.accuracy == 1


@pytest.mark.lenient
@pytest.mark.parametrize(
    ("y", "output"),
    [
        (2 * XOR.y - 1, "tanh"),  # −1 and 1
        pytest.param(  # a half adder: sum and carry
            np.concatenate([XOR.y, XOR.x[:, :1] * XOR.x[:, 1:]], axis=1), "sigmoid", marks=pytest.mark.slow
        ),
        pytest.param(XOR.y * 0.3 + 0.2, "linear", marks=pytest.mark.slow),
    ],
)
def test_targets_that_are_no_classes_are_solved_by_their_loss(y, output):
    model = xj.mlp((2, 8, y.shape[1]), hidden="tanh", output=output)
    result = jax.jit(xj.trainer(model, xj.Batch(XOR.x, y), optax.adam(0.05), epochs=1000).run)(KEY)
    assert result.loss < 0.01
    assert result.outcome == xj.Outcome.SOLVED
