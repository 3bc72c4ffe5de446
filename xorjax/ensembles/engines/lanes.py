"""Members in vector lanes: the trainer's loop as `lane_vmap` runs it, in blocks that fit a CPU's nearest cache.

Every block has the same size, however few its members are, and lanes fill whole vectors: so the bits of a member
do not depend on the other members. A chunk is a row of blocks, trained one after the other.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from xorjax.ensembles.engines.contract import ChunkFunctions, CompilerOptions, Engine, drop_member_axis
from xorjax.ensembles.rounds import zero_epochs
from xorjax.lanes.cost import Explanation, count_elements, plan_lanes
from xorjax.lanes.depths import MemberProgram, run_lanes
from xorjax.lanes.jaxprs import HAS_FUSION_EMITTERS_OPTION, Aval, outlined_call, platform
from xorjax.lanes.native import run_native
from xorjax.lanes.transform import lane_vmap, merge_blocks, split_blocks
from xorjax.training.problem import HParams
from xorjax.training.records import Record
from xorjax.training.results import Result
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

if TYPE_CHECKING:  # importing it at run time imports Pallas
    from jax.extend.core import ClosedJaxpr

# Block size on accelerators, where XLA runs the loop one operation at a time; 2**19 lanes fill an H200. Where
# arrays stay arrays, their elements over all lanes of a block are limited instead.
ACCELERATOR_LANES, ACCELERATOR_ELEMENTS = 2**19, 2**26
CHUNK_SIZE = 1_000  # large enough to hide the cost of starting a chunk, small enough to share among two threads


class _Plan(NamedTuple):
    """The program of `Trainer.run_epochs` for one member, and how lanes run it."""

    closed: "ClosedJaxpr"  # of (state, hparams, epochs)
    out_tree: Any
    explanation: Explanation
    block_size: int


def _plan(trainer: Trainer, hparams: HParams) -> _Plan:
    """Plan for the hparams of one member, arrays or their shapes. (JAX caches the trace.)"""
    shapes = jax.eval_shape(lambda hparams: hparams, hparams)
    hparams = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), shapes)
    state = jax.eval_shape(trainer.init, jax.eval_shape(jax.random.key, 0), hparams)
    epochs = jax.ShapeDtypeStruct(zero_epochs(trainer).shape, jnp.int32)
    closed, results = jax.make_jaxpr(trainer.run_epochs, return_shape=True)(state, hparams, epochs)
    explanation = plan_lanes(closed)
    size = explanation.lanes
    if platform() != "cpu":
        size = ACCELERATOR_LANES
        if explanation.depth != "scalar":
            size = max(1, min(size, ACCELERATOR_ELEMENTS // max(1, count_elements(closed))))
    return _Plan(closed, jax.tree.structure(results), explanation, size)


def explain_depth(trainer: Trainer, hparams: HParams) -> Explanation:
    """Return the depth for this trainer; `hparams` are those of one member, arrays or their shapes."""
    return _plan(trainer, hparams).explanation


def choose_block_size(trainer: Trainer, hparams: HParams) -> int:
    """Return the number of members that run together, from the hparams of one member."""
    return _plan(trainer, hparams).block_size


class LaneEndpoints(NamedTuple):
    """A trainer's functions before and after training, in lanes; States have the lanes last."""

    init: Callable[[Array, HParams], State]  # from seeds
    observe: Callable[[State, HParams], Record] | None
    finish: Callable[[State, HParams], Result]


def map_endpoints(trainer: Trainer) -> LaneEndpoints:
    """Map init, observe and finish over lanes; plain vmap would round differently for each number of members."""
    return LaneEndpoints(
        lane_vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams), out_axes=-1),
        trainer.observe and lane_vmap(trainer.observe, in_axes=(-1, 0)),
        lane_vmap(trainer.finish, in_axes=(-1, 0)),
    )


