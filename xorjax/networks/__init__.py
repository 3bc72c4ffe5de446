"""Data, models and losses of one network, and weights to and from Keras.

`tasks` has the data: `Batch(x, y)`, `xor`, `parity`, `truth_table`. `models` has `Model(init, apply)`, a pair of
pure functions, and `mlp`, the model of the tutorial. `losses` has what is minimized, and when a task counts as
solved. `keras` converts parameters to and from Keras's weights.

>>> import jax
>>> from xorjax.networks import models, tasks
>>> model = models.mlp((2, 2, 1))
>>> model.apply(model.init(jax.random.key(7)), tasks.xor().x).shape
(4, 1)
"""

from xorjax.networks import keras, losses, models, tasks

__all__ = ["keras", "losses", "models", "tasks"]
