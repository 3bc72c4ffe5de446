"""The engine that every other is measured against: `jax.jit(jax.vmap(...))` of the trainer's functions."""

from functools import lru_cache

import jax

from xorjax.ensembles.engines.contract import ChunkFunctions, Engine
from xorjax.training.trainer import Trainer

CHUNK_SIZE = 256  # the fastest of 64 to 16,384 for the 2-2-1 network on two CPU cores


@lru_cache(maxsize=64)
def make_functions(trainer: Trainer) -> ChunkFunctions:
    """Return the trainer's functions, vmapped over members and jitted."""

    def run_epochs(states, hparams, epochs, members):
        return jax.vmap(trainer.run_epochs, in_axes=(0, 0, None), out_axes=(0, -1))(states, hparams, epochs)

    return ChunkFunctions(
        init=jax.jit(jax.vmap(lambda seed, hparams: trainer.init(jax.random.key(seed), hparams))),
        run_epochs=jax.jit(run_epochs),
        observe=None if trainer.observe is None else jax.jit(jax.vmap(trainer.observe)),
        finish=jax.jit(jax.vmap(trainer.finish)),
        permute=None,
    )


ENGINE = Engine("vmap", lambda trainer, hparams: None, CHUNK_SIZE, make_functions)
