"""Networks as pairs of functions, against backpropagation by hand and against Keras."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import xorjax as xj
from xorjax.networks.models import ACTIVATIONS, INITIALIZERS, Dense

pytestmark = pytest.mark.usefixtures("quick_compiler")

sizes = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@given(sizes, st.integers(0, 2**32 - 1), st.sampled_from(sorted(reference.ACTIVATIONS)))
@settings(max_examples=4)
def test_apply_is_the_forward_pass_by_hand(layer_sizes, seed, hidden):
    model = xj.mlp(layer_sizes, hidden=hidden, output="tanh", bias_init=xj.models.normal(1.0))
    params = model.init(jax.random.key(seed))
    x = np.random.default_rng(seed).normal(size=(3, layer_sizes[0])).astype(np.float32)
    _, activations = reference.forward(params, x, hidden, "tanh")
    np.testing.assert_allclose(model.apply(params, x), activations[-1], rtol=1e-5, atol=1e-5)


TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 3e-2}


@pytest.mark.parametrize(
    ("layer_sizes", "dtype", "hidden", "output"),
    [
        ((2, 2, 1), "float64", "sigmoid", "sigmoid"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                *(((2, 4, 3, 2), "float64", hidden, "linear") for hidden in sorted(reference.ACTIVATIONS)),
                ((3, 1), "float64", "sigmoid", "sigmoid"),
                ((3, 1), "float32", "sigmoid", "linear"),
                ((2, 4, 3, 2), "float32", "tanh", "sigmoid"),
                ((2, 2, 1), "bfloat16", "sigmoid", "sigmoid"),
                ((2, 4, 3, 2), "bfloat16", "silu", "linear"),
            ]
        ),
    ],
)
def test_gradient_is_backpropagation_by_hand(layer_sizes, dtype, hidden, output):
    tolerance = TOLERANCES[dtype]
    with jax.enable_x64(dtype == "float64"):
        model = xj.mlp(layer_sizes, hidden, output, bias_init=xj.models.normal(0.5), dtype=dtype)
        params = model.init(jax.random.key(3))
        rng = np.random.default_rng(0)
        x = rng.integers(0, 2, (5, layer_sizes[0])).astype(np.float32)
        y = rng.integers(0, 2, (5, layer_sizes[-1])).astype(np.float32)
        value, gradients = jax.jit(jax.value_and_grad(lambda p: xj.mse(model.apply(p, x), y)))(params)
        assert {leaf.dtype for leaf in jax.tree.leaves((params, value, gradients))} == {jnp.dtype(dtype)}
        expected, expected_gradients = reference.loss_and_gradients(params, x, y, hidden, output)
        np.testing.assert_allclose(np.float64(value), expected, rtol=tolerance)
        for got, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
            np.testing.assert_allclose(np.float64(got), wanted, rtol=tolerance, atol=tolerance)


SMOOTH = sorted(set(ACTIVATIONS) - {"relu", "relu6"})  # where they are probed


@pytest.mark.parametrize(
    "hidden", [name if name == "gelu" else pytest.param(name, marks=pytest.mark.slow) for name in SMOOTH]
)
def test_gradient_is_the_finite_difference(hidden):
    with jax.enable_x64(True):
        model = xj.mlp((2, 3, 1), hidden=hidden, bias_init=xj.models.normal(0.5))
        params = model.init(jax.random.key(1))
        check_grads(jax.jit(lambda p: xj.mse(model.apply(p, xj.xor().x), xj.xor().y)), (params,), order=1)


def test_gelu_is_the_exact_one_of_keras():
    exact = 0.5 * 1.5 * (1 + jax.scipy.special.erf(1.5 / np.sqrt(2)))
    np.testing.assert_allclose(ACTIVATIONS["gelu"](jnp.float32(1.5)), exact, rtol=1e-6)


VARIANCES = {  # of a kernel (60, 40)
    "glorot_uniform": 2 / 100,
    "glorot_normal": 2 / 100,
    "he_uniform": 2 / 60,
    "he_normal": 2 / 60,
    "lecun_uniform": 1 / 60,
    "lecun_normal": 1 / 60,
    "zeros": 0.0,
    "ones": 0.0,
    "orthogonal": 1 / 60,
}


@pytest.mark.parametrize("name", sorted(INITIALIZERS))
def test_initializers_have_the_variance_of_their_name(name):
    kernels = jax.vmap(lambda key: xj.mlp((60, 40), kernel_init=name).init(key)[0].kernel)(
        jax.random.split(jax.random.key(0), 20)
    )
    np.testing.assert_allclose(np.var(kernels), VARIANCES[name], rtol=0.03)
    if name == "glorot_uniform":  # within ±sqrt(6 / (n_in + n_out)), as Keras defines it
        limit = np.sqrt(6 / 100)
        assert 0.99 * limit < np.abs(kernels).max() <= limit


def test_orthogonal_kernels_come_in_half_precision_too():
    kernel = xj.mlp((4, 4), kernel_init="orthogonal", dtype="bfloat16").init(jax.random.key(0))[0].kernel
    assert kernel.dtype == jnp.bfloat16
    columns = np.asarray(kernel, np.float64)
    np.testing.assert_allclose(columns.T @ columns, np.eye(4), atol=0.02)


def test_uniform_and_normal_take_a_traced_scale():
    @jax.jit
    def drawn(scale):
        model = xj.mlp((50, 50), kernel_init=xj.models.uniform(scale), bias_init=xj.models.normal(scale))
        return model.init(jax.random.key(0))[0]

    layer = drawn(3.0)
    assert 2.9 < np.abs(layer.kernel).max() <= 3.0
    assert np.std(layer.bias) == pytest.approx(3.0, rel=0.25)
    for leaf, unit in zip(layer, drawn(1.0), strict=True):
        np.testing.assert_allclose(leaf, 3 * unit, rtol=1e-6)


def test_kernels_and_biases_are_drawn_from_keys_of_their_own():
    layers = xj.mlp((3, 3, 3), kernel_init=xj.models.normal(1.0), bias_init=xj.models.normal(1.0)).init(
        jax.random.key(0)
    )
    drawn = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(layers)])
    assert len(np.unique(drawn)) == drawn.size


def test_summary_is_the_table_that_keras_prints():
    keras = """\
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ dense (Dense)                   │ (None, 2)              │             6 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense_1 (Dense)                 │ (None, 1)              │             3 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 9 (36.00 B)
 Trainable params: 9 (36.00 B)
 Non-trainable params: 0 (0.00 B)"""  # Keras 3.15.1, line for line
    assert xj.summary(xj.mlp((2, 2, 1)).init(jax.random.key(0))) == keras


@given(sizes)
@settings(max_examples=10)
def test_summary_counts_every_parameter(layer_sizes):
    params = [
        Dense(np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)) for shape in pairwise(layer_sizes)
    ]
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"Total params: {total:,} ({4 * total:.2f} B)" in xj.summary(params)
