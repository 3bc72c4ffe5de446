"""The members of an ensemble: each is named by a seed and hyper-parameters, and by nothing else.

Grids and random searches are described, not listed: a range of members is computed on request, so that 10^9 of
them cost nothing.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xorjax._checks import check_integer, check_real_array
from xorjax.training.problem import HParams

MAX_SEED = 2**32 - 1
MAX_MEMBERS = 2**63 - 1
GENERATOR = "threefry2x32"  # JAX's default
SEED, DRAW = "seed", "draw"  # axes that are no hyper-parameters

AxisIndices = Mapping[str, np.ndarray]  # by axis: the indices of members along it


class Members:
    """Seeds and hyper-parameters of any number of members, from `grid` or `random_search`.

    The last axis varies fastest, so that `results.loss.reshape(members.shape)` has the axes that `members.axes`
    names. `members[a:b]` returns the seeds of a range of members, and their hparams with a leading axis.

    Attributes:
      axes: names of the axes, one of them "seed".
      shape: length of each axis.

    >>> members = random_search(jax.random.key(0), 20, seeds=range(100), learning_rate=0.5)
    >>> members.axes, members.shape, len(members)
    (('draw', 'seed'), (20, 100), 2000)
    >>> members.indices(slice(99, 101))["draw"]
    array([0, 1])
    """

    def __init__(
        self, axes: Mapping[str, int], seeds: range | np.ndarray, hparams_at: Callable[[AxisIndices], HParams]
    ):
        self.axes, self.shape = tuple(axes), tuple(axes.values())
        self._seeds, self._hparams_at = seeds, hparams_at
        if prod(self.shape) > MAX_MEMBERS:
            raise ValueError(f"axes of {self.shape} have {prod(self.shape)} members; 2**63 - 1 are allowed.")

    def __len__(self) -> int:
        return prod(self.shape)

    def __repr__(self) -> str:
        sizes = zip(self.axes, self.shape, strict=True)
        return f"<Members: {' × '.join(f'{size:,} {name}' for name, size in sizes)}>"

    def indices(self, part: slice) -> dict[str, np.ndarray]:
        """Return the indices of a range of members along each axis, from 0.

        Args:
          part: a slice of step 1.

        Returns:
          For each axis, the indices of these members, (members,).

        Raises:
          TypeError: if it is not such a slice.
        """
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise TypeError(f"members are asked for by slices of neighbours, such as members[:10]; got {part!r}.")
        indices = np.arange(*part.indices(len(self)))
        return dict(zip(self.axes, np.unravel_index(indices, self.shape), strict=True))

    def __getitem__(self, part: slice) -> tuple[np.ndarray, HParams]:
        indices = self.indices(part)
        at, seeds = indices[SEED], self._seeds
        chosen = seeds.start + seeds.step * at if isinstance(seeds, range) else seeds[at]
        return chosen, self._hparams_at(indices)


def as_members(seeds: Any, hparams: HParams) -> Members:
    """Return the members of these seeds, with hparams that are shared or have one value for each member.

    Raises:
      TypeError, ValueError: if seeds or hparams are wrong, or `seeds` are `Members` and get hparams besides.
    """
    _check_generator()
    if isinstance(seeds, Members):
        if hparams is not None:
            raise ValueError(f"{hparams=} must be None, since {seeds!r} have their own.")
        return seeds
    seeds = check_seeds(seeds)
    hparams = _check_hparams(hparams, len(seeds))
    return Members({SEED: len(seeds)}, seeds, lambda at: jax.tree.map(lambda leaf: leaf[at[SEED]], hparams))


def grid(**axes: Any) -> Members:
    """Return every combination of seeds and of values of hyper-parameters, computed when needed, and not stored.

    Args:
      axes: `seeds`, as for `train_ensemble`, and the values of each hyper-parameter: a list, or an array with
        them along its first axis (16 tables of targets have shape (16, 4, 1)). A number is shared by all members
        and makes no axis. The axes are in the order of the arguments; the last varies fastest.

    Returns:
      Members whose hparams are a dictionary by these names. 10^9 members cost no time or memory.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> members = grid(seeds=range(1000), learning_rate=[0.1, 0.5], momentum=[0.0, 0.5, 0.9])
    >>> members
    <Members: 1,000 seed × 2 learning_rate × 3 momentum>
    >>> members[5:7]
    (array([0, 1]), {'learning_rate': array([0.5, 0.1]), 'momentum': array([0.9, 0. ])})
    """
    sizes: dict[str, int] = {}
    seeds, hparams = _separate_seeds("grid", axes)
    values = {name: _to_array(name, given) for name, given in hparams.items()}
    for name in axes:
        if name == "seeds":
            sizes[SEED] = len(seeds)
        elif values[name].ndim:
            if not len(values[name]):
                raise ValueError(f"{name}={axes[name]!r} must hold at least one value.")
            sizes[name] = len(values[name])

    def hparams_at(indices: AxisIndices) -> HParams:
        n = len(indices[SEED])
        return {
            name: array[indices[name]] if name in sizes else np.broadcast_to(array, (n,))
            for name, array in values.items()
        }

    return Members(sizes, seeds, hparams_at)


def random_search(key: Any, draws: int, **axes: Any) -> Members:
    """Return hyper-parameters drawn at random, each draw with every seed.

    Args:
      key: a JAX key. A drawn value depends on the key, on the name of the hyper-parameter and on the number of the
        draw: adding draws or hyper-parameters does not change the values drawn. (NumPy's generator Philox.)
      draws: number of draws.
      axes: `seeds`, as for `train_ensemble`, and for each hyper-parameter a frozen SciPy distribution, such as
        `scipy.stats.loguniform(1e-3, 1)`, or a number, which all members share.

    Returns:
      Members with the axes "draw" and "seed", and a dictionary by these names for hparams.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> from scipy import stats
    >>> members = random_search(jax.random.key(0), 50, seeds=range(4), learning_rate=stats.loguniform(0.01, 1))
    >>> seeds, hparams = members[:6]
    >>> seeds, len(set(hparams["learning_rate"].tolist()))  # of the first draw four, of the second two
    (array([0, 1, 2, 3, 0, 1]), 2)
    """
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
        raise TypeError(f"{key=} must be a typed key, such as jax.random.key(0).")
    words = np.asarray(jax.random.key_data(key)).astype(np.uint64)
    draws = check_integer("draws", draws, 1, 2**62)
    seeds, hparams = _separate_seeds("random_search", axes)
    drawn = {name: given for name, given in hparams.items() if hasattr(given, "ppf")}
    shared = {name: _to_array(name, given) for name, given in hparams.items() if name not in drawn}
    for name, distribution in drawn.items():
        if not np.isfinite(distribution.ppf(0.5)):
            raise ValueError(f"{name}={distribution.dist.name} has parameters for which it has no median.")
    for name, array in shared.items():
        if array.ndim:
            raise TypeError(f"{name}={hparams[name]!r} must be a frozen SciPy distribution or a number.")

    def hparams_at(indices: AxisIndices) -> HParams:
        n = len(indices[SEED])
        return {
            name: np.broadcast_to(shared[name], (n,))
            if name in shared
            else drawn[name].ppf(_uniform(words, name, indices[DRAW]))
            for name in hparams
        }

    return Members({DRAW: draws, SEED: len(seeds)}, seeds, hparams_at)


def _uniform(words: np.ndarray, name: str, draws: np.ndarray) -> np.ndarray:
    """Return a number between 0 and 1 for each of these draws, which lie close together."""
    if not draws.size:
        return np.empty(0)
    generator = np.random.Philox(key=[words[0] << np.uint64(32) | words[1], zlib.crc32(name.encode())])
    first = draws.min() // 4  # the generator makes four numbers at a time
    generator.advance(int(first))
    bits = generator.random_raw(int(draws.max() - 4 * first + 1))[draws - 4 * first]
    return ((bits >> np.uint64(12)) + 0.5) * 2.0**-52


def _separate_seeds(function: str, axes: Mapping[str, Any]) -> tuple[range | np.ndarray, dict[str, Any]]:
    hparams = dict(axes)
    if "seeds" not in hparams:
        raise TypeError(f"{function}() needs seeds, such as seeds=range(1000).")
    seeds = check_seeds(hparams.pop("seeds"))
    for name in (SEED, DRAW):
        if name in hparams:
            raise ValueError(f"{name}={hparams[name]!r} can't be a hyper-parameter, since {name!r} names an axis.")
    return seeds, hparams


def _check_generator() -> None:
    generator = jax.config.jax_default_prng_impl  # pyright: ignore[reportAttributeAccessIssue]
    if generator != GENERATOR:
        raise ValueError(
            f"jax_default_prng_impl={generator!r} must be {GENERATOR!r}: the numbers that "
            f"other generators draw for a member depend on the other members."
        )


def check_seeds(seeds: Any) -> range | np.ndarray:
    """Return the seeds as a range, which costs no memory, or as an array.

    Raises:
      TypeError, ValueError: if they are not integers from 0 to 2^32 − 1, at least one of them.
    """
    if isinstance(seeds, range):
        checked, ends = seeds, [*seeds[:1], *seeds[-1:]]
    else:
        if not isinstance(seeds, Sequence | np.ndarray | jax.Array) or isinstance(seeds, str):
            hint = f"; try range({seeds})" if isinstance(seeds, int) else ""
            raise TypeError(f"{seeds=} must be a range, list or array of integers{hint}.")
        try:
            checked = np.asarray(seeds)
        except (TypeError, ValueError) as error:
            raise TypeError(f"seeds must be integers: {error}") from None
        if checked.ndim != 1:
            raise ValueError(f"seeds must have one axis, got shape {checked.shape}.")
        if checked.dtype.kind in "iu":
            ends = [int(checked.min()), int(checked.max())] if checked.size else []
        elif all(type(seed) is int for seed in seeds):  # none at all, or too large for NumPy's integers
            ends = sorted(map(int, seeds))
        else:
            raise TypeError(f"seeds must be integers, got dtype {checked.dtype}.")
    if not ends:
        raise ValueError("seeds must hold at least one seed, got none.")
    if min(ends) < 0 or max(ends) > MAX_SEED:
        got = " to ".join(map(str, sorted({min(ends), max(ends)})))
        raise ValueError(f"seeds must be between 0 and 2**32 - 1 = {MAX_SEED}, got {got}.")
    return checked


def _check_hparams(hparams: HParams, n_members: int) -> HParams:
    """Return `hparams` with each leaf as a NumPy array with a leading member axis (a view, where it is shared).

    Raises:
      TypeError, ValueError: naming the leaf, if it is not real, is nan, or is as long as something else.
    """

    def check_leaf(path: Any, leaf: Any) -> np.ndarray:
        name = f"hparams{jax.tree_util.keystr(path)}"
        array = _to_array(name, leaf)
        if array.ndim == 0:
            return np.broadcast_to(array, (n_members,))
        if array.shape[0] != n_members:
            raise ValueError(
                f"{name} has shape {array.shape}; it must be a scalar or have a leading axis of "
                f"{n_members}, the number of seeds."
            )
        return array

    return jax.tree_util.tree_map_with_path(check_leaf, hparams, is_leaf=lambda node: isinstance(node, list))


def _to_array(name: str, given: Any) -> np.ndarray:
    """Return the values of a hyper-parameter as an array of real numbers."""
    if hasattr(given, "ppf"):
        raise TypeError(f"{name} must be real numbers, got a distribution; random_search takes those.")
    array = check_real_array(name, given)
    if array.dtype in (np.int64, np.uint64) and (array != array.astype(jnp.result_type(int))).any():
        raise ValueError(f"{name}={given!r} is too large for 32-bit integers; write it as a float.")
    if (nan := np.isnan(array)).any():
        which = f"; member {np.argwhere(nan)[0, 0]} is" if array.ndim else ""
        raise ValueError(f"{name} must not be nan{which}.")
    return array
