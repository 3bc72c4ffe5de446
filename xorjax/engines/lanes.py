"""Members in vector lanes: `lane_vmap` of the trainer's loop, in blocks that fit the cache.

A block is a whole number of vectors, and every block has the same size, however few its members are: that is
why a member's bits do not depend on its company.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from xorjax.engines import Engine, Programs
from xorjax.lanes import Explanation, chosen_depth, lane_vmap
from xorjax.training import Trainer

# Members in a block, and what a block of another size is rounded up to: the fastest on CPUs of 16 to 1,024. Fewer
# than 32 do not become whole vectors in all loops; many do not stay in the first-level cache.
BLOCK_SIZES = {"scalar": 64, "contract": 48, "vmap": 256}


def explained(trainer: Trainer, hparams: Any) -> Explanation:
    """The depth for this trainer; `hparams` are those of one member, arrays or their shapes."""
    state = jax.eval_shape(lambda hparams: trainer.init(jax.random.key(0), hparams), hparams)
    epochs = jax.ShapeDtypeStruct((), jnp.int32)
    return chosen_depth(jax.make_jaxpr(trainer.advance)(state, hparams, epochs))


def block_size(trainer: Trainer, hparams: Any) -> int:
    return BLOCK_SIZES[explained(trainer, hparams).depth]


@lru_cache(maxsize=64)
def programs(trainer: Trainer) -> Programs:
    """The trainer's functions in lanes, its start and end too: how plain vmap rounds depends on the block."""
    return Programs(
        init=lane_vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams)),
        advance=lane_vmap(trainer.advance, in_axes=(0, 0, None), out_axes=(0, -1), assume_finite=True),
        finish=lane_vmap(trainer.finish),
    )


def compiler_options() -> dict[str, str]:
    """Vectors of 512 bits where the CPU has them; others split them in two, and the bits are the same."""
    return {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else {}


ENGINE = Engine("lanes", block_size, block_size, programs, compiler_options)
