"""Members in vector lanes: `lane_vmap` of the trainer's functions, in blocks that fit the cache.

A block is a whole number of vectors, and every block has the same size, however few its members are: that is
why a member's bits do not depend on its company.
"""

from functools import lru_cache
from typing import Any

import jax

from xorjax.engines import Engine, Programs
from xorjax.engines.vmap import programs as vmap_programs
from xorjax.lanes import explain, lane_vmap
from xorjax.training import Trainer

BLOCK_SIZES = {"scalar": 256, "contract": 64}


def block_size(trainer: Trainer) -> int:
    return 256


@lru_cache(maxsize=64)
def programs(trainer: Trainer) -> Programs:
    """The trainer's functions in lanes. `init` is that of plain vmap, so that members start alike in all engines."""
    advance = lane_vmap(trainer.advance, in_axes=(0, 0, None), out_axes=(0, -1), assume_finite=True)
    return vmap_programs(trainer)._replace(advance=advance)
