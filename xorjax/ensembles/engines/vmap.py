"""The engine that every other is measured against: `jax.jit(jax.vmap(...))` of the trainer's functions."""

from functools import lru_cache

import jax

from xorjax.ensembles.engines.contract import Engine, Programs
from xorjax.training.trainer import Trainer

CHUNK_SIZE = 256  # the fastest of 64 to 16,384 for the 2-2-1 network on two CPU cores


@lru_cache(maxsize=64)
def programs(trainer: Trainer) -> Programs:
    """The trainer's functions, vmapped over members and jitted."""

    def advance(states, hparams, epochs, members):
        return jax.vmap(trainer.run_epochs, in_axes=(0, 0, None), out_axes=(0, -1))(states, hparams, epochs)

    return Programs(
        init=jax.jit(jax.vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams))),
        advance=jax.jit(advance),
        observe=None if trainer.observe is None else jax.jit(jax.vmap(trainer.observe)),
        finish=jax.jit(jax.vmap(trainer.finish)),
        arrange=None,
    )


ENGINE = Engine("vmap", lambda trainer, hparams: None, CHUNK_SIZE, programs, dict)
