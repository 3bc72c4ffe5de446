"""Rules for random numbers in kernels, whose compilers have none: the default generator is written out.

In a kernel, a key is an element of two words (`KeyWords`). Its draws are JAX's own functions of these words,
traced and written out as scalars. The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", 2011).
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from xorjax.lanes.jaxprs import Aval, Equation, open_jaxpr
from xorjax.lanes.scalar.values import (
    Interpreter,
    KeyWords,
    Number,
    Results,
    Rule,
    Value,
    is_small,
    object_array,
    promote_to_objects,
)

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def is_default_key(aval: Aval) -> bool:
    """Return True for keys of the default generator."""
    return str(aval.dtype) == "key<fry>"


def wrap_words(words: np.ndarray) -> np.ndarray:
    """Return keys (…) of words (…, 2)."""
    pairs = [KeyWords(*pair) for pair in words.reshape(-1, 2)]
    return object_array(pairs, words.shape[:-1])


def _unwrap_keys(keys: Sequence[KeyWords], shape: Sequence[int]) -> np.ndarray:
    return object_array([word for key in keys for word in (key.first, key.second)], (*shape, 2))


def assemble_keys(keys: np.ndarray) -> Array:
    """Return a JAX array of keys."""
    stacked = [jnp.stack([jnp.asarray(key.first), jnp.asarray(key.second)]) for key in keys.flat]
    return jax.random.wrap_key_data(jnp.stack(stacked).reshape(*keys.shape, 2))


def _inline_function(scalars: Interpreter, function: Callable[..., Array], *values: np.ndarray) -> np.ndarray:
    """Trace a function of arrays, and write out its program for these values."""
    shapes = [jax.ShapeDtypeStruct(v.shape, v.flat[0].dtype) for v in values]  # never empty
    (out,) = scalars.evaluate(*open_jaxpr(jax.make_jaxpr(function)(*shapes)), values)
    return scalars.elements(out)


def _draw_per_key(scalars: Interpreter, function: Callable[..., Array], keys: Value, *others: Value) -> np.ndarray:
    """Return `function(words, *others)` of every key, as (keys, …)."""
    per_key = [scalars.elements(other).flat for other in others]
    draws = [
        _inline_function(
            scalars, function, _unwrap_keys([key], ()), *(object_array([other[i]], ()) for other in per_key)
        )
        for i, key in enumerate(list(scalars.elements(keys).flat))
    ]
    return np.stack(promote_to_objects(*draws))


def _generator() -> Any:
    from jax.extend.random import threefry_prng_impl

    return threefry_prng_impl


def _random_bits(scalars: Interpreter, eqn: Equation, keys: Value) -> Results:
    (out,) = eqn.outvars
    bit_width, shape = eqn.params["bit_width"], eqn.params["shape"]
    if not is_default_key(eqn.invars[0].aval) or not is_small(out):
        return NotImplemented
    bits = _draw_per_key(scalars, lambda words: _generator().random_bits(words, bit_width, shape), keys)
    return [bits.reshape(out.aval.shape)]


def _random_split(scalars: Interpreter, eqn: Equation, keys: Value) -> Results:
    (out,) = eqn.outvars
    if not is_default_key(eqn.invars[0].aval) or not is_small(out):
        return NotImplemented
    words = _draw_per_key(scalars, lambda words: _generator().split(words, eqn.params["shape"]), keys)
    return [wrap_words(words.reshape(*out.aval.shape, 2))]


def _random_fold_in(scalars: Interpreter, eqn: Equation, keys: Value, numbers: Value) -> Results:
    if not is_default_key(eqn.invars[0].aval):
        return NotImplemented
    shape = eqn.outvars[0].aval.shape
    spread = np.broadcast_to(scalars.elements(numbers), shape)
    words = _draw_per_key(scalars, lambda words, number: _generator().fold_in(words, number), keys, spread)
    return [wrap_words(words.reshape(*shape, 2))]


def _random_seed(scalars: Interpreter, eqn: Equation, seeds: Value) -> Results:
    (out,) = eqn.outvars
    if not is_default_key(out.aval):
        return NotImplemented
    words = [
        _inline_function(scalars, _generator().seed, object_array([seed], ()))
        for seed in scalars.elements(seeds).flat
    ]
    return [wrap_words(np.stack(promote_to_objects(*words)).reshape(*out.aval.shape, 2))]


def _random_wrap(scalars: Interpreter, eqn: Equation, words: Value) -> Results:
    return [wrap_words(scalars.elements(words))] if is_default_key(eqn.outvars[0].aval) else NotImplemented


def _random_unwrap(scalars: Interpreter, eqn: Equation, keys: Value) -> Results:
    if not is_default_key(eqn.invars[0].aval):
        return NotImplemented
    return [_unwrap_keys(list(scalars.elements(keys).flat), eqn.invars[0].aval.shape)]


def _iota_2x32(scalars: Interpreter, eqn: Equation) -> Results:
    shape = eqn.params["shape"]
    counts = np.arange(prod(shape), dtype=np.uint64).reshape(shape)
    return [(counts >> np.uint64(32)).astype(np.uint32), counts.astype(np.uint32)]


def _threefry2x32(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    shape = eqn.outvars[0].aval.shape
    if not is_small(eqn.outvars[0]):
        return NotImplemented
    if not prod(shape):
        return [np.zeros(shape, np.uint32)] * 2
    arrays = promote_to_objects(*np.broadcast_arrays(*map(scalars.elements, operands)))
    pairs = [_hash_block(scalars, *each) for each in zip(*(a.flat for a in arrays), strict=True)]
    return [object_array(list(words), shape) for words in zip(*pairs, strict=True)]


def _hash_block(scalars: Interpreter, key_0: Number, key_1: Number, x: Number, y: Number) -> tuple[Number, Number]:
    """Return the two words that Threefry-2x32 makes of a key and of the words `x` and `y`."""

    def add(a: Number, b: Number) -> Number:
        return scalars.emit("add", lax.add, a, b)

    def xor(a: Number, b: Number) -> Number:
        return scalars.emit("xor", lax.bitwise_xor, a, b)

    def rotate_left(a: Number, by: int) -> Number:
        left = scalars.emit("shift_left", lax.shift_left, a, np.uint32(by))
        right = scalars.emit("shift_right_logical", lax.shift_right_logical, a, np.uint32(32 - by))
        return scalars.emit("or", lax.bitwise_or, left, right)

    keys = (key_0, key_1, xor(xor(key_0, key_1), PARITY))
    x, y = add(x, key_0), add(y, key_1)
    for i in range(5):
        for by in ROTATIONS[i % 2]:
            x = add(x, y)
            y = xor(rotate_left(y, by), x)
        x, y = add(x, keys[(i + 1) % 3]), add(add(y, keys[(i + 2) % 3]), np.uint32(i + 1))
    return x, y


RANDOM_RULES: dict[str, Rule] = {
    "iota_2x32_shape": _iota_2x32,
    "random_bits": _random_bits,
    "random_fold_in": _random_fold_in,
    "random_seed": _random_seed,
    "random_split": _random_split,
    "random_unwrap": _random_unwrap,
    "random_wrap": _random_wrap,
    "threefry2x32": _threefry2x32,
}
