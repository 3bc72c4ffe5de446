"""`scalarize` and `lane_vmap` compose with JAX as `jax.vmap` does: in every order, form of call and dtype."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.extend.core import Literal

import xorjax as xj

pytestmark = pytest.mark.usefixtures("quick_compiler")

CONSTANT = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
DEPTHS = ("scalar", "array")
by_depth = pytest.mark.parametrize("depth", DEPTHS)


def drawn(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def net(w, x):
    """(2, 2) and (2,) to (2,)."""
    return jnp.tanh(w @ x) + jnp.sin(x)


def loss(w, x):
    return jnp.sum(jnp.square(net(w, x)))


def assert_alike(got, wanted, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert jax.typeof(a).str_short() == jax.typeof(b).str_short()
        assert a.weak_type == b.weak_type
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol)


# Transformations, in both orders.

W, X = drawn(5, 2, 2), drawn(5, 2, seed=1)
TANGENTS = drawn(5, 2, 2, seed=2), drawn(5, 2, seed=3)


def lane_vmaps(**options):
    return {depth: partial(xj.lane_vmap, depth=depth, **options) for depth in DEPTHS}


MAPS = {**lane_vmaps(), "scalarize": lambda fn, *axes: jax.vmap(xj.lanes.scalarize(fn), *axes)}
AROUND = {
    "jit": lambda vmap: jax.jit(vmap(net)),
    "grad around": lambda vmap: jax.grad(lambda w, x: jnp.sum(vmap(loss)(w, x)), argnums=(0, 1)),
    "grad within": lambda vmap: vmap(jax.grad(loss, argnums=(0, 1))),
    "value and grad within grad": lambda vmap: jax.grad(
        lambda w, x: jnp.sum(jnp.square(vmap(jax.grad(loss))(w, x)))
    ),
    "jvp around": lambda vmap: lambda *xs: jax.jvp(vmap(net), xs, TANGENTS),
    "jvp within": lambda vmap: vmap(lambda w, x: jax.jvp(net, (w, x), (w + 1, jnp.cos(x)))),
    "vjp around": lambda vmap: lambda *xs: jax.vjp(vmap(net), *xs)[1](jnp.ones((5, 2))),
    "linearize around": lambda vmap: lambda *xs: jax.linearize(vmap(net), *xs)[1](*TANGENTS),
    "linearize within": lambda vmap: vmap(lambda w, x: jax.linearize(net, w, x)[1](w, x)),
    "hessian around": lambda vmap: jax.hessian(lambda w, x: jnp.sum(vmap(loss)(w, x)), argnums=1),
    "hessian within": lambda vmap: vmap(jax.hessian(loss)),
    "jacobians within": lambda vmap: vmap(lambda w, x: (jax.jacfwd(net)(w, x), jax.jacrev(net)(w, x))),
    "checkpoint around": lambda vmap: jax.grad(lambda w, x: jnp.sum(jax.checkpoint(vmap(loss))(w, x))),
    "checkpoint within": lambda vmap: vmap(jax.grad(jax.checkpoint(loss))),
    "scan around": lambda vmap: lambda w, x: lax.scan(lambda c, _: (vmap(net)(w, c), c), x, length=3),
    "scan within": lambda vmap: vmap(lambda w, x: lax.scan(lambda c, _: (net(w, c), c), x, length=3)),
    "grad of a scan": lambda vmap: jax.grad(
        lambda w, x: jnp.sum(vmap(lambda w, x: lax.scan(lambda c, _: (net(w, c), None), x, length=3)[0])(w, x))
    ),
    "vmap around": lambda vmap: jax.vmap(vmap(net, (None, 0)), (0, None)),
    "vmap within": lambda vmap: vmap(jax.vmap(net, (None, 0)), (0, None)),
    "itself around": lambda vmap: vmap(vmap(net, (None, 0)), (0, None)),
    "itself, both last": lambda vmap: lambda w, x: vmap(vmap(net, (-1, None)), (None, -1))(w.T, x.T),
}


def transform_all(vmap):
    return jax.jit(lambda w, x: {name: around(vmap)(w, x) for name, around in AROUND.items()})(W, X)


@pytest.mark.parametrize("way", ["scalarize", *(pytest.param(depth, marks=pytest.mark.slow) for depth in DEPTHS)])
def test_transformations(way):
    got, wanted = transform_all(MAPS[way]), transform_all(jax.vmap)
    for name in AROUND:
        assert_alike(got[name], wanted[name], rtol=1e-4, atol=1e-5)


@by_depth
def test_a_gradient_needs_no_jit(depth):
    around = AROUND["grad around"]
    assert_alike(around(partial(xj.lane_vmap, depth=depth))(W, X), around(jax.vmap)(W, X), rtol=1e-4, atol=1e-5)


CLOSED = {
    "grad": jax.grad,
    "jit of grad": lambda f: jax.jit(jax.grad(f)),
    "grad of jit": lambda f: jax.grad(jax.jit(f)),
    "hessian": jax.hessian,
    "jvp": lambda f: lambda w: jax.jvp(f, (w,), (jnp.cos(w),)),
    "vmap of grad": lambda f: lambda w: jax.vmap(jax.grad(f))(jnp.stack([w, 2 * w])),
    "grad of checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "grad of scan": lambda f: jax.grad(lambda w: lax.scan(lambda c, _: (f(c) * w, None), w, length=2)[0].sum()),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", MAPS)
def test_variables_of_the_enclosing_function_are_differentiated(way):
    def closing(vmap):
        def member(w, x):
            return lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c * w + x), jnp.sin(x * w))

        return lambda w: jnp.sum(vmap(lambda x: member(w, x))(X))

    w = drawn(2, seed=4)

    def run(vmap):
        return jax.jit(lambda w: {name: around(closing(vmap))(w) for name, around in CLOSED.items()})(w)

    got, wanted = run(MAPS[way]), run(jax.vmap)
    for name in CLOSED:
        assert_alike(got[name], wanted[name], rtol=1e-4, atol=1e-5)


@by_depth
def test_scalarize_within_lane_vmap_and_within_itself_changes_nothing(depth):
    wanted = jax.vmap(net)(W, X)
    assert_alike(xj.lane_vmap(xj.lanes.scalarize(net), depth=depth)(W, X), wanted)
    assert_alike(jax.vmap(xj.lanes.scalarize(xj.lanes.scalarize(net)))(W, X), wanted)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, xorjax as xj
from jax.sharding import Mesh, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()), ("members",))
assert mesh.size == 4
w = jnp.arange(32, dtype=jnp.float32).reshape(8, 2, 2) / 32
fn = lambda w: jax.lax.fori_loop(0, 3, lambda i, w: jnp.tanh(w @ w + w), w)
for depth in ("scalar", "array"):
    mapped = xj.lane_vmap(fn, depth=depth)
    sharded = jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=P("members"), out_specs=P("members")))
    got = sharded(w)
    assert got.sharding.num_devices == 4
    np.testing.assert_allclose(got, jax.vmap(fn)(w), rtol=1e-5, atol=1e-6)
    slopes = jax.jit(jax.grad(lambda w: jnp.sum(sharded(w))))(w)
    np.testing.assert_allclose(slopes, jax.grad(lambda w: jnp.sum(jax.vmap(fn)(w)))(w), rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
def test_members_sharded_over_devices():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_scalarized_step_lowers_within_a_pallas_kernel():
    """Every array that Pallas sees is a vector over the members: what is small is scalars before vmap."""
    step = jax.vmap(
        xj.lanes.scalarize(lambda w: w - 0.1 * jax.grad(lambda w: jnp.sum(jnp.tanh(CONSTANT @ w) ** 2))(w))
    )

    def kernel(w_ref, out_ref):
        w = jnp.stack([w_ref[i] for i in range(4)], -1).reshape(-1, 2, 2)
        w = lax.fori_loop(0, 3, lambda _, w: step(w), w)
        for i in range(4):
            out_ref[i] = w.reshape(-1, 4)[:, i]

    rows = drawn(8, 4).T
    got = pl.pallas_call(kernel, jax.ShapeDtypeStruct(rows.shape, rows.dtype), interpret=True)(rows)
    w = rows.T.reshape(8, 2, 2)
    for _ in range(3):
        w = step(w)
    assert_alike(got, w.reshape(8, 4).T)


def test_a_scalarized_step_takes_references_apart_without_vmap():
    step = xj.lanes.scalarize(lambda w: w - 0.1 * jax.grad(lambda w: jnp.sum(jnp.tanh(CONSTANT @ w) ** 2))(w))

    def kernel(w_ref, out_ref):
        new = step(jnp.stack([jnp.stack([w_ref[0], w_ref[1]]), jnp.stack([w_ref[2], w_ref[3]])]))
        for i, (row, column) in enumerate(np.ndindex(2, 2)):
            out_ref[i] = new[row, column]

    w = drawn(4)
    got = pl.pallas_call(kernel, jax.ShapeDtypeStruct(w.shape, w.dtype), interpret=True)(w)
    assert_alike(got, step(w.reshape(2, 2)).reshape(-1))


# Kinds of numbers.


@pytest.mark.parametrize(
    "way", ["array", *(pytest.param(way, marks=pytest.mark.slow) for way in ("scalar", "scalarize"))]
)
def test_double_precision(way):
    with jax.enable_x64(True):
        w, x = (jnp.asarray(np.random.default_rng(i).standard_normal((5, 2, 2)[: 3 - i])) for i in (0, 1))
        assert w.dtype == jnp.float64
        fn = jax.value_and_grad(lambda w, x: loss(w, x) + 0.1 * jnp.cumsum(w.ravel())[-1])
        assert_alike(MAPS[way](fn)(w, x), jax.vmap(fn)(w, x), rtol=1e-13, atol=1e-14)
        counted = MAPS[way](lambda x: (jnp.argmax(x), jnp.arange(2) + 2**40, x[jnp.argmin(x)]))
        assert_alike(counted(x), jax.vmap(lambda x: (jnp.argmax(x), jnp.arange(2) + 2**40, x[jnp.argmin(x)]))(x))


@by_depth
def test_indices_of_64_bits(depth):
    with jax.enable_x64(True):
        x = jnp.arange(20.0).reshape(5, 4)
        doubled = xj.lane_vmap(lambda x: lax.fori_loop(0, 3, lambda i, c: c.at[i].set(c[i] * 2), x), depth=depth)
        np.testing.assert_array_equal(doubled(x), np.asarray(x) * [2, 2, 2, 1])


NUMBERS = {
    "bfloat16": (lambda w: jnp.sum(jnp.tanh(w @ w), 0), drawn(5, 2, 2, dtype=jnp.bfloat16), 2e-2),
    "float16": (lambda w: w @ w * 2 - w.max(), drawn(5, 2, 2, dtype=jnp.float16), 1e-2),
    "int8": (lambda i: (i @ i, i.sum(0), i // 3 % 2), jnp.arange(-10, 10, dtype=jnp.int8).reshape(5, 2, 2), 0),
    "uint32": (lambda i: (i @ i - 7, i >> 1, i.prod()), jnp.arange(20, dtype=jnp.uint32).reshape(5, 2, 2), 0),
    "Booleans": (lambda b: (b @ b, b.all(0), b.sum(), ~b & b.T, b.argmax()), drawn(5, 2, 2) > 0, 0),
    "empty": (lambda x: (x @ x.T, x.T @ x, x.sum(0), jnp.sort(x, 0), x * 2), drawn(5, 3, 0), 0),
    "no members": (lambda x: (x @ x, x.sum()), drawn(0, 2, 2), 0),
    "one member": (lambda x: (x @ x, x.sum()), drawn(1, 2, 2), 1e-5),
    "weak types out": (lambda x: (x, 1.5, 2, x[0, 0] * 2, jnp.where(x > 0, 1.0, 0.0)), drawn(5, 2, 2), 1e-5),
}


@pytest.mark.parametrize("way", [*DEPTHS, pytest.param("scalarize", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_kind(name, way):
    fn, x, tolerance = NUMBERS[name]
    assert_alike(MAPS[way](fn)(x), jax.vmap(fn)(x), rtol=tolerance, atol=tolerance)


@by_depth
def test_weak_types_in_stay_weak(depth):
    weak = jnp.stack([jnp.asarray(2.0)] * 5)
    assert weak.weak_type
    half = drawn(5, 2, dtype=jnp.bfloat16)

    def fn(a, b):
        return a * b, a

    assert_alike(xj.lane_vmap(fn, depth=depth)(weak, half), jax.vmap(fn)(weak, half))
    assert_alike(xj.lane_vmap(fn, (None, 0), depth=depth)(2.0, half), jax.vmap(fn, (None, 0))(2.0, half))
    assert_alike(xj.lanes.scalarize(fn)(2.0, half), fn(jnp.asarray(2.0), half))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint32])
@pytest.mark.parametrize("divide", [lax.div, lax.rem])
def test_integers_divided_while_tracing_are_those_divided_later(divide, dtype):
    limits = np.iinfo(dtype)
    numbers = np.array(
        [limits.min, limits.min + 1, 0, 1, 2, 7, limits.max] + [-1, -2, -7] * (limits.min < 0), dtype
    )
    a, b = (x.ravel() for x in np.meshgrid(numbers, numbers))
    assert xj.lanes.count_operations(lambda: divide(a, b)) == 0
    np.testing.assert_array_equal(xj.lanes.scalarize(lambda: divide(a, b))(), divide(jnp.asarray(a), b))


@pytest.mark.lenient
@by_depth
def test_powers_of_known_numbers_reach_as_far_as_floats_do(depth):
    exponents = jnp.array([0, 1, -1, 15, 16, 17, -126, -127, 126, 127, 128, -2000, 2000, -(2**31), 2**31 - 1])
    for base in (0.5, 2.0):
        got = xj.lane_vmap(lambda n, base=base: np.float32(base) ** n, depth=depth)(exponents)
        with np.errstate(over="ignore", under="ignore"):
            wanted = (np.float64(base) ** np.asarray(exponents, np.float64)).astype(np.float32)
        np.testing.assert_array_equal(got, np.where(wanted < np.finfo(np.float32).tiny, 0, wanted))


# Forms of calls.


def combined(a, b, c=1.0):
    return {"sum": a["x"].sum() + b[0].sum() + c, "both": (a["x"] @ a["y"], b[1] * c)}


TREE = ({"x": drawn(3, 3), "y": drawn(3, 3, seed=1)}, [drawn(3, 2, 3, seed=2), drawn(3, 3, seed=3)])
CALLS = {
    "all on 0": (0, 0, {}),
    "negative": (-1, -1, {}),
    "tuple": ((1, 0), 0, {}),
    "list": ([0, -1], 0, {}),
    "None": ((0, None), 0, {}),
    "None, the other": ((None, 0), 0, {}),
    "prefixes": (({"x": 0, "y": None}, 0), {"sum": 0, "both": 1}, {}),
    "None within": ((0, [None, 1]), {"sum": 0, "both": (0, -1)}, {}),
    "keywords": ((0, 0), 0, {"c": drawn(3, seed=4)}),
    "keywords alone": ((None, None), 0, {"c": drawn(3, seed=4)}),
    "output that is not mapped": ((None, [0, None]), {"sum": 0, "both": None}, {}),
}


@by_depth
@pytest.mark.parametrize("name", CALLS)
def test_axes_are_those_of_vmap(name, depth):
    in_axes, out_axes, kwargs = CALLS[name]
    got = xj.lane_vmap(combined, in_axes, out_axes, depth=depth)(*TREE, **kwargs)
    assert_alike(got, jax.vmap(combined, in_axes, out_axes)(*TREE, **kwargs))


@by_depth
def test_a_list_of_outputs_takes_a_list_of_axes(depth):
    def both(x):
        return [x, x * 2]

    assert_alike(xj.lane_vmap(both, 0, [0, 1], depth=depth)(X), jax.vmap(both, 0, [0, 1])(X))


@by_depth
def test_static_arguments_are_closed_over(depth):
    for power in (1, 2, 3):
        assert_alike(xj.lane_vmap(partial(lambda n, x: x**n, power), depth=depth)(X), X**power)


WRONG = {
    "nothing mapped": lambda vmap: vmap(net, (None, None))(W, X),
    "sizes that differ": lambda vmap: vmap(net)(W, X[:3]),
    "sizes that differ, by axis": lambda vmap: vmap(net, (0, 1))(W, X),
    "axis out of range": lambda vmap: vmap(net, (3, 0))(W, X),
    "negative axis out of range": lambda vmap: vmap(net, (0, -3))(W, X),
    "axis of a scalar": lambda vmap: vmap(net)(W, jnp.float32(1)),
    "an axis too few": lambda vmap: vmap(net, (0,))(W, X),
    "another tree": lambda vmap: vmap(combined, ({"x": 0}, 0))(*TREE),
    "axis that is no integer": lambda vmap: vmap(net, (0.5, 0))(W, X),
    "axes that are text": lambda vmap: vmap(net, "0")(W, X),
    "no arguments": lambda vmap: vmap(lambda: jnp.zeros(2))(),
    "output mapped, but said not to be": lambda vmap: vmap(net, 0, None)(W, X),
    "another tree of outputs": lambda vmap: vmap(net, 0, (0, 0))(W, X),
    "a list for a tuple of outputs": lambda vmap: vmap(lambda w: (w, w), 0, [0, 0])(W),
    "output axis out of range": lambda vmap: vmap(net, 0, 3)(W, X),
    "not an array": lambda vmap: vmap(net)("W", X),
    "no function": lambda vmap: vmap(3)(W),
    "an argument too few": lambda vmap: vmap(net)(W),
}


@by_depth
@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_raise_what_vmap_raises(name, depth):
    with pytest.raises((TypeError, ValueError)) as wanted:
        WRONG[name](jax.vmap)
    with pytest.raises(wanted.type):
        WRONG[name](partial(xj.lane_vmap, depth=depth))


def test_wrong_options():
    with pytest.raises(ValueError, match=r"depth='deep' must be one of 'auto', 'scalar', 'array'"):
        xj.lane_vmap(net, depth="deep")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="fn=3 must be a function"):
        xj.lanes.scalarize(3)  # pyright: ignore[reportArgumentType]


# What it costs.


def test_operations_are_counted():
    x, w = jnp.zeros(3), jnp.zeros((2, 2))
    assert xj.lanes.count_operations(lambda x: x * x, x) == 3
    assert xj.lanes.count_operations(lambda x: x[::-1].reshape(3, 1), x) == 0
    assert xj.lanes.count_operations(lambda w: w @ w, w) == 4 * (2 + 1)
    assert xj.lanes.count_operations(lambda x: jnp.sin(x) * jnp.sin(x[::-1]), x) == 3 + 3  # each sine once
    assert xj.lanes.count_operations(lambda a, b: a @ b, w, w) == 4 * (2 + 1)
    assert xj.lanes.count_operations(jnp.sum, w) == 3
    assert xj.lanes.count_operations(lambda w: CONSTANT @ w, w) == 6 + 4  # of its zeros, with each weight
    assert xj.lanes.count_operations(lambda w: CONSTANT @ w, w, assume_finite=True) == 2
    assert xj.lanes.count_operations(lambda x: lax.fori_loop(0, 9, lambda i, x: x * 2, x), x) == 3 + 1
    assert xj.lanes.count_operations(lambda x: jnp.zeros(3) + jnp.arange(3.0) * 2, x) == 0
    assert xj.lanes.count_operations(lambda x: x + x, jax.ShapeDtypeStruct((7,), jnp.float32)) == 7


@pytest.mark.parametrize(
    "fn", [jnp.log, lambda x: 1 / x, lambda x: jnp.exp(1000 + x), lambda x: 1 + jnp.cos(jnp.log(x))]
)
def test_zeros_times_what_may_not_be_finite_are_not_assumed_to_be_zeros(fn):
    x, zeros = jnp.zeros(2), jnp.zeros(2)
    assert jnp.isnan(xj.lanes.scalarize(lambda x: zeros * fn(x), assume_finite=True)(x)).all()
    assert xj.lanes.count_operations(lambda x: zeros * jnp.tanh(3 * x - 1), x, assume_finite=True) == 6


def test_large_arrays_pass_a_barrier_whole():
    jaxpr = jax.make_jaxpr(xj.lanes.scalarize(lambda x: lax.optimization_barrier(x) * 2))(jnp.zeros(5_000))
    assert len(jaxpr.eqns) <= 3


def test_too_many_operations_are_refused_by_their_number():
    w = jnp.ones((4, 4))
    with pytest.raises(ValueError, match=r"matmul may need up to 128 scalar operations.* max_operations=100"):
        xj.lanes.scalarize(jnp.matmul, max_operations=100)(w, w)
    assert_alike(xj.lanes.scalarize(jnp.matmul, max_operations=128)(w, w), w @ w)


def test_explanations_name_the_depth_and_compile_nothing(compilations):
    shapes = {n: jax.ShapeDtypeStruct((8, n, n), np.float32) for n in (2, 8, 64)}
    found = {n: xj.lanes.explain(jnp.matmul, shape, shape) for n, shape in shapes.items()}
    assert {n: e.depth for n, e in found.items()} == {2: "scalar", 8: "array", 64: "vmap"}
    assert all(e.operations == 2 * n**3 and f"{2 * n**3:,}" in e.why for n, e in found.items())
    assert xj.lanes.explain(jnp.matmul, shapes[8], np.ones((8, 8)), in_axes=(0, None)).depth == "array"
    assert not compilations


def test_blocks_of_large_members_are_small():
    def lanes(fn, *shape):
        return xj.lanes.explain(fn, jax.ShapeDtypeStruct((2, *shape), np.float32)).lanes

    assert lanes(lambda x: x * 2) == 4_096
    assert lanes(jnp.sin, 100) == 320
    assert lanes(lambda x: x.T, 2_000, 2_000) == 1
    assert lanes(lambda x: lax.fori_loop(0, 9, lambda _, x: x * 2, x)) == 64
    assert lanes(lambda x: lax.fori_loop(0, 9, lambda _, x: x * 2, x), 2_000, 2_000) == 1


def test_python_is_called_for_members_that_exist_alone():
    calls = []

    def note(x):
        calls.append(x)
        return x

    def fn(x):
        return jax.pure_callback(note, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="sequential") * 2

    assert_alike(xj.lane_vmap(fn)(jnp.arange(5.0)), 2 * jnp.arange(5.0))
    assert len(calls) == 5


@pytest.mark.parametrize("n", [2, 8, 48])
def test_auto_is_right_at_every_depth(n):
    a, b = drawn(3, n, n), drawn(3, n, n, seed=1)
    assert_alike(xj.lane_vmap(jnp.matmul)(a, b), jax.vmap(jnp.matmul)(a, b), rtol=1e-4, atol=1e-4)


@by_depth
def test_a_second_call_traces_and_compiles_nothing(depth, compilations):
    traced = []

    def fn(w, x):
        traced.append(1)
        return net(w, x)

    mapped, others = xj.lane_vmap(fn, depth=depth), W + 1
    mapped(W, X)
    assert len(traced) == 1
    compilations.clear()
    mapped(others, X)
    assert len(traced) == 1
    assert not compilations


@by_depth
def test_donated_buffers_are_taken(depth):
    fn = xj.lane_vmap(lambda w: lax.fori_loop(0, 3, lambda i, w: jnp.tanh(w @ w), w), depth=depth)
    w = W + 0
    wanted = fn(w)
    got = jax.jit(fn, donate_argnums=0)(w)
    assert w.is_deleted()
    assert_alike(got, wanted)


# Nothing left over.

ENDS = frozenset("broadcast_in_dim reshape concatenate slice squeeze split".split())
MODEL, BATCH, OPTIMIZER = xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1)


def sgd_step(params, state):
    slopes = jax.value_and_grad(lambda p: xj.mse(MODEL.apply(p, BATCH.x), BATCH.y))(params)[1]
    updates, state = OPTIMIZER.update(slopes, state, params)
    return optax.apply_updates(params, updates), state


def sgd_loop(params, state):
    return lax.fori_loop(0, 9, lambda _, both: sgd_step(*both), (params, state))


def opened(jaxpr):
    return getattr(jaxpr, "jaxpr", jaxpr)


def bodies(eqn):
    values = [v for value in eqn.params.values() for v in (value if isinstance(value, tuple) else [value])]
    return [opened(v) for v in values if hasattr(v, "eqns") or hasattr(v, "jaxpr")]


def equations(jaxpr, within=False):
    """Every equation of a jaxpr and the jaxprs in it, and whether it is in the body of a loop."""
    for eqn in jaxpr.eqns:
        yield eqn, within
        for body in bodies(eqn):
            yield from equations(body, within or eqn.primitive.name in ("scan", "while"))


def are_scalars(variables):
    return all(v.aval.shape == () for v in variables if not isinstance(v, Literal))


@pytest.mark.parametrize("fn", [sgd_step, sgd_loop])
def test_nothing_but_scalars_is_left_of_a_training_step(fn):
    params = MODEL.init(jax.random.key(0))
    jaxpr = jax.make_jaxpr(xj.lanes.scalarize(fn))(params, OPTIMIZER.init(params)).jaxpr
    found = list(equations(jaxpr))
    names = {eqn.primitive.name for eqn, _ in found}
    assert names.isdisjoint({"dot_general", "reduce_sum", "transpose", "gather", "select_and_gather_add"})
    assert "logistic" in names
    loops = [eqn for eqn, _ in found if eqn.primitive.name in ("scan", "while")]
    assert len(loops) == (fn is sgd_loop)
    for eqn, within in found:
        if within or eqn.primitive.name not in ENDS:
            assert are_scalars([*eqn.invars, *eqn.outvars]), eqn
    given, ends = set(jaxpr.invars), [eqn for eqn, within in found if not within and eqn.primitive.name in ENDS]
    for eqn in ends:  # they take an argument apart, or put a result together
        if not are_scalars(eqn.invars) and all(v in given for v in eqn.invars):
            given |= set(eqn.outvars)
    for eqn in reversed(ends):
        assert set(eqn.outvars) & (given | _needed_by_results(jaxpr)), eqn


def _needed_by_results(jaxpr):
    """What results are put together from."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if eqn.primitive.name in ENDS and needed & set(eqn.outvars):
            needed |= {v for v in eqn.invars if not isinstance(v, Literal)}
    return needed
