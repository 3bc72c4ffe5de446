"""Models of Flax and Equinox, of every kind of layer that they have rules of their own for."""

from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class Case(NamedTuple):
    init: Any  # key -> params
    apply: Any  # params, x, key -> logits
    shape: tuple[int, ...]  # of x


class FlaxMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.LayerNorm()(nn.Dense(3)(x)))
        return nn.Dense(3)(x)


class FlaxDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=False)(nn.relu(nn.Dense(3)(x)))
        return nn.Dense(3)(x)


class FlaxConvolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.avg_pool(nn.relu(nn.Conv(2, (2, 2))(x)), (2, 2), (2, 2))
        return nn.Dense(3)(x.reshape(len(x), -1))


class FlaxGRU(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(jnp.asarray(nn.RNN(nn.GRUCell(2))(x))[:, -1])


def of_flax(module, shape):
    return Case(
        lambda key: module.init({"params": key, "dropout": key}, jnp.zeros(shape)),
        lambda params, x, key: module.apply(params, x, rngs={"dropout": key}),
        shape,
    )


class EquinoxMLP(eqx.Module):
    layers: list[Any]

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.layers = [eqx.nn.Linear(2, 4, key=a), eqx.nn.LayerNorm(4), jax.nn.gelu, eqx.nn.Linear(4, 3, key=b)]

    def __call__(self, x, key):
        for layer in self.layers:
            x = layer(x)
        return x


class EquinoxDropout(eqx.Module):
    mlp: eqx.nn.MLP
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        self.mlp, self.dropout = eqx.nn.MLP(4, 3, 4, 1, key=key), eqx.nn.Dropout(0.5)

    def __call__(self, x, key):
        return self.mlp(self.dropout(x, key=key))


class EquinoxConvolution(eqx.Module):
    convolution: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    last: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.convolution, self.pool = eqx.nn.Conv2d(1, 2, 2, key=a), eqx.nn.MaxPool2d(2, 2)
        self.last = eqx.nn.Linear(2, 3, key=b)

    def __call__(self, x, key):
        return self.last(jnp.ravel(self.pool(self.convolution(x))))


class EquinoxGRU(eqx.Module):
    cell: eqx.nn.GRUCell
    last: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.cell, self.last = eqx.nn.GRUCell(2, 2, key=a), eqx.nn.Linear(2, 3, key=b)

    def __call__(self, x, key):
        return self.last(lax.scan(lambda h, row: (self.cell(row, h), None), jnp.zeros(2), x)[0])


def of_equinox(module, shape):
    static = eqx.filter(module(jax.random.key(0)), eqx.is_array, inverse=True)

    def apply(params, x, key):
        return jax.vmap(eqx.combine(params, static))(x, jax.random.split(key, len(x)))

    return Case(lambda key: eqx.filter(module(key), eqx.is_array), apply, shape)


CASES = {
    "flax MLP": of_flax(FlaxMLP(), (2, 2)),
    "flax dropout": of_flax(FlaxDropout(), (2, 2)),
    "flax convolution": of_flax(FlaxConvolution(), (2, 3, 3, 1)),
    "flax GRU": of_flax(FlaxGRU(), (2, 2, 2)),
    "equinox MLP": of_equinox(EquinoxMLP, (2, 2)),
    "equinox dropout": of_equinox(EquinoxDropout, (2, 4)),
    "equinox convolution": of_equinox(EquinoxConvolution, (2, 1, 3, 3)),
    "equinox GRU": of_equinox(EquinoxGRU, (2, 2, 2)),
}
