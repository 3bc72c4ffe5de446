"""Members in a kernel: a round of epochs is one launch, with parameters and optimizer state in registers.

For GPUs and TPUs. The step is scalarized, so that it has no product of matrices, which accelerators would round
to fewer bits. A member is a lane of a vector, which is a block of threads on a GPU and a register on a TPU. The
engine `lanes` runs the programs that a kernel can't hold.
"""

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct

from xorjax.ensembles.engines.contract import ChunkFunctions, Engine, drop_member_axis
from xorjax.ensembles.engines.lanes import map_endpoints
from xorjax.ensembles.members import GENERATOR
from xorjax.lanes.jaxprs import trace_context
from xorjax.lanes.kernel import launch
from xorjax.lanes.kernel.backends import KernelBackend
from xorjax.lanes.scalar.objects import MAX_ELEMENTS
from xorjax.lanes.scalar.random import is_default_key
from xorjax.lanes.scalar.transform import bound_operations
from xorjax.training.problem import HParams
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

if TYPE_CHECKING:  # importing it at run time imports Pallas
    from jax.extend.core import ClosedJaxpr

CHUNK_SIZE = 2**20
MAX_OPERATIONS = 10_000  # of an epoch; compilers of kernels take minutes for more


@cache
def make_engine(backend: KernelBackend) -> Engine:
    """Return the engine of a backend: "pallas", or "interpret" on a CPU."""
    lanes = prod(backend.lanes)
    is_interpreted = backend.platform == "cpu"
    return Engine(
        "interpret" if is_interpreted else "pallas",
        lambda trainer, hparams: lanes,
        lanes if is_interpreted else CHUNK_SIZE,
        partial(make_functions, backend=backend),
    )


def unsupported_reason(trainer: Trainer, hparams: HParams, backend: KernelBackend) -> str | None:
    """Return why no kernel can train this, or None; `hparams` are those of one member, or their shapes."""
    return _plan(trainer, backend, hparams).unsupported_reason


def count_registers(trainer: Trainer, hparams: HParams, backend: KernelBackend) -> int:
    """Return how many registers a member needs, in a kernel that can train it."""
    return launch.count_registers(_plan(trainer, backend, hparams).loop, backend)


@lru_cache(maxsize=64)
def make_functions(trainer: Trainer, backend: KernelBackend) -> ChunkFunctions:
    """Return the trainer's functions: a kernel for training, lanes for the others; States are (…, members)."""
    ends = map_endpoints(trainer)
    return ChunkFunctions(
        jax.jit(ends.init),
        jax.jit(partial(_run_epochs, trainer, backend)),
        ends.observe and jax.jit(ends.observe),
        jax.jit(ends.finish),
        jax.jit(_permute),
    )


def _permute(states: State, hparams: HParams, order: Array) -> tuple[State, HParams]:
    states = jax.tree.map(lambda leaf: jnp.take(leaf, order, axis=-1), states)
    return states, jax.tree.map(lambda leaf: leaf[order], hparams)


def _run_epochs(
    trainer: Trainer, backend: KernelBackend, states: State, hparams: HParams, epochs: Array, members: Array
) -> tuple[State, EpochMetrics | None]:
    loop, reason = _plan(trainer, backend, drop_member_axis(hparams))
    if loop is None or reason is not None:  # JAX's settings changed after the choice of the engine
        raise ValueError(f"engine='pallas' can't train this: {reason}.")
    leaves, tree = jax.tree.flatten(states)
    rows = [_to_rows(leaf) for leaf in leaves]
    hparams_rows = [_to_rows(jnp.moveaxis(leaf, 0, -1)) for leaf in jax.tree.leaves(hparams)]
    counts = jnp.reshape(jnp.asarray(epochs, jnp.int32), (-1,))
    carried, reports = launch.run_kernel(loop, backend, rows, hparams_rows, counts, members[0])
    news = [_from_rows(new, leaf) for new, leaf in zip(carried, leaves, strict=True)]
    return jax.tree.unflatten(tree, news), EpochMetrics(*reports) if reports else None


