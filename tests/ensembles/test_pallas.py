"""The kernel of the engine `pallas`: what it computes, interpreted; and that it lowers for what is not here."""

import base64
import json
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.experimental import io_callback
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh
from jaxlib.mlir import ir

import xorjax as xj
from xorjax.ensembles.engines import choice, lanes, pallas
from xorjax.ensembles.engines.choice import choose_engine
from xorjax.ensembles.rounds import zero_epochs
from xorjax.ensembles.scheduler import plan_chunk
from xorjax.lanes.kernel.backends import BACKENDS
from xorjax.lanes.kernel.launch import run_kernel, scalarize_loop, unsupported_reason
from xorjax.lanes.transform import merge_blocks

MODEL, XOR = xj.mlp((2, 2, 1)), xj.xor()
RATE = {"learning_rate": 0.5}
MEMBERS = 200


def trainer(optimizer=optax.sgd, model=MODEL, batch=XOR, epochs=60, **options):
    return xj.trainer(model, batch, lambda h: optimizer(h["learning_rate"]), epochs=epochs, **options)


def branching(params, x):
    y_hat = MODEL.apply(params, x)
    return lax.switch(jnp.int32(params[0].kernel[0, 0] > 0), [lambda: y_hat, lambda: 0.9 * y_hat])


WITHOUT_BIASES = xj.Model(
    lambda key: tuple(dense.kernel for dense in MODEL.init(key)),
    lambda kernels, x: jax.nn.sigmoid(jax.nn.relu(x @ kernels[0]) @ kernels[1]),  # which the row 0, 0 makes known
)

TRAINERS = {
    "SGD": trainer,
    "momentum": partial(trainer, partial(optax.sgd, momentum=0.9)),
    "Adam": partial(trainer, optax.adam),
    "RMSprop": partial(trainer, optax.rmsprop),
    "noise by keys": partial(trainer, optax.noisy_sgd),
    "three units": partial(trainer, model=xj.mlp((2, 3, 1))),
    "ReLU, cross-entropy": partial(
        trainer, model=xj.mlp((2, 4, 1), hidden="relu", output="linear"), loss=xj.losses.sigmoid_cross_entropy
    ),
    "Lion": partial(trainer, optax.lion),
    "updates if finite": partial(trainer, lambda rate: optax.apply_if_finite(optax.sgd(rate), 3)),
    "tanh": partial(trainer, model=xj.mlp((2, 2, 1), hidden="tanh")),
    "softmax": partial(
        trainer,
        model=xj.mlp((2, 3, 2), output="softmax"),
        batch=xj.Batch(XOR.x, np.eye(2, dtype=np.float32)[XOR.y[:, 0].astype(int)]),
    ),
    "branches": partial(trainer, model=xj.Model(MODEL.init, branching)),
    "no biases": partial(trainer, model=WITHOUT_BIASES),
    "three bits": partial(trainer, model=xj.mlp((3, 2, 1)), batch=xj.parity(3)),
    "batches of 1": partial(trainer, batch_size=1),
    "batches of 3": partial(trainer, batch_size=3),
    "bootstrap": partial(trainer, resample=True),
    "records": partial(trainer, record_every=7),
    "stops when solved": partial(trainer, partial(optax.sgd, momentum=0.9), epochs=400, stop="solved"),
    "stops on a plateau": partial(trainer, stop=xj.training.plateau(20, 1e-3)),
}


# The others run with the slow tests.
QUICK = ("SGD", "batches of 3", "stops when solved")
EVERY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TRAINERS]

# In ulps of the largest number that a member carries: by rounding alone, and by what divides a gradient that is
# itself little more than rounding by its own size.
TOLERANCE = {"Adam": 4, "RMSprop": 100}
ALIKE = 2


def floats(states):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(states) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def others(states):
    kept = [leaf for leaf in jax.tree.leaves(states) if not jnp.issubdtype(leaf.dtype, jnp.floating)]
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in kept]
    return [np.asarray(jax.random.key_data(x) if key else x) for x, key in zip(kept, is_key, strict=True)]


