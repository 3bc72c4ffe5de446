"""What `scalarize` makes of JAX's random numbers within a kernel, whose compiler knows none: they are written out.

A key is there an element like any other, which holds two words. What is drawn is what JAX's own functions of the
words say, of the default generator (Threefry-2x32 of 20 rounds: Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", 2011).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation, open_jaxpr
from xorjax.lanes.scalar.elementwise import MAX_ELEMENTS, object_array, promote_to_objects

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class KeyWords:
    """A key of the default generator. (No sequence: NumPy is not to look into it.)"""

    first: Any
    second: Any


def is_default_key(aval: Any) -> bool:
    """Whether this is of keys of the default generator."""
    return str(aval.dtype) == "key<fry>"


def wrap_words(words: np.ndarray) -> np.ndarray:
    """Words (…, 2) as keys (…)."""
    pairs = [KeyWords(*pair) for pair in words.reshape(-1, 2)]
    return object_array(pairs, words.shape[:-1])


def _unwrap_keys(keys: Sequence[KeyWords], shape: Sequence[int]) -> np.ndarray:
    return object_array([word for key in keys for word in (key.first, key.second)], (*shape, 2))


def assemble_keys(words: np.ndarray) -> Any:
    """A key array again, of an assembled array of keys."""
    stacked = [jnp.stack([jnp.asarray(key.first), jnp.asarray(key.second)]) for key in words.flat]
    return jax.random.wrap_key_data(jnp.stack(stacked).reshape(*words.shape, 2))


def _inline_function(scalars: Any, function: Callable[..., Any], *values: np.ndarray) -> np.ndarray:
    """What a function of arrays gives for these, as the program that it is says."""
    shapes = [jax.ShapeDtypeStruct(v.shape, v.flat[0].dtype) for v in values]  # never empty
    (out,) = scalars.evaluate(*open_jaxpr(jax.make_jaxpr(function)(*shapes)), values)
    return scalars.elements(out)


def _draw_per_key(scalars: Any, function: Callable[..., Any], keys: Any, *others: Any) -> np.ndarray:
    """`function(words, other)` for every key, (keys, …)."""
    each = list(scalars.elements(keys).flat)
    per_key = [scalars.elements(other).flat for other in others]
    return np.stack(
        promote_to_objects(
            *(
                _inline_function(
                    scalars, function, _unwrap_keys([key], ()), *(object_array([o[i]], ()) for o in per_key)
                )
                for i, key in enumerate(each)
            )
        )
    )


def _generator() -> Any:
    from jax.extend.random import threefry_prng_impl

    return threefry_prng_impl


def _random_bits(scalars: Any, eqn: Equation, keys: Any) -> Any:
    bit_width, shape = eqn.params["bit_width"], eqn.params["shape"]
    if not is_default_key(eqn.invars[0].aval) or prod(eqn.outvars[0].aval.shape) > MAX_ELEMENTS:
        return NotImplemented
    drawn = _draw_per_key(scalars, lambda words: _generator().random_bits(words, bit_width, shape), keys)
    return [drawn.reshape(eqn.outvars[0].aval.shape)]


def _random_split(scalars: Any, eqn: Equation, keys: Any) -> Any:
    shape = eqn.params["shape"]
    if not is_default_key(eqn.invars[0].aval) or prod(eqn.outvars[0].aval.shape) > MAX_ELEMENTS:
        return NotImplemented
    drawn = _draw_per_key(scalars, lambda words: _generator().split(words, shape), keys)
    return [wrap_words(drawn.reshape(*eqn.outvars[0].aval.shape, 2))]


def _random_fold_in(scalars: Any, eqn: Equation, keys: Any, numbers: Any) -> Any:
    if not is_default_key(eqn.invars[0].aval):
        return NotImplemented
    shape = eqn.outvars[0].aval.shape
    numbers = np.broadcast_to(scalars.elements(numbers), shape)
    drawn = _draw_per_key(scalars, lambda words, number: _generator().fold_in(words, number), keys, numbers)
    return [wrap_words(drawn.reshape(*shape, 2))]


def _random_seed(scalars: Any, eqn: Equation, seeds: Any) -> Any:
    if not is_default_key(eqn.outvars[0].aval):
        return NotImplemented
    each = [
        _inline_function(scalars, _generator().seed, object_array([seed], ()))
        for seed in scalars.elements(seeds).flat
    ]
    return [wrap_words(np.stack(promote_to_objects(*each)).reshape(*eqn.outvars[0].aval.shape, 2))]


def _random_wrap(scalars: Any, eqn: Equation, words: Any) -> Any:
    return [wrap_words(scalars.elements(words))] if is_default_key(eqn.outvars[0].aval) else NotImplemented


def _random_unwrap(scalars: Any, eqn: Equation, keys: Any) -> Any:
    if not is_default_key(eqn.invars[0].aval):
        return NotImplemented
    return [_unwrap_keys(list(scalars.elements(keys).flat), eqn.invars[0].aval.shape)]


def _iota_2x32(scalars: Any, eqn: Equation) -> list[np.ndarray]:
    shape = eqn.params["shape"]
    counts = np.arange(prod(shape), dtype=np.uint64).reshape(shape)
    return [(counts >> np.uint64(32)).astype(np.uint32), counts.astype(np.uint32)]


def _threefry2x32(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    shape = eqn.outvars[0].aval.shape
    if prod(shape) > MAX_ELEMENTS:
        return NotImplemented
    if not prod(shape):
        return [np.zeros(shape, np.uint32)] * 2
    arrays = promote_to_objects(*np.broadcast_arrays(*map(scalars.elements, operands)))
    pairs = [_hash_block(scalars, *each) for each in zip(*(a.flat for a in arrays), strict=True)]
    return [object_array(list(words), shape) for words in zip(*pairs, strict=True)]


def _hash_block(scalars: Any, key_0: Any, key_1: Any, x: Any, y: Any) -> tuple[Any, Any]:
    def add(a: Any, b: Any) -> Any:
        return scalars.emit("add", lax.add, a, b)

    def xor(a: Any, b: Any) -> Any:
        return scalars.emit("xor", lax.bitwise_xor, a, b)

    def rotated(a: Any, by: int) -> Any:
        left = scalars.emit("shift_left", lax.shift_left, a, np.uint32(by))
        right = scalars.emit("shift_right_logical", lax.shift_right_logical, a, np.uint32(32 - by))
        return scalars.emit("or", lax.bitwise_or, left, right)

    keys = (key_0, key_1, xor(xor(key_0, key_1), PARITY))
    x, y = add(x, key_0), add(y, key_1)
    for i in range(5):
        for by in ROTATIONS[i % 2]:
            x = add(x, y)
            y = xor(rotated(y, by), x)
        x, y = add(x, keys[(i + 1) % 3]), add(add(y, keys[(i + 2) % 3]), np.uint32(i + 1))
    return x, y


RANDOM_RULES: dict[str, Callable[..., Any]] = {
    "iota_2x32_shape": _iota_2x32,
    "random_bits": _random_bits,
    "random_fold_in": _random_fold_in,
    "random_seed": _random_seed,
    "random_split": _random_split,
    "random_unwrap": _random_unwrap,
    "random_wrap": _random_wrap,
    "threefry2x32": _threefry2x32,
}
