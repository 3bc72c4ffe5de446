"""Wrong calls, each with its exception and the words a user needs: the argument, its value, what is allowed."""

# pyright: reportArgumentType=false

import re
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from scipy import stats

import xorjax as xj
from xorjax import statistics as accumulators
from xorjax.statistics import arrays as statistics
from xorjax.statistics import outcomes

MODEL, XOR, SGD = xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1)
KEY = jax.random.key(0)
TRAINER = xj.trainer(MODEL, XOR, SGD, epochs=3)
BY_RATE = xj.trainer(MODEL, XOR, lambda h: optax.sgd(h["learning_rate"]), epochs=3)
X, Y = XOR


def train(model=MODEL, batch=XOR, optimizer=SGD, **options):
    return xj.trainer(model, batch, optimizer, **{"epochs": 3, **options})


def ensemble(seeds, hparams=None, trainer=TRAINER, **options):
    return xj.train_ensemble(trainer, seeds, hparams, **options)


def with_nan():
    x = X.copy()
    x[2, 1] = np.nan
    return x


WRONG = {
    # tasks
    "parity of nothing": (lambda: xj.parity(0), ValueError, "n_bits=0 must be between 1 and 20"),
    "parity of half a bit": (lambda: xj.parity(2.5), TypeError, "n_bits=2.5 must be an integer"),
    "parity of True": (lambda: xj.parity(True), TypeError, "n_bits=True must be an integer"),
    "three outputs": (lambda: xj.truth_table([0, 1, 1]), ValueError, "2, 4, 8, … values"),
    "no outputs": (lambda: xj.truth_table([]), ValueError, "got shape (0,)"),
    "an output of 2": (lambda: xj.truth_table([0, 2]), ValueError, "outputs=[0, 2] must hold only 0 and 1"),
    "outputs in words": (lambda: xj.truth_table("xor"), ValueError, "outputs='xor' must hold only 0 and 1"),
    "three outputs as text": (lambda: xj.truth_table("011"), ValueError, "got shape (3,)"),
    "outputs in rows": (lambda: xj.truth_table([[0], [1]]), ValueError, "got shape (2, 1)"),
    # models
    "a size of 0": (lambda: xj.mlp((2, 0, 1)), ValueError, "layer_sizes[1]=0 must be between 1 and"),
    "a negative size": (lambda: xj.mlp((2, 2, -1)), ValueError, "layer_sizes[2]=-1 must be between 1 and"),
    "half a unit": (lambda: xj.mlp((2, 2.5, 1)), TypeError, "layer_sizes[1]=2.5 must be an integer"),
    "one size": (lambda: xj.mlp((2,)), ValueError, "layer_sizes=(2,) must be a sequence of at least two sizes"),
    "sizes as a number": (lambda: xj.mlp(2), ValueError, "layer_sizes=2 must be a sequence"),
    "sizes as text": (lambda: xj.mlp("221"), ValueError, "layer_sizes='221' must be a sequence"),
    "a misspelt activation": (
        lambda: xj.mlp((2, 1), hidden="sigmod"),
        ValueError,
        "hidden='sigmod' must be one of linear, sigmoid, tanh, relu, relu6, elu, selu, celu, gelu, silu, mish, "
        "softplus, soft_sign, softmax; did you mean 'sigmoid'?",
    ),
    "an activation that is a number": (
        lambda: xj.mlp((2, 1), output=3),
        TypeError,
        "output=3 must be a name or a",
    ),
    "an unknown initialiser": (
        lambda: xj.mlp((2, 1), kernel_init="glorot"),
        ValueError,
        "kernel_init='glorot' must be one of",
    ),
    "an unknown bias initialiser": (
        lambda: xj.mlp((2, 1), bias_init=""),
        ValueError,
        "bias_init='' must be one of",
    ),
    "a bias by a rule for kernels": (
        lambda: xj.mlp((2, 1), bias_init="he_normal"),
        ValueError,
        "bias_init='he_normal' must be one of zeros, ones",
    ),
    "complex parameters": (
        lambda: xj.mlp((2, 1), dtype="complex64"),
        ValueError,
        "dtype='complex64' must be a real",
    ),
    "integer parameters": (lambda: xj.mlp((2, 1), dtype=int), ValueError, "dtype='int64' must be a real"),
    "a dtype that is none": (lambda: xj.mlp((2, 1), dtype="float33"), TypeError, "dtype='float33'"),
    "float64 in 32-bit JAX": (
        lambda: xj.mlp((2, 1), dtype="float64").init(KEY),
        ValueError,
        "dtype='float64' needs 64-bit JAX: jax.config.update('jax_enable_x64', True)",
    ),
    "three inputs for two": (
        lambda: MODEL.apply(MODEL.init(KEY), np.zeros((4, 3))),
        ValueError,
        "x has shape (4, 3); its last axis must be 2",
    ),
    "a summary of many members": (
        lambda: xj.summary(jax.tree.map(lambda leaf: np.stack([leaf] * 3), MODEL.init(KEY))),
        ValueError,
        "params[0] must have a kernel of two axes and a bias of one axis, as one network has; "
        "it has shapes (3, 2, 2) and (3, 2)",
    ),
    "a summary of arrays": (lambda: xj.summary({"w": X}), TypeError, "Dense(kernel, bias), got dict"),
    # losses
    "predictions in a row, targets in a column": (
        lambda: xj.mse(jnp.zeros(4), Y),
        ValueError,
        "y_hat has shape (4,) and y has shape (4, 1); they must be equal",
    ),
    "accuracy of another shape": (
        lambda: xj.accuracy(jnp.zeros((3, 1)), Y),
        ValueError,
        "y_hat has shape (3, 1) and y has shape (4, 1)",
    ),
    "losses of rows without columns": (
        lambda: xj.accuracy(jnp.zeros(4), jnp.zeros(4)),
        ValueError,
        "y_hat and y have shape (4,); they must have two axes, (n, n_out)",
    ),
    "a tolerance as text": (
        lambda: xj.losses.solved_by_loss("0.1"),
        TypeError,
        "tolerance='0.1' must be a real number",
    ),
    "an output range as text": (
        lambda: xj.losses.solved_by_40_20_40("0"),
        TypeError,
        "low='0' must be a real number",
    ),
    "a tolerance of 0": (lambda: xj.losses.solved_by_loss(0.0), ValueError, "tolerance=0.0 must be above 0"),
    "a tolerance of nan": (lambda: xj.losses.solved_by_loss(np.nan), ValueError, "tolerance=nan must be above 0"),
    "an empty output range": (
        lambda: xj.losses.solved_by_40_20_40(1, 1),
        ValueError,
        "low=1 must be below high=1",
    ),
    # keras
    "no weights": (lambda: xj.keras.params_from_keras([]), ValueError, "got 0 arrays"),
    "a kernel without a bias": (lambda: xj.keras.params_from_keras([X]), ValueError, "got 1 arrays"),
    "layers that do not follow": (
        lambda: xj.keras.params_from_keras([np.ones((2, 3)), np.ones(3), np.ones((2, 1)), np.ones(1)]),
        ValueError,
        "weights of layer 1 must be a kernel (3, n_out) and a bias (n_out,), got shapes (2, 1) and (1,)",
    ),
    "integer weights": (
        lambda: xj.keras.params_from_keras([np.ones((2, 1), int), np.ones(1)]),
        ValueError,
        "weights of layer 0 must be real floats, got int64 and float64",
    ),
    "weights that are a number": (
        lambda: xj.keras.params_from_keras(5),
        TypeError,
        "weights must be a list of arrays or the",
    ),
    "nan for weights": (
        lambda: xj.keras.params_from_keras([np.full((2, 1), np.nan), np.ones(1)]),
        ValueError,
        "weights of layer 0 must be finite",
    ),
    "no such file": (lambda: xj.keras.params_from_keras("no.keras"), FileNotFoundError, "no.keras"),
    "params of another kind": (lambda: xj.keras.params_to_keras([X]), TypeError, "Dense(kernel, bias)"),
    # trainer
    "a model that is none": (
        lambda: train(model="mlp"),
        TypeError,
        "model must be a Model or a function from hparams",
    ),
    "params for a model": (lambda: train(model=MODEL.init(KEY)), TypeError, "model must be a Model"),
    "an optimizer by name": (lambda: train(optimizer="sgd"), TypeError, "optimizer must be an optax"),
    "a rate for an optimizer": (lambda: train(optimizer=0.1), TypeError, "got 0.1"),
    "an optimizer not made": (
        lambda: train(optimizer=lambda h: h).init(KEY, 0.1),
        TypeError,
        "optimizer(hparams) must give an optax GradientTransformation",
    ),
    "a model not made": (
        lambda: train(model=lambda h: h).init(KEY, 0.1),
        TypeError,
        "model(hparams) must give a Model",
    ),
    "rows of x and y": (
        lambda: train(batch=xj.Batch(X, Y[:3])),
        ValueError,
        "batch.x has 4 rows and batch.y has 3; they must be equal",
    ),
    "targets in a row": (lambda: train(batch=xj.Batch(X, Y[:, 0])), ValueError, "batch.y must be a matrix"),
    "no rows": (lambda: train(batch=xj.Batch(X[:0], Y[:0])), ValueError, "it has shape (0, 2)"),
    "nan in the data": (
        lambda: train(batch=xj.Batch(with_nan(), Y)),
        ValueError,
        "batch.x[2, 1]=nan must be finite",
    ),
    "infinite targets": (lambda: train(batch=xj.Batch(X, Y / 0)), ValueError, "batch.y[0, 0]=nan must be finite"),
    "complex data": (
        lambda: train(batch=xj.Batch(X * 1j, Y)),
        TypeError,
        "batch.x must be real numbers, got dtype complex64",
    ),
    "text for data": (
        lambda: train(batch=xj.Batch(X.astype(str), Y)),
        TypeError,
        "batch.x must be real numbers, got dtype <U",
    ),
    "data that is no batch": (lambda: train(batch=X), TypeError, "batch must be a Batch(x, y), got ndarray"),
    "a model for other targets": (
        lambda: train(model=xj.mlp((2, 2))),
        ValueError,
        "batch.y has shape (4, 1)",
    ),
    "a model for other inputs": (lambda: train(model=xj.mlp((3, 1))), ValueError, "x has shape (4, 2)"),
    "no epochs": (lambda: train(epochs=0), ValueError, "epochs=0 must be between 1 and 1073741824"),
    "half an epoch": (lambda: train(epochs=1e5), TypeError, "epochs=100000.0 must be an integer"),
    "a batch larger than the data": (
        lambda: train(batch_size=5),
        ValueError,
        "batch_size=5 must be between 1 and n=4",
    ),
    "an empty batch": (lambda: train(batch_size=0), ValueError, "batch_size=0 must be between 1 and n=4"),
    "records past the end": (
        lambda: train(record_every=4),
        ValueError,
        "record_every=4 must be between 1 and epochs=3",
    ),
    "records every so often and at some epochs": (
        lambda: train(record_every=1, record_at=[0]),
        ValueError,
        "record_every=1 and record_at=[0] are given; one of them must be None",
    ),
    "records at no epoch": (lambda: train(record_at=[]), ValueError, "record_at=[] must hold at least one epoch"),
    "records in no order": (
        lambda: train(record_at=[2, 1]),
        ValueError,
        "record_at=[2, 1] must hold at least one",
    ),
    "records at one number": (
        lambda: train(record_at=2),
        TypeError,
        "record_at=2 must be a list of epochs, such as xj.training.log_spaced(3)",
    ),
    "a record past the end": (
        lambda: train(record_at=[0, 4]),
        ValueError,
        "record_at[1]=4 must be between 0 and epochs=3",
    ),
    "an unknown record": (
        lambda: train(record_every=1, record=["parms"]),
        ValueError,
        "record='parms' must be one of predictions, params, gradient_norm; did you mean 'params'?",
    ),
    "a record that is no list": (
        lambda: train(record_every=1, record="params"),
        TypeError,
        "record='params' must be a list of names",
    ),
    "records at no time": (
        lambda: train(record=["params"]),
        ValueError,
        "record=['params'] would have no effect: say when, by record_every or record_at",
    ),
    "an observation that is no function": (
        lambda: train(record_every=1, observe="norm"),
        TypeError,
        "observe='norm' must be a function of params and hparams",
    ),
    "an observation of what is not there": (
        lambda: train(record_every=1, observe=lambda p, h: h["rate"]).run(KEY),
        ValueError,
        "observe(params, hparams) failed for params=",
    ),
    "log-spaced epochs to none": (lambda: xj.training.log_spaced(0), ValueError, "epochs=0 must be between 1 and"),
    "no log-spaced epochs": (lambda: xj.training.log_spaced(9, 0), ValueError, "per_decade=0 must be above 0"),
    "a threshold in words": (lambda: train(threshold="half"), TypeError, "threshold='half' must be a real number"),
    "a sample of half": (lambda: train(resample=0.5), TypeError, "resample=0.5 must be True or False"),
    "validation on what is no batch": (
        lambda: train(validation=3),
        TypeError,
        "validation must be a Batch(x, y), got int",
    ),
    "validation with other inputs": (
        lambda: train(validation=xj.parity(3)),
        ValueError,
        "validation.x has 3 columns and batch.x has 2; they must be equal",
    ),
    "half of the rows and more": (
        lambda: xj.tasks.split(XOR, 1.5),
        ValueError,
        "share=1.5 must be between 0 and 1",
    ),
    "rows of a split in words": (
        lambda: xj.tasks.split(XOR, "half"),
        TypeError,
        "share='half' must be a real number",
    ),
    "one row to split": (
        lambda: xj.tasks.split(xj.Batch(np.ones((1, 2)), np.ones((1, 1))), 0.5),
        ValueError,
        "batch has 1 row; at least two are wanted",
    ),
    "softmax of one output": (
        lambda: train(loss=xj.losses.softmax_cross_entropy),
        ValueError,
        "logits have shape (4, 1); softmax needs at least two outputs",
    ),
    "records of every 0th epoch": (lambda: train(record_every=0), ValueError, "record_every=0 must be between 1"),
    "shuffling by text": (lambda: train(shuffle="yes"), TypeError, "shuffle='yes' must be True or False"),
    "an unknown stop": (
        lambda: train(stop="solve"),
        ValueError,
        "stop='solve' must be one of never, solved; did you mean 'solved'?",
    ),
    "a stop that is no text": (
        lambda: train(stop=None),
        TypeError,
        "stop=None must be 'never', 'solved', a StopRule such as xj.training.plateau(100), or a list of these",
    ),
    "a loss by name": (lambda: train(loss="mse"), TypeError, "loss='mse' must be a function"),
    "a loss for each row": (
        lambda: train(loss=lambda y_hat, y: (y_hat - y) ** 2),
        ValueError,
        "loss(y_hat, y) must give a real scalar",
    ),
    "a rule that answers with a number": (
        lambda: train(
            stop=xj.training.StopRule(lambda dtype: (), lambda carried, solved, loss, epoch: (carried, loss))
        ).init(KEY),
        ValueError,
        "stop.update must answer with a Boolean scalar, got ShapeDtypeStruct(shape=(), dtype=float32)",
    ),
    "a rule that carries something else": (
        lambda: train(
            stop=xj.training.StopRule(
                lambda dtype: np.int32(0), lambda carried, solved, loss, epoch: (loss, solved)
            )
        ).init(KEY),
        ValueError,
        "stop.update must carry on what stop.init gives",
    ),
    "a plateau without end": (
        lambda: xj.training.plateau(3, np.inf),
        ValueError,
        "improvement=inf must be 0 or more, and finite",
    ),
    "an observation in words": (
        lambda: train(record_every=1, observe=lambda p, h: {"a": "abc"}).init(KEY),
        TypeError,
        "observe(params, hparams)['a'] must be a number or an array of them, got 'abc'",
    ),
    "a sample of what is no mean": (
        lambda: train(loss=lambda y_hat, y: jnp.sum((y_hat - y) ** 2), resample=True),
        ValueError,
        "loss must be a mean over the rows for resample=True: the loss of all rows is ",
    ),
    "an infinite threshold": (lambda: train(threshold=np.inf), ValueError, "threshold=inf must be finite"),
    "records at an array of no axis": (
        lambda: train(record_at=np.array(3)),
        TypeError,
        "record_at=array(3) must be a list of epochs",
    ),
    "a loss that fits the batch alone": (
        lambda: train(
            loss=lambda y_hat, y: jnp.mean(np.ones((4, 1), np.float32) * (y_hat - y) ** 2),
            validation=xj.Batch(np.zeros((3, 2)), np.zeros((3, 1))),
        ),
        ValueError,
        "loss(y_hat, y) failed for the 3 rows of validation",
    ),
    "moments of rows held out where none are": (
        lambda: ensemble([0], reduce=accumulators.moments("validation_loss")),
        ValueError,
        "of='validation_loss' needs a trainer with rows held out: xj.trainer(..., validation=...)",
    ),
    "a rule that is a number": (lambda: train(solved=0.01), TypeError, "solved=0.01 must be a function"),
    "a rule that gives a number": (
        lambda: train(solved=lambda y_hat, y, loss: loss),
        ValueError,
        "solved(y_hat, y, loss) must give a Boolean scalar",
    ),
    "an old-style key": (lambda: TRAINER.init(jax.random.PRNGKey(0)), TypeError, "must be a typed key"),
    "a seed for a key": (
        lambda: TRAINER.run(7),
        TypeError,
        "key=7 must be a typed key, such as jax.random.key(0)",
    ),
    "hparams that nothing takes": (
        lambda: TRAINER.run(KEY, {"learning_rate": 0.5}),
        ValueError,
        "hparams={'learning_rate': 0.5} would have no effect",
    ),
    # ensembles
    "no seeds": (lambda: ensemble([]), ValueError, "seeds must hold at least one seed"),
    "an empty range": (lambda: ensemble(range(0)), ValueError, "seeds must hold at least one seed"),
    "a count of seeds": (lambda: ensemble(10), TypeError, "seeds=10 must be a range, list or array"),
    "seeds as text": (lambda: ensemble("123"), TypeError, "seeds='123' must be a range"),
    "float seeds": (lambda: ensemble([0.0, 1.0]), TypeError, "seeds must be integers, got dtype float64"),
    "Boolean seeds": (
        lambda: ensemble(np.array([True])),
        TypeError,
        "seeds must be integers, got dtype bool",
    ),
    "a negative seed": (
        lambda: ensemble([3, -1]),
        ValueError,
        "between 0 and 2**32 - 1 = 4294967295, got -1 to 3",
    ),
    "a seed over 2^32 - 1": (lambda: ensemble([2**32]), ValueError, "got 4294967296."),
    "a seed over 2^64": (lambda: ensemble([1, 2**70]), ValueError, f"got 1 to {2**70}"),
    "a range over 2^32 - 1": (lambda: ensemble(range(5, 2**33)), ValueError, "got 5 to 8589934591"),
    "a range that falls below 0": (lambda: ensemble(range(3, -2, -1)), ValueError, "got -1 to 3"),
    "seeds in rows": (
        lambda: ensemble(np.ones((2, 2), int)),
        ValueError,
        "seeds must have one axis, got shape (2, 2)",
    ),
    "a nan learning rate": (
        lambda: ensemble([0, 1], {"learning_rate": np.nan}, BY_RATE),
        ValueError,
        "hparams['learning_rate'] must not be nan",
    ),
    "nan for one member": (
        lambda: ensemble([0, 1], {"learning_rate": [0.1, np.nan]}, BY_RATE),
        ValueError,
        "hparams['learning_rate'] must not be nan; member 1 is",
    ),
    "hparams of the wrong length": (
        lambda: ensemble([0, 1], {"learning_rate": np.ones(3)}, BY_RATE),
        ValueError,
        "hparams['learning_rate'] has shape (3,); it must be a scalar or have a leading axis of 2",
    ),
    "a learning rate as text": (
        lambda: ensemble([0], {"learning_rate": "0.1"}, BY_RATE),
        TypeError,
        "hparams['learning_rate'] must be real numbers, got dtype <U3",
    ),
    "a complex learning rate": (
        lambda: ensemble([0], {"learning_rate": 1j}, BY_RATE),
        TypeError,
        "hparams['learning_rate'] must be real numbers, got dtype complex128",
    ),
    "a missing hyper-parameter": (
        lambda: ensemble([0], {}, BY_RATE),
        ValueError,
        "optimizer(hparams) failed for hparams={} with KeyError: 'learning_rate'",
    ),
    "a misnamed hyper-parameter": (
        lambda: BY_RATE.run(KEY, {"lr": 0.1}),
        ValueError,
        "optimizer(hparams) failed for hparams={'lr': 0.1} with KeyError: 'learning_rate'",
    ),
    "no hparams where one is wanted": (
        lambda: BY_RATE.run(KEY),
        ValueError,
        "optimizer(hparams) failed for hparams=None with TypeError",
    ),
    "a complex rate for one network": (
        lambda: BY_RATE.run(KEY, {"learning_rate": 0.5j}),
        TypeError,
        "hparams['learning_rate'] must be real numbers, got dtype complex128",
    ),
    "hparams in a ragged list": (
        lambda: ensemble([0, 1], {"learning_rate": [0.1, [0.2, 0.3]]}, BY_RATE),
        TypeError,
        "hparams['learning_rate'] must be real numbers, got [0.1, [0.2, 0.3]]",
    ),
    "a rate too large for an integer": (
        lambda: ensemble([0], {"learning_rate": 2**40}, BY_RATE),
        ValueError,
        "hparams['learning_rate']=1099511627776 is too large for 32-bit integers",
    ),
    "ragged seeds": (lambda: ensemble([0, [1, 2]]), TypeError, "seeds must be integers"),
    "seeds in a set": (lambda: ensemble({1, 2}), TypeError, "must be a range, list or array of integers."),
    "one number of epochs for many records": (
        lambda: train(epochs=1000, record_every=1).run_epochs(TRAINER.init(KEY), None, 65),
        ValueError,
        "epochs has shape (); it must be (64,), record_slots=64",
    ),
    "many numbers of epochs for no records": (
        lambda: train(epochs=1000).run_epochs(TRAINER.init(KEY), None, np.array([1, 2])),
        ValueError,
        "epochs has shape (2,); it must be a scalar without records",
    ),
    "an ensemble of hparams that nothing takes": (
        lambda: ensemble([0], {"learning_rate": 0.5}),
        ValueError,
        "would have no effect",
    ),
    "a kernel where there is none": (
        lambda: ensemble([0], engine="pallas"),
        ValueError,
        "engine='pallas' is for GPUs and TPUs, and JAX runs on cpu here; available are auto, lanes, vmap,",
    ),
    "a step too big for a kernel": (
        lambda: ensemble([0], trainer=train(xj.mlp((2, 100, 1))), engine="interpret"),
        ValueError,
        "engine='interpret' can't train this: a member would need 1,",
    ),
    "an epoch too long for a kernel": (
        lambda: ensemble([0], trainer=train(xj.mlp((2, 40, 40, 1))), engine="interpret"),
        ValueError,
        "can't train this: an epoch may have 46,270 scalar operations; 10,000 are allowed; engine='lanes' can.",
    ),
    "an unknown precision": (
        lambda: ensemble([0], precision="quick"),
        ValueError,
        "precision='quick' must be one of float32, fast",
    ),
    "an ensemble within a trace": (
        lambda: jax.jit(lambda: ensemble([0]).loss)(),
        ValueError,
        "train_ensemble compiles by itself: call it outside of jax.jit, or use trainer.run",
    ),
    "a mesh of another axis": (
        lambda: ensemble([0], mesh=jax.make_mesh((1,), ("batch",))),
        ValueError,
        "mesh has the axes ('batch',); its one axis must be 'member', as in jax.make_mesh((1,), ('member',)).",
    ),
    "a mesh of two axes": (
        lambda: ensemble([0], mesh=jax.make_mesh((1, 1), ("member", "model"))),
        ValueError,
        "mesh has the axes ('member', 'model'); its one axis must be 'member'",
    ),
    "a number of devices as a mesh": (
        lambda: ensemble([0], mesh=8),
        TypeError,
        "mesh=8 must be a jax.sharding.Mesh, such as jax.make_mesh((n,), ('member',))",
    ),
    "a mesh with a device twice": (
        lambda: ensemble([0, 1], mesh=Mesh(np.array(jax.devices()[:1] * 2), ("member",))),
        ValueError,
        "must have each device once",
    ),
    "an unknown engine": (
        lambda: ensemble([0], engine="vmaps"),
        ValueError,
        "engine='vmaps' must be one of auto, lanes, vmap, interpret; did you mean 'vmap'?",
    ),
    "a chunk of nothing": (lambda: ensemble([0], chunk_size=0), ValueError, "chunk_size=0 must be between 1 and"),
    "half a chunk": (lambda: ensemble([0], chunk_size=1.5), TypeError, "chunk_size=1.5 must be an integer"),
    "progress that is none": (lambda: ensemble([0], progress=True), TypeError, "progress=True must be a function"),
    "no time": (lambda: ensemble([0], seconds=0), ValueError, "seconds=0 must be above 0"),
    "a time in words": (
        lambda: ensemble([0], seconds="1 min"),
        TypeError,
        "seconds='1 min' must be a real number",
    ),
    "a reduction by name": (
        lambda: ensemble([0], reduce="mean"),
        TypeError,
        "reduce='mean' must be an Accumulator, or a dictionary of them",
    ),
    "members with hparams besides": (
        lambda: xj.train_ensemble(BY_RATE, xj.grid(seeds=[0], learning_rate=[0.1]), {"learning_rate": 0.2}),
        ValueError,
        "hparams={'learning_rate': 0.2} must be None, since <Members: 1 seed × 1 learning_rate> have their own",
    ),
    # members
    "a grid without seeds": (lambda: xj.grid(learning_rate=[0.1]), TypeError, "grid() needs seeds, such as"),
    "a grid of a count of seeds": (
        lambda: xj.grid(seeds=10),
        TypeError,
        "seeds=10 must be a range, list or array",
    ),
    "a grid over nothing": (
        lambda: xj.grid(seeds=[0], momentum=[]),
        ValueError,
        "momentum=[] must hold at least one value",
    ),
    "a grid over nan": (lambda: xj.grid(seeds=[0], rate=[0.1, np.nan]), ValueError, "rate must not be nan"),
    "a grid over text": (
        lambda: xj.grid(seeds=[0], rate="0.1"),
        TypeError,
        "rate must be real numbers, got dtype",
    ),
    "a grid over a distribution": (
        lambda: xj.grid(seeds=[0], rate=stats.uniform(0, 1)),
        TypeError,
        "rate must be real numbers, got a distribution; random_search takes those",
    ),
    "a hyper-parameter called as an axis": (
        lambda: xj.grid(seeds=[0], seed=[1, 2]),
        ValueError,
        "seed=[1, 2] can't be a hyper-parameter, since 'seed' names an axis",
    ),
    "more members than can be numbered": (
        lambda: xj.grid(seeds=range(2**32), a=np.zeros(2**16), b=np.zeros(2**16)),
        ValueError,
        "members; 2**63 - 1 are allowed",
    ),
    "one member of a grid": (
        lambda: xj.grid(seeds=[0])[0],
        TypeError,
        "members are asked for by slices of neighbours",
    ),
    "a search by a seed": (
        lambda: xj.random_search(0, 5, seeds=[0]),
        TypeError,
        "key=0 must be a typed key, such as jax.random.key(0)",
    ),
    "a search of nothing": (
        lambda: xj.random_search(KEY, 0, seeds=[0]),
        ValueError,
        "draws=0 must be between 1 and",
    ),
    "a search in a list": (
        lambda: xj.random_search(KEY, 5, seeds=[0], rate=[0.1, 0.2]),
        TypeError,
        "rate=[0.1, 0.2] must be a frozen SciPy distribution or a number",
    ),
    "a search in a distribution of nothing": (
        lambda: xj.random_search(KEY, 5, seeds=[0], rate=stats.uniform(0, -1)),
        ValueError,
        "rate=uniform has parameters for which it has no median",
    ),
    # stopping
    "a plateau of no epochs": (lambda: xj.training.plateau(0), ValueError, "epochs=0 must be between 1 and"),
    "a plateau that falls": (
        lambda: xj.training.plateau(5, -0.1),
        ValueError,
        "improvement=-0.1 must be 0 or more",
    ),
    "a plateau by nan": (
        lambda: xj.training.plateau(5, float("nan")),
        ValueError,
        "improvement=nan must be 0 or more",
    ),
    "a list with an unknown stop": (
        lambda: train(stop=["solved", "plateau"]),
        ValueError,
        "stop='plateau' must be one of never, solved",
    ),
    # replay
    "a replay of nothing": (
        lambda: xj.replay(TRAINER, 0, epochs=[]),
        ValueError,
        "epochs=[] must hold at least one epoch, in ascending order",
    ),
    "a replay backwards": (lambda: xj.replay(TRAINER, 0, epochs=[2, 1]), ValueError, "epochs=[2, 1] must hold"),
    "a replay past the end": (
        lambda: xj.replay(TRAINER, 0, epochs=[0, 4]),
        ValueError,
        "epochs[1]=4 must be between 0 and 3",
    ),
    "a replay of a model": (
        lambda: xj.replay(MODEL, 0, epochs=[1]),
        TypeError,
        "trainer must come from xj.trainer",
    ),
    # accumulators
    "a share of what is not known": (
        lambda: accumulators.share("solve"),
        ValueError,
        "of='solve' must be one of solved, diverged, unfinished, all_right, validation_all_right; did you mean",
    ),
    "a share by an unknown interval": (
        lambda: accumulators.share(method="wald"),
        ValueError,
        "method='wald' must be one of wilson, exact",
    ),
    "a share with certainty": (
        lambda: accumulators.share(confidence=1),
        ValueError,
        "confidence=1 must be between",
    ),
    "moments of what is not known": (
        lambda: accumulators.moments("losses"),
        ValueError,
        "of='losses' must be one of",
    ),
    "a quantile above 1": (
        lambda: accumulators.quantiles([0.5, 50]),
        ValueError,
        "at[1]=50 must be between 0 and 1",
    ),
    "a group by an unknown axis": (
        lambda: ensemble([0], reduce=accumulators.share(by=["momentum"])),
        ValueError,
        "by='momentum' must be one of seed",
    ),
    "a group by a letter": (
        lambda: accumulators.share(by="momentum"),
        TypeError,
        "by='momentum' must be a list of different axes",
    ),
    "a group by an axis twice": (
        lambda: accumulators.times(by=["seed", "seed"]),
        TypeError,
        "by=['seed', 'seed'] must be a list of different axes",
    ),
    "one quantile": (lambda: accumulators.quantiles(0.5), TypeError, "at=0.5 must be a list of shares"),
    "moments of two values a member": (
        lambda: ensemble([0], reduce=accumulators.moments(of=lambda results: np.zeros((1, 2)))),
        ValueError,
        "of(results) must give one value a member, (1,), got (1, 2)",
    ),
    "classes of no targets": (lambda: accumulators.classes(np.zeros((4, 2))), ValueError, "targets (4, 2)"),
    "hidden units of other inputs": (
        lambda: ensemble([0], reduce=accumulators.hidden_units(np.zeros((4, 3)), of=None)),
        ValueError,
        "x has 3 columns; the networks have 2 inputs",
    ),
    "every other member": (lambda: xj.grid(seeds=range(9))[::2], TypeError, "slices of neighbours"),
    "hidden units on too many rows": (
        lambda: accumulators.hidden_units(np.zeros((63, 2))),
        ValueError,
        "x has shape (63, 2); it must be (n, n_in), with 1 to 62 rows",
    ),
    "batches of members that are no batches": (
        lambda: xj.train_ensemble(train(batch=lambda h: h["x"], optimizer=SGD), [0], {"x": 1.0}),
        TypeError,
        "batch must be a Batch(x, y)",
    ),
    "an ensemble of a model": (
        lambda: ensemble([0], trainer=MODEL),
        TypeError,
        "trainer must come from xj.trainer",
    ),
    # statistics
    "quantiles of two axes": (lambda: statistics.quantiles(np.ones((2, 3)), [0.5]), ValueError, "shape (2, 3)"),
    "a share of nobody": (lambda: statistics.proportion(np.array([], bool)), ValueError, "at least one member"),
    "classes of other shapes": (
        lambda: outcomes.count_outcomes(np.zeros((5, 3, 1)), Y),
        ValueError,
        "predictions have shape (5, 3, 1) and targets (4, 1)",
    ),
    "classes of targets in between": (
        lambda: outcomes.count_outcomes(np.zeros((5, 4, 1)), Y / 2),
        ValueError,
        "targets must be 0 or 1",
    ),
}


