"""Members in vector lanes: the trainer's loop as `lane_vmap` runs it, in blocks that fit a CPU's nearest cache.

Every block has the same size, a number of whole vectors where lanes are vectors, however few its members are: that
is why a member's bits do not depend on its company. A chunk is a row of blocks, trained one after the other.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from xorjax.ensembles.engines.contract import Engine, Programs, of_one
from xorjax.ensembles.rounds import zero_epochs
from xorjax.lanes.cost import Explanation, count_elements, plan_lanes
from xorjax.lanes.depths import MemberProgram, run_lanes
from xorjax.lanes.jaxprs import outlined_call, platform
from xorjax.lanes.native import run_native
from xorjax.lanes.transform import lane_vmap, merge_blocks, split_blocks
from xorjax.training.problem import HParams
from xorjax.training.results import Result
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

# Of a block on a GPU or TPU, which XLA gives an operation of the loop at a time: what fills an H200, as measured;
# and of all arrays of its members, where these are arrays.
ACCELERATOR_LANES, ACCELERATOR_ELEMENTS = 2**19, 2**26
CHUNK_SIZE = 1_000  # what it costs to start a chunk no longer counts, and two threads share few members evenly


class _Plan(NamedTuple):
    """What a trainer's `advance` is for one member, and how lanes run it."""

    closed: Any  # jaxpr of (state, hparams, epochs)
    out_tree: Any
    explanation: Explanation
    block_size: int


def _plan(trainer: Trainer, hparams: HParams) -> _Plan:
    """For the hparams of one member, arrays or their shapes. (What is traced here, JAX remembers.)"""
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


def _plan_of_many(trainer: Trainer, hparams: HParams) -> _Plan:
    return _plan(trainer, of_one(hparams))


def explained(trainer: Trainer, hparams: HParams) -> Explanation:
    """The depth for this trainer; `hparams` are those of one member, arrays or their shapes."""
    return _plan(trainer, hparams).explanation


def block_size(trainer: Trainer, hparams: HParams) -> int:
    return _plan(trainer, hparams).block_size


def beside_training(trainer: Trainer) -> tuple[Any, Any, Any]:
    """The trainer's init (of seeds), observe and finish in lanes; States have the lanes last."""
    return (
        lane_vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams), out_axes=-1),
        trainer.observe and lane_vmap(trainer.observe, in_axes=(-1, 0)),
        lane_vmap(trainer.finish, in_axes=(-1, 0)),
    )


@lru_cache(maxsize=64)
def programs(trainer: Trainer) -> Programs:
    """The trainer's functions in lanes; its start and end too, since how plain vmap rounds depends on the size.

    States are (blocks, …, lanes), so that a block is contiguous and its lanes are already last.
    """
    init, observe, finish = beside_training(trainer)

    def init_all(seeds: Any, hparams: HParams) -> State:
        size = _plan_of_many(trainer, hparams).block_size
        return jax.tree.map(lambda leaf: split_blocks(leaf, size), init(seeds, hparams))

    def finish_all(states: State, hparams: HParams) -> Result:
        return finish(jax.tree.map(merge_blocks, states), hparams)

    observe_all = None
    if observe is not None:
        observe_all = jax.jit(lambda states, hparams: observe(jax.tree.map(merge_blocks, states), hparams))
    return Programs(
        jax.jit(init_all), jax.jit(partial(_advance, trainer)), observe_all, jax.jit(finish_all), jax.jit(_arrange)
    )


def _arrange(states: State, hparams: HParams, order: Any) -> tuple[State, HParams]:
    _, size = states.epoch.shape

    def arranged(blocks: Any) -> Any:
        return split_blocks(jnp.take(merge_blocks(blocks), order, axis=-1), size)

    return jax.tree.map(arranged, states), jax.tree.map(lambda leaf: leaf[order], hparams)


def _advance(
    trainer: Trainer, states: State, hparams: HParams, epochs: Any, members: Any
) -> tuple[State, EpochMetrics | None]:
    closed, out_tree, (depth, *_), _ = _plan_of_many(trainer, hparams)
    n_blocks, size = states.epoch.shape
    old, given = jax.tree.leaves(states), jax.tree.leaves(hparams)
    are_mapped = [True] * (len(old) + len(given)) + [False]
    program = MemberProgram(closed, are_mapped, [True] * out_tree.num_leaves, depth, assume_finite=True)

    def part(arrays: Sequence[Any], i: Any) -> list[Any]:
        take = partial(lax.dynamic_index_in_dim, index=i, keepdims=False, allow_negative_indices=False)
        return list(map(take, arrays))

    def put(whole: Any, new: Any, i: Any) -> Any:
        return lax.dynamic_update_index_in_dim(whole, new, i, axis=0, allow_negative_indices=False)

    def train(is_native: bool, epochs: Any, members: Any, *blocks: Any) -> list[Any]:
        states, hparams = blocks[: len(old)], blocks[len(old) :]
        records = [jnp.zeros((n_blocks, *a.shape, size), a.dtype) for a in closed.out_avals[len(old) :]]
        run = partial(run_lanes, program, size, is_native)

        def train_block(carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
            i, trained = carry
            news = outlined_call(run, *part(trained[: len(old)], i), *part(hparams, i), epochs)
            return i + 1, [put(whole, new, i) for whole, new in zip(trained, news, strict=True)]

        start = jnp.int32(0), [*states, *records]
        return lax.while_loop(lambda carry: carry[0] * size < members, train_block, start)[1]

    blocks = [split_blocks(jnp.moveaxis(leaf, 0, -1), size) for leaf in given]
    outs = run_native(train, depth, epochs, members[0], *old, *blocks)
    states, infos = jax.tree.unflatten(out_tree, outs)
    return states, jax.tree.map(merge_blocks, infos)


def compiler_options() -> dict[str, str]:
    """For CPUs: vectors of 512 bits, which others split in two, and little unrolling, which only takes time."""
    if platform() != "cpu":
        return {}
    return {"xla_cpu_prefer_vector_width": "512", "xla_backend_optimization_level": "1"}


ENGINE = Engine("lanes", block_size, CHUNK_SIZE, programs, compiler_options)
