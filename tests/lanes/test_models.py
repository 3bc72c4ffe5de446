"""What others write trains in lanes as it does under vmap: optax's optimizers, models of Flax and Equinox."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import xorjax as xj

MEMBERS = 5
pytestmark = [pytest.mark.lenient, pytest.mark.usefixtures("quick_compiler")]
WAYS = {
    "scalar": lambda fn: xj.lane_vmap(fn, depth="scalar"),
    "array": lambda fn: xj.lane_vmap(fn, depth="array"),
}


def assert_close(got, wanted, rtol=1e-4, atol=1e-5):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert jax.typeof(a).str_short() == jax.typeof(b).str_short()
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


# Optimizers.

NOT_OPTIMIZERS = {
    "lbfgs": "its line search asks for the loss as a function",
    "scale_by_learning_rate": "a part of optimizers",
    "scale_by_rprop": "a part of optimizers",
}


def takes_a_learning_rate_alone(make):
    first, *others = inspect.signature(make).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return first.name == "learning_rate" and all(
        p.default is not inspect.Parameter.empty or p.kind in variadic for p in others
    )


def functions_of(module):
    functions = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: f for name, f in functions.items() if inspect.isfunction(f) and inspect.signature(f).parameters}


OPTIMIZERS = {
    name: make
    for name, make in functions_of(optax).items()
    if takes_a_learning_rate_alone(make) and name not in NOT_OPTIMIZERS
}


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal((MEMBERS, *leaf.shape)), leaf.dtype), tree)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Specifying a key")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_optax_takes_the_steps_it_takes_under_vmap(name):
    model, batch = xj.mlp((2, 2, 1)), xj.xor()
    optimizer = OPTIMIZERS[name](0.1)

    def step(carry, _):
        params, state = carry
        loss, slopes = jax.value_and_grad(lambda p: xj.mse(model.apply(p, batch.x), batch.y))(params)
        updates, state = optimizer.update(slopes, state, params)
        return (optax.apply_updates(params, updates), state), loss

    def train(params):
        return lax.scan(step, (params, optimizer.init(params)), length=3)

    params = random_like(model.init(jax.random.key(0)), seed=1)
    wanted = jax.jit(jax.vmap(train))(params)
    for way in WAYS.values():
        assert_close(way(train)(params), wanted)


def test_there_are_optimizers_to_test():
    assert {"adam", "adamw", "lion", "rmsprop", "sgd", "yogi"} <= set(OPTIMIZERS)


# Models: of one example's batch of rows, with a key for what is random, to three logits for each row.


CASES = [
    *("flax MLP", "flax dropout", "flax convolution", "flax GRU"),
    *("equinox MLP", "equinox dropout", "equinox convolution", "equinox GRU"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_models_and_their_gradients_are_what_they_are_under_vmap(name):
    from lanes import library_models  # Flax and Equinox take seconds to import, in every process that collects

    init, apply, shape = library_models.CASES[name]
    keys = jax.random.split(jax.random.key(5), MEMBERS)
    rng = np.random.default_rng(6)
    x = jnp.asarray(rng.standard_normal((MEMBERS, *shape)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, (MEMBERS, shape[0])))

    def loss(params, x, labels, key):
        logits = apply(params, x, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    def value_and_slopes(*args):
        return jax.value_and_grad(loss, has_aux=True)(*args)

    args = jax.vmap(init)(keys), x, labels, keys
    wanted = jax.jit(jax.vmap(value_and_slopes))(*args)
    for way in WAYS.values():
        assert_close(way(value_and_slopes)(*args), wanted)
