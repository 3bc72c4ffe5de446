"""Members in vector lanes: `lane_vmap` of the trainer's loop, in blocks that fit the first-level cache.

A block is a whole number of vectors, and every block has the same size, however few its members are: that is
why a member's bits do not depend on its company. A chunk is a row of blocks, trained one after the other.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from xorjax.engines import Engine, Programs
from xorjax.lanes import Explanation, chosen_depth, lane_vmap
from xorjax.scalar_rules import called
from xorjax.training import HParams, State, Trainer
from xorjax.updates import Info

# The fastest on CPUs of 16 to 1,024. Fewer than 32 do not become whole vectors in all loops; many do not stay in
# the cache.
BLOCK_SIZES = {"scalar": 64, "contract": 48, "vmap": 64}
CHUNK_SIZE = 1_000  # what it costs to start a chunk no longer counts, and two threads share few members evenly


def explained(trainer: Trainer, hparams: HParams) -> Explanation:
    """The depth for this trainer; `hparams` are those of one member, arrays or their shapes."""
    state = jax.eval_shape(lambda hparams: trainer.init(jax.random.key(0), hparams), hparams)
    epochs = jax.ShapeDtypeStruct((), jnp.int32)
    return chosen_depth(jax.make_jaxpr(trainer.advance)(state, hparams, epochs))


def block_size(trainer: Trainer, hparams: HParams) -> int:
    return BLOCK_SIZES[explained(trainer, hparams).depth]


@lru_cache(maxsize=64)
def programs(trainer: Trainer) -> Programs:
    """The trainer's functions in lanes; its start and end too, since how plain vmap rounds depends on the size."""
    init = lane_vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams))
    finish = lane_vmap(trainer.finish)
    return Programs(
        init=jax.jit(lambda seeds, hparams: _by_blocks(init, trainer, seeds, hparams)),
        advance=jax.jit(partial(_advance, trainer)),
        finish=jax.jit(lambda states, hparams: _by_blocks(finish, trainer, states, hparams)),
    )


def _size(trainer: Trainer, hparams: HParams) -> int:
    return block_size(
        trainer, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), hparams)
    )


def _alike(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)`, of which XLA makes the same code for any number of blocks, and so the same bits."""
    return called(fn, *args) if jax.default_backend() == "cpu" else fn(*args)


def _by_blocks(fn: Callable[..., Any], trainer: Trainer, members: Any, hparams: HParams) -> Any:
    size = _size(trainer, hparams)
    blocks = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), (members, hparams))
    results = lax.map(lambda block: _alike(fn, *block), blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)


def _advance(
    trainer: Trainer, states: State, hparams: HParams, epochs: Any, members: Any
) -> tuple[State, Info | None]:
    size = _size(trainer, hparams)
    run = lane_vmap(trainer.advance, in_axes=(0, 0, None), out_axes=(0, -1), assume_finite=True)

    def part(tree: Any, i: Any) -> Any:
        return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, i * size, size), tree)

    def put(whole: Any, new: Any, i: Any, axis: int) -> Any:
        def put_leaf(whole: Any, new: Any) -> Any:
            return lax.dynamic_update_slice_in_dim(whole, new, i * size, axis % whole.ndim)

        return jax.tree.map(put_leaf, whole, new)

    def train_block(i: Any, carry: tuple[State, Info | None]) -> tuple[State, Info | None]:
        states, infos = carry
        new, info = _alike(run, part(states, i), part(hparams, i), epochs)
        return put(states, new, i, 0), put(infos, info, i, -1)

    _, infos = jax.eval_shape(jax.vmap(trainer.advance, (0, 0, None), (0, -1)), states, hparams, epochs)
    infos = jax.tree.map(lambda info: jnp.zeros(info.shape, info.dtype), infos)
    return lax.fori_loop(0, (members + size - 1) // size, train_block, (states, infos))


def compiler_options() -> dict[str, str]:
    """Vectors of 512 bits where the CPU has them; others split them in two, and the bits are the same."""
    return {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else {}


ENGINE = Engine("lanes", block_size, CHUNK_SIZE, programs, compiler_options)