SLOW = {"a step too big for a kernel": pytest.mark.slow}  # 10 s of tracing


@pytest.mark.filterwarnings("ignore:.*divide:RuntimeWarning", "ignore:.*invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in WRONG])
def test_wrong_calls_say_what_is_wrong(name):
    call, error, text = WRONG[name]
    with pytest.raises(error, match=re.escape(text)):
        call()


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"PK\x03\x04 no archive"])
def test_files_that_keras_did_not_write(tmp_path, content):
    path = tmp_path / "bad.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.keras.* is not a \.keras or \.weights\.h5 file of Keras 3"):
        xj.keras.params_from_keras(path)


@pytest.mark.parametrize("name", ["conv2d/vars/0", "sequential/layers/dense/vars/0", "dense_2/quantized/vars/0"])
def test_a_file_whose_layers_are_not_dense_in_a_row(tmp_path, name):
    path = tmp_path / "other.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = np.ones((3, 3)), np.ones(3)
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        assert len(xj.keras.params_from_keras([file["layers/dense/vars/0"], file["layers/dense/vars/1"]])) == 1
        file[f"layers/{name}"] = np.ones((3, 3))
    with pytest.raises(ValueError, match=rf"'{name}' is not a variable of a Dense layer in a row"):
        xj.keras.params_from_keras(path)


def test_a_damaged_file_is_one_error_whatever_the_damage(tmp_path):
    """Bytes of a real file changed at random places: read all the same, or refused in the same words."""
    rng, path, refused = np.random.default_rng(0), tmp_path / "damaged.keras", 0
    original = (Path(__file__).parent / "data" / "deep.keras").read_bytes()
    for _ in range(60):
        content = np.frombuffer(original, np.uint8).copy()
        places = rng.integers(0, len(content), 40)
        content[places] = rng.integers(0, 256, 40)
        path.write_bytes(content.tobytes())
        try:
            xj.keras.params_from_keras(path)
        except ValueError as error:
            refused += "weights" in str(error)
    assert refused > 30
