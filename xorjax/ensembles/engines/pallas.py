"""Members in a kernel: a round of epochs is one launch, with parameters and optimizer state in registers.

For GPUs and TPUs. The step is scalarized (`scalarize.py`), so that it has no product of matrices, which
accelerators would round to fewer bits; a member is a lane of a vector, and a vector is what a GPU's block of
threads or a TPU's register holds. What the kernel of a platform can't hold, the engine `lanes` runs.
"""

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from xorjax.ensembles.engines.contract import Engine, Programs, of_one
from xorjax.ensembles.engines.lanes import beside_training
from xorjax.ensembles.members import GENERATOR
from xorjax.lanes.jaxprs import trace_context
from xorjax.lanes.kernel.backends import Route
from xorjax.lanes.kernel.launch import registers, run, scalar_loop, why_not
from xorjax.lanes.scalar.random import is_default_key
from xorjax.lanes.scalar.transform import bound_operations
from xorjax.lanes.scalar.values import MAX_ELEMENTS
from xorjax.training.problem import HParams
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

CHUNK_SIZE = 2**20
MAX_OPERATIONS = 10_000  # of an epoch; a compiler of kernels takes minutes for more


@cache
def engine(route: Route) -> Engine:
    """The engine of a route, named after it where it is not the one of its platform."""
    return Engine(
        "interpret" if route.platform == "cpu" else "pallas",
        lambda trainer, hparams: prod(route.lanes),
        prod(route.lanes) if route.platform == "cpu" else CHUNK_SIZE,
        partial(programs, route=route),
        dict,
    )


def unfit(trainer: Trainer, hparams: HParams, route: Route) -> str | None:
    """Why a trainer can't go in a kernel of this route, or None; `hparams` are those of one member, or shapes."""
    return _plan(trainer, route, hparams)[1]


def registers_needed(trainer: Trainer, hparams: HParams, route: Route) -> int:
    """How many registers a member needs in a kernel that it fits."""
    return registers(_plan(trainer, route, hparams)[0], route)


@lru_cache(maxsize=64)
def programs(trainer: Trainer, route: Route) -> Programs:
    """The trainer's functions in lanes, but for a kernel that trains; States are (…, members)."""
    init, observe, finish = beside_training(trainer)
    return Programs(
        jax.jit(init),
        jax.jit(partial(_advance, trainer, route)),
        observe and jax.jit(observe),
        jax.jit(finish),
        jax.jit(_arrange),
    )


def _arrange(states: State, hparams: HParams, order: Any) -> tuple[State, HParams]:
    states = jax.tree.map(lambda leaf: jnp.take(leaf, order, axis=-1), states)
    return states, jax.tree.map(lambda leaf: leaf[order], hparams)


def _advance(
    trainer: Trainer, route: Route, states: State, hparams: HParams, epochs: Any, members: Any
) -> tuple[State, EpochMetrics | None]:
    closed, reason = _plan(trainer, route, of_one(hparams))
    if reason is not None:  # under settings of JAX for which it was not chosen
        raise ValueError(f"engine='pallas' can't train this: {reason}.")
    leaves, tree = jax.tree.flatten(states)
    given = [jnp.moveaxis(leaf, 0, -1) for leaf in jax.tree.leaves(hparams)]
    rows = [_in_rows(leaf) for leaf in [*leaves, *given]]
    counts = jnp.reshape(jnp.asarray(epochs, jnp.int32), (-1,))
    carried, reports = run(closed, route, rows[: len(leaves)], rows[len(leaves) :], counts, members[0])
    news = [_out_of_rows(new, leaf) for new, leaf in zip(carried, leaves, strict=True)]
    return jax.tree.unflatten(tree, news), EpochMetrics(*reports) if reports else None


def _plan(trainer: Trainer, route: Route, hparams: HParams) -> tuple[Any, str | None]:
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda hparams: hparams, hparams))
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _planned(trainer, route, tree, shapes, trace_context())


@lru_cache(maxsize=64)
def _planned(
    trainer: Trainer, route: Route, tree: Any, leaves: Sequence[jax.ShapeDtypeStruct], under: tuple[Any, ...]
) -> tuple[Any, str | None]:
    """The loop of a vector of members, and why it can't be run in a kernel, or None."""
    hparams = jax.tree.unflatten(tree, leaves)
    state = jax.eval_shape(trainer.init, jax.eval_shape(jax.random.key, 0), hparams)
    states, state_tree = jax.tree.flatten(state)

    def span(carried: Sequence[Any], given: Sequence[Any], epochs: Any) -> Any:
        state = [_unpacked(x, like) for x, like in zip(carried, states, strict=True)]
        own = [_unpacked(x, like) for x, like in zip(given, leaves, strict=True)]
        new, info = trainer.run_until_record(
            jax.tree.unflatten(state_tree, state), jax.tree.unflatten(tree, own), epochs
        )
        return list(map(_packed, jax.tree.leaves(new))), info

    for leaf in states:
        if _is_key(leaf) and not is_default_key(leaf):
            return None, f"it carries a {leaf.dtype}, which is not of JAX's default generator"
    if trainer.record_slots is not None and not route.reports:
        return None, f"it records, which a kernel ({route.name}) does not"
    packed, given = jax.eval_shape(lambda *trees: [list(map(_packed, tree)) for tree in trees], states, leaves)
    for leaf in [*packed, *given]:
        if not 0 < prod(leaf.shape) <= MAX_ELEMENTS:
            return None, f"it carries an array of {prod(leaf.shape):,} numbers"
        if leaf.dtype.name not in route.dtypes:
            return None, f"it carries {leaf.dtype.name}, which a kernel ({route.name}) does not hold"
    closed = jax.make_jaxpr(span)(packed, given, jax.ShapeDtypeStruct((), jnp.int32))
    operations = bound_operations(closed)
    if operations > MAX_OPERATIONS:
        return None, f"an epoch may have {operations:,} scalar operations; {MAX_OPERATIONS:,} are allowed"
    loop = scalar_loop(closed, route)
    return loop, why_not(loop, route)


# A kernel holds numbers of 32 or 64 bits: keys go there as their words, and Booleans as integers.


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _packed(leaf: Any) -> Any:
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf.astype(jnp.int32) if leaf.dtype == jnp.bool_ else leaf


def _unpacked(leaf: Any, like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(leaf, impl=GENERATOR)
    return leaf != 0 if like.dtype == jnp.bool_ else leaf


def _in_rows(leaf: Any) -> Any:
    """(…, members) as numbers (numbers, members)."""
    packed = _packed(leaf)
    if _is_key(leaf):
        packed = jnp.moveaxis(packed, -1, -2)
    return packed.reshape(-1, packed.shape[-1])


def _out_of_rows(rows: Any, like: Any) -> Any:
    if _is_key(like):
        return _unpacked(jnp.moveaxis(rows.reshape(*like.shape[:-1], -1, like.shape[-1]), -2, -1), like)
    return _unpacked(rows, like).reshape(like.shape)
