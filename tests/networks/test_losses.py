"""Losses, accuracy and solved rules, against their definitions and against Keras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import xorjax as xj

pytestmark = pytest.mark.usefixtures("quick_compiler")


@given(
    array_shapes(min_dims=2, max_dims=2).flatmap(lambda s: arrays(np.float64, (2, *s), elements=st.floats(-9, 9)))
)
@settings(max_examples=12)
def test_mse_is_the_mean_over_outputs_and_rows(pair):
    y_hat, y = pair
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(xj.mse)(y_hat, y), np.mean((y_hat - y) ** 2), rtol=1e-12, atol=1e-12)


LOGITS = array_shapes(min_dims=2, max_dims=2, min_side=2).flatmap(
    lambda s: arrays(np.float64, (2, *s), elements=st.floats(-30, 30))
)


@given(LOGITS)
@settings(max_examples=8)
def test_cross_entropies_are_those_of_the_probabilities(pair):
    logits, other = pair
    softmax_cross_entropy = jax.jit(xj.losses.softmax_cross_entropy)
    sigmoid_cross_entropy = jax.jit(xj.losses.sigmoid_cross_entropy)
    with jax.enable_x64(True):
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        one_hot = np.eye(logits.shape[1])[other.argmax(axis=1)]
        wanted = -(one_hot * np.log(shares)).sum(axis=1).mean()
        np.testing.assert_allclose(softmax_cross_entropy(logits, one_hot), wanted, rtol=1e-9, atol=1e-12)
        odds, y = 1 / (1 + np.exp(-logits)), other > 0
        wanted = -np.mean(np.where(y, np.log(odds), np.log(1 / (1 + np.exp(logits)))))
        np.testing.assert_allclose(sigmoid_cross_entropy(logits, y), wanted, rtol=1e-9, atol=1e-12)


def test_a_threshold_of_odds():
    logits, y = jnp.array([[0.1], [-0.1], [0.0], [0.6]]), jnp.array([[1.0], [0.0], [0.0], [1.0]])
    assert xj.accuracy(logits, y, threshold=0) == 1
    assert xj.accuracy(logits, y) == 0.75
    assert xj.losses.solved_by_loss(threshold=0)(logits, y, jnp.float32(0))
    assert not xj.losses.solved_by_loss()(logits, y, jnp.float32(0))


@pytest.mark.parametrize(
    ("y_hat", "y", "right"),
    [
        ([[0.5]], [[1.0]], 0.0),  # strictly above one half
        ([[np.nextafter(np.float32(0.5), np.float32(1))]], [[1.0]], 1.0),
        ([[0.5], [0.4], [0.6], [np.nan]], [[0.0], [1.0], [1.0], [0.0]], 0.75),
        ([[0.1, 0.3, 0.2]], [[0.0, 1.0, 0.0]], 1.0),  # the largest, however small
        ([[0.9, 0.8], [0.1, 0.2]], [[0.0, 1.0], [0.0, 1.0]], 0.5),
    ],
)
def test_accuracy_is_that_of_keras(y_hat, y, right):
    assert xj.accuracy(jnp.array(y_hat, jnp.float32), jnp.array(y, jnp.float32)) == right


def test_targets_take_the_dtype_of_the_predictions():
    y_hat = jnp.array([[0.25]], jnp.bfloat16)
    assert xj.mse(y_hat, np.array([[1]])).dtype == jnp.bfloat16
    assert xj.accuracy(y_hat, np.array([[False]])) == 1


@pytest.mark.parametrize(
    ("rule", "outputs", "holds"),
    [
        (xj.losses.solved_by_loss(), [0.05, 0.95, 0.95, 0.05], True),
        (xj.losses.solved_by_loss(), [0.15, 0.85, 0.85, 0.15], False),  # right, and a loss above 0.01
        (xj.losses.solved_by_loss(0.03), [0.15, 0.85, 0.85, 0.15], True),
        (xj.losses.solved_by_loss(1.0), [0.05, 0.45, 0.95, 0.05], False),  # a small loss, and one row wrong
        (xj.losses.solved_by_loss(), [np.nan] * 4, False),
        (xj.losses.solved_by_40_20_40(), [0.39, 0.61, 0.99, 0.0], True),
        (xj.losses.solved_by_40_20_40(), [0.41, 0.61, 0.99, 0.0], False),
        (xj.losses.solved_by_40_20_40(), [0.39, 0.59, 0.99, 0.0], False),
        (xj.losses.solved_by_40_20_40(), [0.0, np.nan, 1.0, 0.0], False),
    ],
)
def test_solved_rules(rule, outputs, holds):
    y_hat, y = jnp.array(outputs, jnp.float32)[:, None], xj.xor().y
    assert rule(y_hat, y, xj.mse(y_hat, y)) == holds


def test_the_40_20_40_rule_follows_the_range_of_the_outputs():
    rule = xj.losses.solved_by_40_20_40(-1.0, 1.0)
    y = jnp.array([[-1.0], [1.0]])
    assert rule(jnp.array([[-0.21], [0.21]]), y, jnp.float32(0))
    assert not rule(jnp.array([[-0.19], [0.21]]), y, jnp.float32(0))


def test_integers_are_predictions_too():
    assert xj.mse(np.array([[0], [1]]), np.array([[0.5], [0.5]], np.float32)) == 0.25
    assert xj.mse(np.array([[False], [True]]), np.array([[0.5], [0.5]], np.float32)) == 0.25
