"""Arrays split into elements and assembled from them, and the leaves of both that control flow passes."""

from collections.abc import Sequence
from itertools import islice
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Aval, cast_to_aval
from xorjax.lanes.scalar.objects import MAX_ELEMENTS, is_known, object_array
from xorjax.lanes.scalar.random import assemble_keys, is_default_key, wrap_words
from xorjax.lanes.scalar.values import KeyWords, Leaf, Value


class Splitter:
    """The base class of `ScalarInterpreter`: the elements of its arrays, and the leaves that control flow passes.

    Leaves are elements, and arrays that are too large to split.

    Attributes:
      in_kernel: whether keys are split into words.
    """

    def __init__(self, in_kernel: bool) -> None:
        self.in_kernel = in_kernel
        # Keyed by ids; the tables hold the objects whose ids they use.
        self._elements_of: dict[int, tuple[Value, np.ndarray]] = {}  # array -> array, elements
        self._array_of: dict[int, tuple[Value, np.ndarray]] = {}  # elements -> array, elements

    def elements(self, value: Value) -> np.ndarray:
        """Return the elements of a value, as an array of numbers or of objects."""
        if isinstance(value, np.ndarray):
            return value
        if id(value) not in self._elements_of:
            if self.in_kernel and is_default_key(value):
                elements = wrap_words(self.elements(jax.random.key_data(value)))
            else:
                parts = [value]
                if value.ndim:
                    flat = lax.reshape(value, (value.size,))
                    parts = [lax.squeeze(part, (0,)) for part in lax.split(flat, (1,) * value.size)]
                elements = object_array(parts, value.shape)
            self._elements_of[id(value)] = value, elements
            self._array_of[id(elements)] = value, elements
        return self._elements_of[id(value)][1]

    def assemble(self, value: Value, aval: Aval) -> Value:
        """Return a value as one array: a JAX array, or a NumPy array if it is known."""
        if not isinstance(value, np.ndarray) or value.dtype != object:
            return value
        if id(value) in self._array_of:
            return self._array_of[id(value)][0]
        if not value.size:
            return jnp.zeros(aval.shape, aval.dtype)
        elements = list(value.flat)
        if isinstance(elements[0], KeyWords):
            return assemble_keys(value)
        if all(e is elements[0] for e in elements):
            return lax.broadcast_in_dim(elements[0], aval.shape, ())
        pieces: list[Value] = []
        for e in elements:
            if not is_known(e):
                pieces.append(lax.reshape(e, (1,)))
            elif pieces and isinstance(pieces[-1], np.ndarray):
                pieces[-1] = np.append(pieces[-1], e)
            else:
                pieces.append(np.asarray([e], aval.dtype))
        return lax.reshape(lax.concatenate(pieces, 0), aval.shape)

    def share(self, values: Sequence[Value]) -> list[Value]:
        """Split values once for all iterations of a loop that uses them."""
        return [x if x.size > MAX_ELEMENTS else self.elements(x) for x in values]

    def flatten(self, values: Sequence[Value], avals: Sequence[Aval]) -> list[Leaf]:
        """Return the leaves of values, with the dtypes of `avals`."""
        leaves: list[Leaf] = []
        for value, aval in zip(values, avals, strict=True):
            is_large = prod(aval.shape) > MAX_ELEMENTS
            own = [self.assemble(value, aval)] if is_large else self.elements(value).flat
            leaves.extend(cast_to_aval(x, aval) for x in own)
        return leaves

    def unflatten(self, leaves: Sequence[Leaf], avals: Sequence[Aval]) -> list[Any]:
        """Return the values of leaves."""
        rest, sizes = iter(leaves), [prod(aval.shape) for aval in avals]
        return [
            next(rest) if size > MAX_ELEMENTS else object_array(list(islice(rest, size)), aval.shape)
            for size, aval in zip(sizes, avals, strict=True)
        ]

    def assemble_all(self, leaves: Sequence[Leaf], avals: Sequence[Aval]) -> list[Value]:
        """Return the arrays of leaves."""
        return [self.assemble(x, aval) for x, aval in zip(self.unflatten(leaves, avals), avals, strict=True)]

    def split_rows(self, values: Sequence[Value], avals: Sequence[Aval]) -> list[Value]:
        """Split arrays (length, *shape) into arrays (length,), one for each leaf of the shape."""
        columns: list[Value] = []
        for value, aval in zip(values, avals, strict=True):
            x, (length, *shape) = self.assemble(value, aval), aval.shape
            size = prod(shape)
            if size > MAX_ELEMENTS:
                columns.append(x)
            elif isinstance(x, np.ndarray):
                columns.extend(x.reshape(length, size).T)
            elif size:
                flat = lax.reshape(x, (length, size))
                columns.extend(lax.squeeze(column, (1,)) for column in lax.split(flat, (1,) * size, axis=1))
        return columns

    def stack_rows(self, columns: Sequence[Any], avals: Sequence[Aval]) -> list[Value]:
        """Return the arrays that `split_rows` splits into these."""
        rest, values = iter(columns), []
        for aval in avals:
            length, *shape = aval.shape
            size = prod(shape)
            if size > MAX_ELEMENTS:
                values.append(next(rest))
            elif size:
                parts = [lax.reshape(column, (length, 1)) for column in islice(rest, size)]
                values.append(lax.reshape(lax.concatenate(parts, 1), aval.shape))
            else:
                values.append(np.zeros(aval.shape, aval.dtype))
        return values
