"""Rules for random numbers in kernels, whose compilers have none: the default generator is written out.

In a kernel, a key is an element of two words (`KeyWords`). Its draws are JAX's own functions of these words,
traced and written out as scalars. The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", 2011).
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from xorjax.lanes.jaxprs import Aval, Equation, open_jaxpr
from xorjax.lanes.scalar.objects import is_small, object_array, promote_to_objects
from xorjax.lanes.scalar.values import Interpreter, KeyWords, Number, Results, Rule, Value

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


def _generator() -> Any:
    from jax.extend.random import threefry_prng_impl

    return threefry_prng_impl


GENERATED: dict[str, Callable[..., Array]] = {  # from the words of a key, or from a seed
    "random_bits": lambda params, words: _generator().random_bits(words, params["bit_width"], params["shape"]),
    "random_fold_in": lambda params, words, number: _generator().fold_in(words, number),
    "random_seed": lambda params, seed: _generator().seed(seed),
    "random_split": lambda params, words: _generator().split(words, params["shape"]),
}


def _generate(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    """Trace JAX's own function for each key or seed, and write out its program."""
    (out,), name = eqn.outvars, eqn.primitive.name
    keys = out if name == "random_seed" else eqn.invars[0]
    if not is_default_key(keys.aval) or not is_small(out):
        return NotImplemented
    draws = []
    for each in zip(*(x.flat for x in np.broadcast_arrays(*map(scalars.elements, operands))), strict=True):
        values = [_unwrap_keys([x], ()) if isinstance(x, KeyWords) else object_array([x], ()) for x in each]
        shapes = [jax.ShapeDtypeStruct(x.shape, x.flat[0].dtype) for x in values]
        program = jax.make_jaxpr(partial(GENERATED[name], eqn.params))(*shapes)
        draws += map(scalars.elements, scalars.evaluate(*open_jaxpr(program), values))
    numbers = np.stack(promote_to_objects(*draws))
    shape = out.aval.shape
    return [numbers.reshape(shape) if name == "random_bits" else wrap_words(numbers.reshape(*shape, 2))]


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
    arrays = np.broadcast_arrays(*map(scalars.elements, operands))
    pairs = [_hash_block(scalars, *each) for each in zip(*(a.flat for a in arrays), strict=True)]
    return [object_array(list(words), shape) for words in zip(*pairs, strict=True)]


def _hash_block(scalars: Interpreter, key_0: Number, key_1: Number, x: Number, y: Number) -> tuple[Number, Number]:
    """Return the two words that Threefry-2x32 makes of a key and of the words `x` and `y`."""
    add, xor = partial(scalars.emit, "add", lax.add), partial(scalars.emit, "xor", lax.bitwise_xor)

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
    **dict.fromkeys(GENERATED, _generate),
    "iota_2x32_shape": _iota_2x32,
    "random_unwrap": _random_unwrap,
    "random_wrap": _random_wrap,
    "threefry2x32": _threefry2x32,
}
