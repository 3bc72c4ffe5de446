# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

"""What a network is trained on besides the tutorial's: classes, samples of its own, rows held out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xorjax as xj

pytestmark = pytest.mark.usefixtures("quick_compiler")

XOR = xj.xor()
ROWS = np.random.default_rng(5).normal(size=(12, 3)).astype(np.float32)
REGRESSION = xj.Batch(ROWS, np.tanh(ROWS[:, :1] - ROWS[:, 1:2] * ROWS[:, 2:]))
CLASSES = xj.Batch(ROWS, np.eye(3, dtype=np.float32)[np.argmax(ROWS, axis=1)])
KEY = jax.random.key(3)


def regressors(**options):
    model = xj.mlp((3, 4, 1), hidden="tanh", output="linear")
    return xj.trainer(model, REGRESSION, optax.sgd(0.1), epochs=40, **options)


def assert_trees_close(got, wanted, **tolerance):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


@pytest.mark.slow
@pytest.mark.lenient
def test_logits_are_right_where_the_odds_are():
    model = xj.mlp((2, 8, 1), hidden="tanh", output="linear")
    trainer = xj.trainer(model, XOR, optax.adam(0.1), epochs=300, loss=xj.losses.sigmoid_cross_entropy)
    results = xj.train_ensemble(trainer, range(20))
    right = ((results.predictions > 0) == (XOR.y == 1)).mean(axis=(1, 2))
    np.testing.assert_array_equal(results.accuracy, right)
    odds = np.exp(np.where(XOR.y == 1, 1, -1) * results.predictions.astype(np.float64))
    np.testing.assert_allclose(results.loss, np.log1p(1 / odds).mean(axis=(1, 2)), rtol=1e-4)
    assert (results.outcome == xj.Outcome.SOLVED).mean() > 0.8
    still = xj.trainer(model, XOR, optax.sgd(0.0), epochs=1, loss=xj.losses.sigmoid_cross_entropy, batch_size=2)
    params = jax.tree.map(lambda leaf: leaf[0], results.params)
    scaled = (
        params[0],
        jax.tree.map(lambda leaf: leaf * 0.01, params[1]),
    )  # right by the odds, all of them near 0
    _, info = still.step(still.init(KEY)._replace(params=scaled))
    assert (info.accuracy, results.accuracy[0]) == (1, 1)
    strict = xj.trainer(model, XOR, optax.adam(0.1), epochs=1, loss=xj.losses.sigmoid_cross_entropy, threshold=1e3)
    assert jax.jit(strict.finish)(strict.init(KEY)._replace(params=params)).accuracy == 0.5


@pytest.mark.slow
@pytest.mark.lenient
def test_several_classes():
    model = xj.mlp((3, 6, 3), hidden="tanh", output="linear")
    trainer = xj.trainer(
        model, CLASSES, optax.adam(0.05), epochs=200, loss=xj.losses.softmax_cross_entropy, batch_size=5
    )
    results = xj.train_ensemble(trainer, range(10))
    alone = jax.jit(trainer.run)(jax.random.key(4))
    assert_trees_close(alone.loss, results.loss[4], rtol=0.02)
    assert results.predictions.shape == (10, 12, 3)
    np.testing.assert_array_equal(
        results.accuracy, (results.predictions.argmax(-1) == CLASSES.y.argmax(-1)).mean(axis=1, dtype=np.float32)
    )
    assert (results.accuracy == 1).all()
    shares = jax.nn.softmax(results.predictions)
    np.testing.assert_allclose(results.loss, -(CLASSES.y * np.log(shares)).sum(-1).mean(-1), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_a_sample_is_of_as_many_rows_and_each_member_has_its_own():
    weights = jax.vmap(lambda seed: regressors(resample=True).init(jax.random.key(seed)).weights)(np.arange(2000))
    assert weights.shape == (2000, 12)
    np.testing.assert_array_equal(weights.sum(axis=1), 12)
    counts = np.asarray(weights)
    assert (counts == np.rint(counts)).all()
    assert len(np.unique(counts, axis=0)) > 1990
    # never drawn: (1 - 1/12)^12 = 0.352 of rows; the standard error of this mean is about 0.002
    assert abs((counts == 0).mean() - (11 / 12) ** 12) < 0.01
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    assert regressors().init(KEY).weights is None


def test_a_member_trains_on_its_sample():
    """As one does that is given the rows that were drawn, each as often as it was."""
    results = xj.train_ensemble(regressors(resample=True), [3])
    weights = jax.jit(lambda key: regressors(resample=True).init(key).weights)(KEY)
    drawn = np.repeat(np.arange(12), np.asarray(weights, int))
    sample = xj.Batch(*(rows[drawn] for rows in REGRESSION))
    model = xj.mlp((3, 4, 1), hidden="tanh", output="linear")
    wanted = jax.jit(xj.trainer(model, sample, optax.sgd(0.1), epochs=40).run)(KEY)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[0], results.params), wanted.params, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(results.loss[0], wanted.loss, rtol=1e-3)
    predictions = jax.jit(model.apply)(wanted.params, REGRESSION.x)
    np.testing.assert_allclose(results.predictions[0], predictions, atol=1e-4)


@pytest.mark.slow
def test_a_trainer_that_resamples_is_made_from_traced_data():
    model = xj.mlp((3, 4, 1), hidden="tanh", output="linear")

    def loss(x, y):
        return xj.trainer(model, xj.Batch(x, y), optax.sgd(0.1), epochs=40, resample=True).run(KEY).loss

    wanted = jax.jit(regressors(resample=True).run)(KEY).loss
    np.testing.assert_allclose(jax.jit(loss)(*REGRESSION), wanted, rtol=1e-3)


@pytest.mark.slow
def test_weights_go_with_their_rows_into_mini_batches():
    trainer = regressors(resample=True, batch_size=5, shuffle=False)
    model = xj.mlp((3, 4, 1), hidden="tanh", output="linear")
    state = trainer.init(KEY)
    params, weights = state.params, state.weights
    losses = []
    for start in (0, 5, 10):
        rows = slice(start, start + 5)

        def loss(params, rows=rows):
            error = model.apply(params, REGRESSION.x[rows]) - REGRESSION.y[rows]
            return jnp.mean(weights[rows, None] * error**2)

        value, slope = jax.value_and_grad(loss)(params)
        params = jax.tree.map(lambda p, s: p - 0.1 * s, params, slope)
        losses.append(value)
    new, info = trainer.step(state)
    assert_trees_close(new.params, params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(info.loss, (5 * losses[0] + 5 * losses[1] + 2 * losses[2]) / 12, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"batch_size": 5}, {"stop": xj.training.plateau(5, 1e-4), "record_every": 9}])
def test_engines_resample_alike(options):
    lanes, vmap = (
        xj.train_ensemble(regressors(resample=True, validation=REGRESSION, **options), range(6), engine=engine)
        for engine in ("lanes", "vmap")
    )
    np.testing.assert_allclose(lanes.loss, vmap.loss, rtol=1e-3)
    np.testing.assert_allclose(lanes.predictions, vmap.predictions, rtol=1e-3, atol=1e-4)
    assert len(np.unique(lanes.loss)) == 6


TRAIN, HELD_OUT = (xj.Batch(*(rows[part] for rows in REGRESSION)) for part in (slice(8), slice(8, 12)))


def trained(held_out):
    model = xj.mlp((3, 4, 1), hidden="tanh", output="linear")
    trainer = xj.trainer(model, TRAIN, optax.sgd(0.1), epochs=40, validation=held_out)
    return model, xj.train_ensemble(trainer, range(70))


def test_rows_held_out_are_judged():
    targets = xj.Batch(HELD_OUT.x, np.float32([[0], [1], [1], [0]]))
    model, judged = trained(targets)
    predictions = jax.jit(jax.vmap(lambda params: model.apply(params, targets.x)))(judged.params)
    np.testing.assert_allclose(judged.validation_predictions, predictions, rtol=1e-4, atol=1e-5)
    losses = ((judged.validation_predictions - targets.y) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(judged.validation_loss, losses, rtol=1e-5)
    right = ((judged.validation_predictions > 0.5) == targets.y).mean(axis=(1, 2), dtype=np.float32)
    np.testing.assert_array_equal(judged.validation_accuracy, right)
    assert len(set(right)) > 1


@pytest.mark.slow
def test_rows_held_out_are_not_trained_on():
    _, without = trained(None)
    assert without.validation_loss is None
    _, results = trained(HELD_OUT)
    assert_trees_close(results.params, without.params, rtol=1e-6)


def test_validation_of_data_that_differ_by_member():
    trainer = xj.trainer(
        xj.mlp((2, 2, 1)),
        lambda h: xj.Batch(XOR.x, h["targets"]),
        optax.sgd(0.5),
        epochs=10,
        validation=XOR,
    )
    tables = np.float32([[[0], [1], [1], [0]], [[0], [0], [0], [1]]])
    results = xj.train_ensemble(trainer, [0, 1], {"targets": tables})
    np.testing.assert_allclose(results.validation_loss[0], results.loss[0], rtol=1e-6)
    assert results.validation_loss[1] != results.loss[1]
    with pytest.raises(ValueError, match=r"validation\.x has 3 columns and batch\.x has 2"):
        xj.trainer(
            xj.mlp((2, 2, 1)),
            lambda h: xj.Batch(XOR.x, h["targets"]),
            optax.sgd(0.5),
            epochs=10,
            validation=xj.parity(3),
        ).init(KEY, {"targets": tables[0]})


def poisson(y_hat, y):
    return jnp.mean(y_hat - y * jnp.log(y_hat))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lanes", "vmap"])
def test_a_row_that_was_not_drawn_may_be_infinite(engine):
    """The first row's loss is; members without it are trained as if it were not there."""
    model = xj.Model(lambda key: {"slope": jnp.float32(1)}, lambda params, x: params["slope"] * x)
    data = xj.Batch(np.float32([[0], [1], [2], [3]]), np.ones((4, 1), np.float32))
    trainer = xj.trainer(model, data, optax.sgd(0.01), epochs=3, loss=poisson, resample=True)
    results = xj.train_ensemble(trainer, range(40), engine=engine)
    drawn = np.asarray(jax.vmap(lambda seed: trainer.init(jax.random.key(seed)).weights)(np.arange(40)))
    np.testing.assert_array_equal(np.isfinite(results.loss), drawn[:, 0] == 0)
    assert 5 < (drawn[:, 0] == 0).sum() < 35


@pytest.mark.slow
def test_the_norm_of_the_gradient_is_of_the_sample():
    trainer = regressors(resample=True, record_at=[0], record=["gradient_norm"])
    recorded = xj.train_ensemble(trainer, [3]).history.gradient_norm[0, 0]
    state, model = trainer.init(KEY), xj.mlp((3, 4, 1), hidden="tanh", output="linear")

    def loss(params):
        return jnp.mean(state.weights[:, None] * (model.apply(params, REGRESSION.x) - REGRESSION.y) ** 2)

    slopes = jax.tree.leaves(jax.grad(loss)(state.params))
    np.testing.assert_allclose(recorded, np.sqrt(sum(np.sum(np.square(s)) for s in slopes)), rtol=1e-4)


@pytest.mark.slow
def test_the_sample_does_not_depend_on_the_precision():
    wanted = regressors(resample=True).init(KEY).weights
    with jax.enable_x64(True):
        np.testing.assert_array_equal(regressors(resample=True).init(KEY).weights, wanted)