class _Plan(NamedTuple):
    """The loop of a vector of members, or why it can't run in a kernel."""

    loop: "ClosedJaxpr | None"
    unsupported_reason: str | None


def _plan(trainer: Trainer, backend: KernelBackend, hparams: HParams) -> _Plan:
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda hparams: hparams, hparams))
    shapes = tuple(ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _plan_for_context(trainer, backend, tree, shapes, trace_context())


@lru_cache(maxsize=64)
def _plan_for_context(
    trainer: Trainer,
    backend: KernelBackend,
    tree: Any,
    leaves: Sequence[ShapeDtypeStruct],
    context: tuple[object, ...],
) -> _Plan:
    """Plan once for each setting of JAX that tracing depends on."""
    hparams = jax.tree.unflatten(tree, leaves)
    state = jax.eval_shape(trainer.init, jax.eval_shape(jax.random.key, 0), hparams)
    states, state_tree = jax.tree.flatten(state)

    def run_until_record(
        carried: Sequence[Array], given: Sequence[Array], epochs: Array
    ) -> tuple[list[Array], EpochMetrics | None]:
        state = [_unpack(x, like) for x, like in zip(carried, states, strict=True)]
        own = [_unpack(x, like) for x, like in zip(given, leaves, strict=True)]
        new, metrics = trainer.run_until_record(
            jax.tree.unflatten(state_tree, state), jax.tree.unflatten(tree, own), epochs
        )
        return list(map(_pack, jax.tree.leaves(new))), metrics

    for leaf in states:
        if _is_key(leaf) and not is_default_key(leaf):
            return _Plan(None, f"it carries a {leaf.dtype}, which is not of JAX's default generator")
    packed, given = jax.eval_shape(lambda *trees: [list(map(_pack, tree)) for tree in trees], states, leaves)
    for leaf in [*packed, *given]:
        if not 0 < prod(leaf.shape) <= MAX_ELEMENTS:
            return _Plan(None, f"it carries an array of {prod(leaf.shape):,} numbers")
        if leaf.dtype.name not in backend.dtypes:
            return _Plan(None, f"it carries {leaf.dtype.name}, which a kernel ({backend.name}) does not hold")
    closed = jax.make_jaxpr(run_until_record)(packed, given, ShapeDtypeStruct((), jnp.int32))
    operations = bound_operations(closed)
    if operations > MAX_OPERATIONS:
        return _Plan(None, f"an epoch may have {operations:,} scalar operations; {MAX_OPERATIONS:,} are allowed")
    loop = launch.scalarize_loop(closed, backend)
    return _Plan(loop, launch.unsupported_reason(loop, backend))


# A kernel holds integers and floats of 32 or 64 bits: a key is its two uint32, a Boolean is an int32.


def _is_key(leaf: Array | ShapeDtypeStruct) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _pack(leaf: Array) -> Array:
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf.astype(jnp.int32) if leaf.dtype == jnp.bool_ else leaf


def _unpack(leaf: Array, like: Array | ShapeDtypeStruct) -> Array:
    if _is_key(like):
        return jax.random.wrap_key_data(leaf, impl=GENERATOR)
    return leaf != 0 if like.dtype == jnp.bool_ else leaf


def _to_rows(leaf: Array) -> Array:
    """Reshape (…, members) to (elements, members)."""
    packed = _pack(leaf)
    if _is_key(leaf):
        packed = jnp.moveaxis(packed, -1, -2)
    return packed.reshape(-1, packed.shape[-1])


def _from_rows(rows: Array, like: Array) -> Array:
    if _is_key(like):
        return _unpack(jnp.moveaxis(rows.reshape(*like.shape[:-1], -1, like.shape[-1]), -2, -1), like)
    return _unpack(rows, like).reshape(like.shape)
