"""Who the members of an ensemble are: a seed and hyper-parameters each, and by nothing else are they named."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xorjax._checks import real_array
from xorjax.training import HParams

MAX_SEED = 2**32 - 1
GENERATOR = "threefry2x32"  # JAX's default


def checked_seeds(seeds: Any) -> range | np.ndarray:
    """The seeds as a range, which costs no memory, or an array.

    Raises:
      TypeError, ValueError: if they are not whole numbers from 0 to 2^32 − 1, at least one of them, or JAX is set
        to another generator of random numbers than its default.
    """
    generator = jax.config.jax_default_prng_impl  # pyright: ignore[reportAttributeAccessIssue]
    if generator != GENERATOR:
        raise ValueError(
            f"jax_default_prng_impl={generator!r} must be {GENERATOR!r}: the numbers that "
            f"the others draw for a member depend on its company."
        )
    if isinstance(seeds, range):
        checked, ends = seeds, [*seeds[:1], *seeds[-1:]]
    else:
        if not isinstance(seeds, Sequence | np.ndarray | jax.Array) or isinstance(seeds, str):
            hint = f"; try range({seeds})" if isinstance(seeds, int) else ""
            raise TypeError(f"{seeds=} must be a range, list or array of whole numbers{hint}.")
        try:
            checked = np.asarray(seeds)
        except (TypeError, ValueError) as error:
            raise TypeError(f"seeds must be whole numbers: {error}") from None
        if checked.ndim != 1:
            raise ValueError(f"seeds must have one axis, got shape {checked.shape}.")
        if checked.dtype.kind in "iu":
            ends = [int(checked.min()), int(checked.max())] if checked.size else []
        elif all(type(seed) is int for seed in seeds):  # none at all, or too large for NumPy's integers
            ends = sorted(seeds)
        else:
            raise TypeError(f"seeds must be whole numbers, got dtype {checked.dtype}.")
    if not ends:
        raise ValueError("seeds must hold at least one seed, got none.")
    if min(ends) < 0 or max(ends) > MAX_SEED:
        raise ValueError(f"seeds must be between 0 and 2**32 - 1 = {MAX_SEED}, got {min(ends)} to {max(ends)}.")
    return checked


def checked_hparams(hparams: HParams, n_members: int) -> HParams:
    """`hparams` with every leaf a NumPy array that has a leading member axis (a view, where it is shared).

    Raises:
      TypeError, ValueError: naming the leaf, if it is not real, is nan, or is as long as something else.
    """

    def checked(path: Any, leaf: Any) -> np.ndarray:
        name = f"hparams{jax.tree_util.keystr(path)}"
        array = real_array(name, leaf)
        if array.dtype in (np.int64, np.uint64) and (array != array.astype(jnp.result_type(int))).any():
            raise ValueError(f"{name}={leaf!r} is too large for 32-bit integers; write it as a float.")
        if (nan := np.isnan(array)).any():
            which = f"; member {np.argwhere(nan)[0, 0]} is" if array.ndim else ""
            raise ValueError(f"{name} must not be nan{which}.")
        if array.ndim == 0:
            return np.broadcast_to(array, (n_members,))
        if array.shape[0] != n_members:
            raise ValueError(
                f"{name} has shape {array.shape}; it must be a scalar or have a leading axis of "
                f"{n_members}, the number of seeds."
            )
        return array

    return jax.tree_util.tree_map_with_path(checked, hparams, is_leaf=lambda node: isinstance(node, list))