@lru_cache(maxsize=64)
def make_functions(trainer: Trainer) -> ChunkFunctions:
    """Return the trainer's functions in lanes, jitted.

    States are (blocks, …, lanes), so that a block is contiguous and its lanes are already last.
    """
    ends = map_endpoints(trainer)
    observe = ends.observe

    def init(seeds: Array, hparams: HParams) -> State:
        size = _plan(trainer, drop_member_axis(hparams)).block_size
        return jax.tree.map(lambda leaf: split_blocks(leaf, size), ends.init(seeds, hparams))

    def finish(states: State, hparams: HParams) -> Result:
        return ends.finish(jax.tree.map(merge_blocks, states), hparams)

    return ChunkFunctions(
        jax.jit(init),
        jax.jit(partial(_run_epochs, trainer)),
        observe and jax.jit(lambda states, hparams: observe(jax.tree.map(merge_blocks, states), hparams)),
        jax.jit(finish),
        jax.jit(_permute),
    )


def _permute(states: State, hparams: HParams, order: Array) -> tuple[State, HParams]:
    _, size = states.epoch.shape

    def permute_lanes(blocks: Array) -> Array:
        return split_blocks(jnp.take(merge_blocks(blocks), order, axis=-1), size)

    return jax.tree.map(permute_lanes, states), jax.tree.map(lambda leaf: leaf[order], hparams)


def _run_epochs(
    trainer: Trainer, states: State, hparams: HParams, epochs: Array, members: Array
) -> tuple[State, EpochMetrics | None]:
    closed, out_tree, (depth, *_), _ = _plan(trainer, drop_member_axis(hparams))
    n_blocks, size = states.epoch.shape
    state_leaves, hparams_leaves = jax.tree.leaves(states), jax.tree.leaves(hparams)
    n_states = len(state_leaves)
    are_mapped = [True] * (n_states + len(hparams_leaves)) + [False]
    program = MemberProgram(closed, are_mapped, [True] * out_tree.num_leaves, depth, assume_finite=True)

    def take_block(arrays: Sequence[Array], i: Array) -> list[Array]:
        take = partial(lax.dynamic_index_in_dim, index=i, keepdims=False, allow_negative_indices=False)
        return list(map(take, arrays))

    def put_block(blocks: Array, new: Array, i: Array) -> Array:
        return lax.dynamic_update_index_in_dim(blocks, new, i, axis=0, allow_negative_indices=False)

    def train(is_native: bool, epochs: Array, members: Array, *blocks: Array) -> list[Array]:
        states, hparams = blocks[:n_states], blocks[n_states:]
        out_avals = cast("list[Aval]", closed.out_avals)
        records = [jnp.zeros((n_blocks, *a.shape, size), a.dtype) for a in out_avals[n_states:]]
        run = partial(run_lanes, program, size, is_native)

        def train_block(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            i, all_blocks = carry
            news = outlined_call(run, *take_block(all_blocks[:n_states], i), *take_block(hparams, i), epochs)
            return i + 1, [put_block(old, new, i) for old, new in zip(all_blocks, news, strict=True)]

        start = jnp.int32(0), [*states, *records]
        return lax.while_loop(lambda carry: carry[0] * size < members, train_block, start)[1]

    blocks = [split_blocks(jnp.moveaxis(leaf, 0, -1), size) for leaf in hparams_leaves]
    outs = run_native(train, depth, epochs, members[0], *state_leaves, *blocks)
    states, metrics = jax.tree.unflatten(out_tree, outs)
    return states, jax.tree.map(merge_blocks, metrics)


def run_options() -> CompilerOptions:
    """Return options for CPUs: vectors of 512 bits, and little unrolling, which would only take time to compile.

    (CPUs with shorter vectors split one in two.) The backend's level 0 would change bits of normal draws.
    """
    if platform() != "cpu":
        return {}
    return {"xla_cpu_prefer_vector_width": "512", "xla_backend_optimization_level": "1"}


def init_options() -> CompilerOptions:
    """Return `run_options`, without the code generator that takes twice as long for the same bits of `init`.

    (Without it `run_epochs` would be slower, and results of `finish` would differ in the last bit.)
    """
    if platform() != "cpu" or not HAS_FUSION_EMITTERS_OPTION:
        return run_options()
    return {**run_options(), "xla_cpu_use_fusion_emitters": False}


ENGINE = Engine("lanes", choose_block_size, CHUNK_SIZE, make_functions, init_options, run_options)
