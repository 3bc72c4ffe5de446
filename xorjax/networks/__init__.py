"""One network: its data, model and loss, and weights to and from Keras.

Start with `mlp`, the fully connected network, and `xor`, the data of the tutorial.

- `tasks`: `Batch(x, y)` and the functions that make one: `xor`, `parity`, `truth_table`, `split`.
- `models`: `Model(init, apply)`, a pair of pure functions; `mlp`; initialisers; `summary`.
- `losses`: `mse`, cross-entropies, `accuracy`, and the rules that call a network solved.
- `keras`: parameters from and to Keras's weights.

Any pair of functions `init(key) -> params` and `apply(params, x) -> y` is a model; no base class is needed.

>>> import jax
>>> from xorjax.networks import losses, models, tasks
>>> batch, model = tasks.xor(), models.mlp((2, 2, 1))
>>> params = model.init(jax.random.key(7))
>>> y_hat = model.apply(params, batch.x)
>>> y_hat.shape, losses.mse(y_hat, batch.y).shape
((4, 1), ())
"""

from xorjax.networks import keras, losses, models, tasks

__all__ = ["keras", "losses", "models", "tasks"]
