"""Engines: the ways to train a chunk of members.

`contract.Engine` says what an engine is. `lanes` runs a trainer in vector lanes on any platform, `pallas` in a
kernel on GPUs and TPUs, and `vmap` is plain `jax.vmap`, to compare with. `choice.choose_engine` chooses from the
program and the platform, and says why.

>>> import optax, xorjax as xj
>>> from xorjax.ensembles.engines.choice import choose_engine
>>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
>>> engine, why = choose_engine("auto", trainer, {"learning_rate": 0.5}, platform="cpu")
>>> engine.name, why
('lanes', "at the depth 'scalar', up to 287 scalar operations, at most 350")
"""