@pytest.mark.slow
@pytest.mark.lenient
@pytest.mark.parametrize("name", TRAINERS)
def test_an_epoch_is_that_of_lanes(name):
    made, n = TRAINERS[name](), 128
    in_lanes, in_kernel = lanes.make_functions(made), pallas.make_functions(made, BACKENDS["interpret"])
    hparams = {"learning_rate": jnp.linspace(0.1, 2.0, n)}
    states = in_lanes.init(jnp.arange(n, dtype=jnp.uint32), hparams)

    def epochs(number):
        """So many, and where it records another one after a span of none."""
        spans = zero_epochs(made)
        if spans.ndim:
            spans[[0, 2]] = number, 1
        return spans if spans.ndim else np.int32(number)

    for before in (0, 40):
        states, _ = in_lanes.run_epochs(states, hparams, epochs(before), np.full(1, n, np.int32))
        start = jax.tree.map(merge_blocks, states)
        wanted, wanted_info = in_lanes.run_epochs(states, hparams, epochs(1), np.full(1, n, np.int32))
        wanted = jax.tree.map(merge_blocks, wanted)
        got, info = in_kernel.run_epochs(start, hparams, epochs(1), np.full(1, n, np.int32))
        assert jax.tree.structure(got) == jax.tree.structure(wanted)
        sizes = [np.where(np.isfinite(x), np.abs(x), 0).reshape(-1, n) for x in floats((start, wanted))]
        largest = np.concatenate(sizes).max(axis=0)
        for a, b in zip(floats(got), floats(wanted), strict=True):
            difference = np.where(a == b, 0, np.abs(a - b)) / np.spacing(largest)
            assert np.nanmax(difference) <= TOLERANCE.get(name, ALIKE)
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        for a, b in zip(others(got), others(wanted), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (info is None) == (wanted_info is None)
        for a, b in zip(floats(info), floats(wanted_info), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batches of 3", "records", "stops when solved"])
def test_whole_runs_are_those_of_lanes(name):
    made, rates = TRAINERS[name](), {"learning_rate": np.linspace(0.1, 2.0, MEMBERS)}
    got = xj.train_ensemble(made, range(MEMBERS), rates, engine="interpret")
    wanted = xj.train_ensemble(made, range(MEMBERS), rates, engine="lanes")
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(got.outcome, wanted.outcome)
    if name == "stops when solved":
        assert 0.1 < (got.outcome == xj.Outcome.SOLVED).mean() < 0.9
        assert (got.epochs < made.epochs).any()


@pytest.mark.slow
def test_a_kernel_takes_truths_by_member_and_draws_of_nothing():
    def apply(params, x):
        return MODEL.apply(params, x) + jax.random.normal(jax.random.key(1), (0,)).sum()

    made = xj.trainer(
        xj.Model(MODEL.init, apply),
        XOR,
        lambda h: optax.sgd(jnp.where(h["fast"], h["rate"], jnp.float32(0.1))),
        epochs=20,
    )
    given = {"fast": np.arange(MEMBERS) % 2 == 0, "rate": np.linspace(0.5, 2.0, MEMBERS)}
    got, wanted = (xj.train_ensemble(made, range(MEMBERS), given, engine=name) for name in ("interpret", "lanes"))
    np.testing.assert_allclose(got.loss, wanted.loss, rtol=1e-5)


@pytest.mark.slow
def test_a_kernel_follows_the_settings_of_jax():
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.5), epochs=4, batch_size=2)

    def check():
        kernel, in_lanes = (
            xj.train_ensemble(trainer, range(5), engine=name).loss for name in ("interpret", "lanes")
        )
        np.testing.assert_allclose(kernel, in_lanes, rtol=1e-6)
        return kernel

    usual = check()
    with jax.threefry_partitionable(False):  # another shuffle
        other = check()
    assert (usual != other).any()
    with jax.enable_x64(True):
        assert check().dtype == np.float64


