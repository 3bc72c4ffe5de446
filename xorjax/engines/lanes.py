"""Members in vector lanes: `lane_vmap` of the trainer's loop, in blocks that fit the first-level cache.

A block is a whole number of vectors, and every block has the same size, however few its members are: that is
why a member's bits do not depend on its company. A chunk is a row of blocks, trained one after the other.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from xorjax.engines import Engine, Programs
from xorjax.lanes import Explanation, in_a_row, in_blocks, lane_vmap, planned
from xorjax.results import Result
from xorjax.training import HParams, State, Trainer
from xorjax.updates import Info

CHUNK_SIZE = 1_000  # what it costs to start a chunk no longer counts, and two threads share few members evenly


def explained(trainer: Trainer, hparams: HParams) -> Explanation:
    """The depth for this trainer; `hparams` are those of one member, arrays or their shapes."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda hparams: hparams, hparams))
    return _explained(trainer, tree, *((leaf.shape, leaf.dtype) for leaf in leaves))


@lru_cache(maxsize=64)
def _explained(trainer: Trainer, tree: Any, *leaves: tuple[tuple[int, ...], Any]) -> Explanation:
    hparams = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    state = jax.eval_shape(lambda hparams: trainer.init(jax.random.key(0), hparams), hparams)
    epochs = jax.ShapeDtypeStruct((), jnp.int32)
    return planned(jax.make_jaxpr(trainer.advance)(state, hparams, epochs))


def block_size(trainer: Trainer, hparams: HParams) -> int:
    return explained(trainer, hparams).lanes


@lru_cache(maxsize=64)
def programs(trainer: Trainer) -> Programs:
    """The trainer's functions in lanes; its start and end too, since how plain vmap rounds depends on the size.

    States are (blocks, …, lanes), so that a block is contiguous and its lanes are already last.
    """
    init = lane_vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams), out_axes=-1)
    finish = lane_vmap(trainer.finish, in_axes=(-1, 0))

    def init_all(seeds: Any, hparams: HParams) -> State:
        size = _size(trainer, hparams)
        return jax.tree.map(lambda leaf: in_blocks(leaf, size), init(seeds, hparams))

    def finish_all(states: State, hparams: HParams) -> Result:
        return finish(jax.tree.map(in_a_row, states), hparams)

    return Programs(jax.jit(init_all), jax.jit(partial(_advance, trainer)), jax.jit(finish_all))


def _size(trainer: Trainer, hparams: HParams) -> int:
    member = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), hparams)
    return block_size(trainer, member)


def _advance(
    trainer: Trainer, states: State, hparams: HParams, epochs: Any, members: Any
) -> tuple[State, Info | None]:
    run = lane_vmap(trainer.advance, in_axes=(-1, 0, None), out_axes=-1, assume_finite=True)
    n_blocks, size = states.epoch.shape
    hparams = jax.tree.map(lambda leaf: leaf.reshape(n_blocks, size, *leaf.shape[1:]), hparams)

    def part(tree: Any, i: Any) -> Any:
        take = partial(lax.dynamic_index_in_dim, index=i, keepdims=False, allow_negative_indices=False)
        return jax.tree.map(take, tree)

    def put(whole: Any, new: Any, i: Any) -> Any:
        set_at = partial(lax.dynamic_update_index_in_dim, index=i, axis=0, allow_negative_indices=False)
        return jax.tree.map(set_at, whole, new)

    def train_block(carry: tuple[Any, State, Info | None]) -> tuple[Any, State, Info | None]:
        i, states, infos = carry
        new, info = run(part(states, i), part(hparams, i), epochs)
        return i + 1, put(states, new, i), put(infos, info, i)

    infos = None
    if trainer.record_every is not None:
        _, infos = jax.eval_shape(run, part(states, 0), part(hparams, 0), epochs)
        infos = jax.tree.map(lambda info: jnp.zeros((n_blocks, *info.shape), info.dtype), infos)
    carry = jnp.int32(0), states, infos
    _, states, infos = lax.while_loop(lambda carry: carry[0] * size < members, train_block, carry)
    return states, jax.tree.map(lambda info: jnp.moveaxis(info, 0, 1).reshape(info.shape[1], -1), infos)


def compiler_options() -> dict[str, str]:
    """For CPUs: vectors of 512 bits, which others split in two, and little unrolling, which only takes time."""
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_prefer_vector_width": "512", "xla_backend_optimization_level": "1"}


ENGINE = Engine("lanes", block_size, CHUNK_SIZE, programs, compiler_options)
