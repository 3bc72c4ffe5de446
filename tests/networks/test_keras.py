"""Invariant 3: from Keras's weights, the plain `trainer.run` follows Keras's `fit` step for step."""

import json
import platform
from functools import cache
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import xorjax as xj

DATA = Path(__file__).parents[1] / "data"
RECORDS = sorted(path.stem for path in DATA.glob("s*.json"))
BITWISE = {"s1_lr002", "s2_lr05", "s7_lr001"}  # plain SGD on Keras's JAX backend


def quick_or_slow(name):
    return name if name == "s1_lr002" else pytest.param(name, marks=pytest.mark.slow)


def keras_adam(learning_rate, b1=0.9, b2=0.999, epsilon=1e-7):
    """Adam as Keras writes it: ε joins the uncorrected second moment; in optax it joins the corrected one."""

    def init(params):
        zeros = jax.tree.map(np.zeros_like, params)
        return zeros, zeros, np.float32(0)

    def update(updates, state, params=None):
        m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: m + (g - m) * (1 - b1), m, updates)
        v = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - b2), v, updates)
        alpha = learning_rate * (1 - b2**t) ** 0.5 / (1 - b1**t)
        return jax.tree.map(lambda m, v: -alpha * m / (v**0.5 + epsilon), m, v), (m, v, t)

    return optax.GradientTransformation(init, update)


def record(name):
    keras = json.loads((DATA / f"{name}.json").read_text())
    weights = [np.array(w, np.float32) for w in keras["initial_weights"]]
    if "optimizer" in keras:
        config = keras["optimizer"]["config"]
        make = {"SGD": optax.sgd, "Adam": keras_adam}
        optimizer = make[keras["optimizer"]["class_name"]](config["learning_rate"])
    else:
        optimizer = optax.sgd(keras["learning_rate"], keras["momentum"] or None)
    return keras, xj.keras.params_from_keras(weights), optimizer


@cache
def train_from(name):
    """The record, and the result of training from its initial weights."""
    keras, initial, optimizer = record(name)
    model = xj.mlp((2, 2, 1), hidden=keras["hidden_activation"])._replace(init=lambda key: initial)
    trainer = xj.trainer(
        model,
        xj.xor(),
        optimizer,
        epochs=keras["epochs"],
        batch_size=keras.get("batch_size", 4),
        shuffle=False,
        record_every=keras["history"]["epoch"][1],
    )
    return keras, jax.jit(trainer.run)(jax.random.key(0))


def test_there_are_records_of_all_kinds():
    assert RECORDS == [
        "s1_lr002",
        "s2_lr05",
        "s3_mom",
        "s4_tf",
        "s5_batch3",
        "s6_batch1",
        "s7_lr001",
        "s8_adam",
    ]


@pytest.mark.parametrize("name", [quick_or_slow(name) for name in RECORDS])
def test_training_follows_keras(name):
    keras, result = train_from(name)
    np.testing.assert_array_equal(result.history.epoch, keras["history"]["epoch"])
    np.testing.assert_allclose(result.history.loss, keras["history"]["loss"], rtol=1e-5)
    np.testing.assert_allclose(result.history.accuracy, keras["history"]["accuracy"], rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(result.params), keras["final_weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    np.testing.assert_allclose(result.predictions, keras["predict"], rtol=0, atol=1e-5)
    np.testing.assert_allclose([result.loss, result.accuracy], keras["final_evaluate"], rtol=1e-5)
    assert "Total params: 9 (36.00 B)" in xj.summary(result.params)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or jax.default_backend() != "cpu", reason="Keras ran on an x86-64 CPU"
)
@pytest.mark.parametrize("name", [quick_or_slow(name) for name in sorted(BITWISE)])
def test_plain_sgd_follows_keras_bit_for_bit(name):
    keras, result = train_from(name)
    np.testing.assert_array_equal(result.history.loss, np.array(keras["history"]["loss"], np.float32))
    for ours, theirs in zip(jax.tree.leaves(result.params), keras["final_weights"], strict=True):
        np.testing.assert_array_equal(ours, np.array(theirs, np.float32))


@pytest.mark.parametrize("name", ["deep.keras", "deep.weights.h5"])
def test_saved_models_give_the_weights_in_the_order_of_the_layers(name):
    weights = [np.array(w, np.float32) for w in json.loads((DATA / "deep.json").read_text())]
    params = xj.keras.params_from_keras(DATA / name)
    assert len(params) == 13
    for ours, theirs in zip(xj.keras.params_to_keras(params), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert isinstance(ours, np.ndarray)


def test_weights_go_to_keras_and_back():
    params = xj.mlp((3, 4, 2), bias_init=xj.models.normal(1.0)).init(jax.random.key(0))
    weights = xj.keras.params_to_keras(params)
    assert [w.shape for w in weights] == [(3, 4), (4,), (4, 2), (2,)]
    jax.tree.map(np.testing.assert_array_equal, xj.keras.params_from_keras(weights), params)