@pytest.mark.parametrize("calls_back", [io_callback, jax.pure_callback, None])
def test_what_calls_back_is_not_for_a_kernel(calls_back):
    def update(updates, state, params=None):
        if calls_back is None:
            jax.debug.print("an update")
            return updates, state
        factor = calls_back(lambda: np.float32(0.1), jax.ShapeDtypeStruct((), jnp.float32))
        return jax.tree.map(lambda g: -factor * g, updates), state

    optimizer = optax.GradientTransformation(lambda params: (), update)
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optimizer, epochs=3)
    with pytest.raises(ValueError, match=r"(callback|debug_print)' is not to be had in a kernel"):
        xj.train_ensemble(trainer, [0], engine="interpret")


def test_an_old_gpu_has_no_kernel(monkeypatch):
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.5), epochs=4)
    monkeypatch.setattr(choice, "platform_now", lambda: "gpu")
    for capability, name in {"7.5": "lanes", "gfx90a": "lanes", "8.0": "pallas", "9.0": "pallas"}.items():
        here = [SimpleNamespace(compute_capability=capability)]
        monkeypatch.setattr(jax, "local_devices", lambda here=here: here)
        found = choose_engine("auto", trainer, None)
        assert found.engine.name == name
        assert name == "pallas" or f"this device has {capability}" in found.why


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_the_chunk_of_an_accelerator_is_one_that_a_caller_may_name(platform, monkeypatch):
    """Where members stop too, for which chunks are enlarged; one that already is large stays as it is."""
    monkeypatch.setattr(choice, "platform_now", lambda: platform)
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(compute_capability="9.0")])
    made = TRAINERS["stops when solved"]()
    _, chunk_size, _ = plan_chunk(made, xj.grid(**RATE, seeds=[0]), "pallas", "float32", None)
    assert chunk_size == pallas.CHUNK_SIZE


def test_a_member_of_a_kernel_does_not_depend_on_its_company():
    made = TRAINERS["SGD"](epochs=20)
    many = xj.train_ensemble(made, range(300), RATE, engine="interpret", chunk_size=256)
    few = xj.train_ensemble(made, [7, 299, 130], RATE, engine="interpret")
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(few), strict=True):
        np.testing.assert_array_equal(a[[7, 299, 130]], b)


# What is lowered for accelerators that are not here.

DEVICES = {
    "H100": ("NVIDIA H100 80GB HBM3", "cuda", 132),
    "A100": ("NVIDIA A100-SXM4-40GB", "cuda", 108),
    "TPU v5e": ("TPU v5e", "tpu", 1),
}
CALLS = {
    "triton": ("__gpu$xla.gpu.triton", "triton_kernel_call_ffi"),
    "triton, fast": ("__gpu$xla.gpu.triton", "triton_kernel_call_ffi"),
    "tpu": ("tpu_custom_call",),
}
PLACES = [
    ("triton", "H100"),
    ("triton, fast", "H100"),
    ("tpu", "TPU v5e"),
]


def lowered_for(device, traced_in: Any):
    """What `traced_in()` gives, a traced program, lowered for a device."""
    kind, platform, cores = DEVICES[device]
    described = AbstractDevice(device_kind=kind, num_cores=cores, platform=platform)
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=described)):
        return traced_in().lower(lowering_platforms=(platform,)).compiler_ir("stablehlo")


def operations(operation):
    """All operations of a module, and of those within."""
    yield operation
    for region in operation.regions:
        for block in region:
            for inner in block:
                yield from operations(inner.operation)


def kernels_in(module):
    """The kernel calls of a module: where they go, and the names of the operations of the kernel."""
    found = []
    for call in operations(module.operation):
        if call.name == "stablehlo.custom_call":
            target = ir.StringAttr(call.attributes["call_target_name"]).value
            if any(target in names for names in CALLS.values()):
                kernel = kernel_of(call)
                found.append((target, {each.name.rpartition("mosaic_gpu.")[2] for each in operations(kernel)}))
    return found


def kernel_of(call):
    attributes = call.attributes
    if "mhlo.backend_config" in attributes:
        config = ir.DictAttr(attributes["mhlo.backend_config"])
        serialized = ir.StringAttr(config["ir" if "ir" in config else "module"]).value_bytes
    else:
        config = json.loads(ir.StringAttr(attributes["backend_config"]).value)
        serialized = base64.b64decode(config["custom_call_config"]["body"])
    context = call.context
    context.allow_unregistered_dialects = True
    with context:
        return ir.Module.parse(serialized).operation


def traced_advance(made, route, n=4_096):
    programs: Any = pallas.make_functions(made, BACKENDS[route])
    hparams = {"learning_rate": jax.ShapeDtypeStruct((n,), jnp.float32)}
    states = jax.eval_shape(programs.init, jax.ShapeDtypeStruct((n,), jnp.uint32), hparams)
    return programs.run_epochs.trace(states, hparams, zero_epochs(made), np.zeros(1, np.int32))


@pytest.mark.lenient
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("route", "device"), PLACES)
def test_the_kernel_lowers(name, route, device):
    made = TRAINERS[name]()
    reason = pallas.unsupported_reason(made, RATE, BACKENDS[route])
    assert reason is None
    ((target, names),) = kernels_in(lowered_for(device, lambda: traced_advance(made, route)))
    assert target in CALLS[route]
    assert not any("dot" in name or "mma" in name or "matmul" in name for name in names), names


@pytest.mark.parametrize(
    ("device", "how"), [("H100", {"compiler_params": triton.CompilerParams()}), ("TPU v5e", {})]
)
def test_a_product_of_matrices_would_be_seen(device, how):
    def kernel(x, y):
        y[...] = jnp.dot(x[...], x[...], preferred_element_type=jnp.float32)

    shape = jax.ShapeDtypeStruct((128, 128), jnp.float32)
    (found,) = kernels_in(lowered_for(device, lambda: jax.jit(pl.pallas_call(kernel, shape, **how)).trace(shape)))
    assert any("dot" in name or "matmul" in name for name in found[1])


def test_the_kernel_lowers_for_an_older_gpu():
    ((target, _),) = kernels_in(lowered_for("A100", lambda: traced_advance(TRAINERS["SGD"](), "triton")))
    assert target in CALLS["triton"]


def test_only_the_fast_precision_has_approximate_instructions():
    """An exponential is else a call of NVIDIA's library."""
    made = TRAINERS["SGD"]()
    exact, fast = (
        kernels_in(lowered_for("H100", partial(traced_advance, made, route)))[0][1]
        for route in ("triton", "triton, fast")
    )
    assert fast - exact == {"tt.elementwise_inline_asm"}
    assert exact - fast >= {"tt.extern_elementwise", "arith.divf"}


# Every operation that a route says it has.

UNARY = """abs acos acosh asin asinh atan atanh cbrt ceil cos cosh erf erf_inv exp exp2 expm1 floor is_finite log
    log1p logistic neg round rsqrt sign sin sinh sqrt square tan tanh""".split()
OTHERS = {
    "bitcast_convert_type": lambda x, i: lax.bitcast_convert_type(i, jnp.float32),
    "clamp": lambda x, i: lax.clamp(np.float32(0), x, np.float32(1)),
    "clz": lambda x, i: lax.clz(i).astype(jnp.float32),
    "convert_element_type": lambda x, i: i.astype(jnp.float32) + (x > 0).astype(jnp.float32),
    "integer_pow": lambda x, i: lax.integer_pow(x, 3) + lax.integer_pow(x, -1),
    "not": lambda x, i: lax.bitwise_not(i).astype(jnp.float32),
    "population_count": lambda x, i: lax.population_count(i).astype(jnp.float32),
    "rem": lambda x, i: lax.rem(x, x + x),
    "scan": lambda x, i: lax.fori_loop(0, 9, lambda _, x: x * x, x),
    "select_n": lambda x, i: lax.select(x > x * x, x, x + x),
    "while": lambda x, i: lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, c[1] * c[1]), (0, x))[1],
}
KEPT = {"broadcast_in_dim", "jit", "pjit", "elementwise_inline_asm", "elementwise_inline_asm_p"}  # seen above


def operation_of(name):
    """A function of a float and an integer that is, or ends in, this primitive."""
    if name in OTHERS:
        return OTHERS[name]
    if name in ("and", "or", "xor") or name.startswith("shift"):
        function = getattr(lax, name if name.startswith("shift") else f"bitwise_{name}")
        return lambda x, i: function(i, i).astype(jnp.float32)
    function = getattr(lax, name)
    return lambda x, i: function(*(x for _ in range(1 if name in UNARY else 2))).astype(jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("route", "device"), PLACES)
def test_a_route_has_all_operations_that_it_names(route, device):
    route = BACKENDS[route]
    names = sorted(route.primitives - KEPT)

    scalar = {dtype: jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.float32, jnp.int32)}
    arrays = [jax.ShapeDtypeStruct((1, 1_024), dtype) for dtype in scalar]

    def traced(name):
        def once(x, i, count):
            return operation_of(name)(x, i) + count.astype(jnp.float32), i

        loop = scalarize_loop(jax.make_jaxpr(once)(*scalar.values(), scalar[jnp.int32]), route)
        assert unsupported_reason(loop, route) is None
        return jax.jit(
            lambda x, i: run_kernel(loop, route, [x, i], [], jnp.ones(1, jnp.int32), jnp.int32(1_024))
        ).trace(*arrays)

    def lowered(name):
        return kernels_in(lowered_for(device, lambda: traced(name)))

    missing = [name for name in names if not lowered(name)]
    assert not missing


LARGE = ("100 units", "64 units", "two layers", "L-BFGS")  # which take long to trace
# What "auto" takes on a CPU, a GPU and a TPU, and why it is no kernel.
CHOICES = {
    "SGD": (TRAINERS["SGD"], ["lanes", "pallas", "pallas"], ""),
    "64 units": (partial(trainer, model=xj.mlp((2, 64, 1))), ["lanes", "lanes", "pallas"], "a member would need "),
    "100 units": (
        partial(trainer, model=xj.mlp((2, 100, 1))),
        ["lanes", "lanes", "lanes"],
        "a member would need ",
    ),
    "two layers": (
        partial(trainer, model=xj.mlp((2, 40, 40, 1))),
        ["lanes", "lanes", "lanes"],
        "an epoch may have ",
    ),
    "L-BFGS": (partial(trainer, optax.lbfgs), ["lanes", "lanes", "lanes"], "is not to be had in a kernel"),
    "bfloat16": (
        partial(trainer, model=xj.mlp((2, 2, 1), dtype=jnp.bfloat16)),
        ["lanes", "lanes", "lanes"],
        "it carries bfloat16, which a kernel",
    ),
}


@pytest.mark.lenient
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in CHOICES]
)
def test_the_engine_follows_from_the_program_and_the_platform(name):
    make, wanted, why = CHOICES[name]
    choices = [choose_engine("auto", make(), RATE, platform=platform) for platform in ("cpu", "gpu", "tpu")]
    assert [each.engine.name for each in choices] == wanted
    for each in choices[1:]:
        assert (why if each.engine.name == "lanes" else "an epoch fits a kernel: ") in each.why


def test_double_precision_is_for_gpus():
    with jax.enable_x64(True):
        made = trainer(model=xj.mlp((2, 2, 1), dtype=jnp.float64))
        hparams = {"learning_rate": np.float64(0.5)}
        assert pallas.unsupported_reason(made, hparams, BACKENDS["triton"]) is None
        assert "float64, which a kernel (tpu) does not" in (
            pallas.unsupported_reason(made, hparams, BACKENDS["tpu"]) or ""
        )


def test_a_member_takes_less_than_200_bytes_of_a_device():
    """Of arguments and results of the kernel's program, which has nothing else."""
    n = 2**20
    module = lowered_for("H100", lambda: traced_advance(TRAINERS["SGD"](), "triton", n))
    (main,) = (each for each in operations(module.operation) if each.name == "func.func")
    types = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
    sizes = [ir.RankedTensorType(t) for t in (*types.inputs, *types.results)]
    held = sum(int(np.prod(t.shape)) * int(str(t.element_type)[-2:]) // 8 for t in sizes)
    assert 80 * n < held < 200 * n
