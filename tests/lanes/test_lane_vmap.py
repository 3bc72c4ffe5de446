"""`scalarize` and `lane_vmap` give what the function itself gives, whatever it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from lanes.programs import PROGRAMS

import xorjax as xj
from xorjax.lanes.scalar.interpreter import ScalarInterpreter

pytestmark = pytest.mark.usefixtures("quick_compiler")

MEMBERS = 6
NAMES = list(PROGRAMS)
SMOOTH = [name for name in NAMES if PROGRAMS[name].smooth]
# One or more smooth programs of every kind of rule.
FEW_SMOOTH = [
    "indexed by members",
    "batched einsum",
    "softmax cross-entropy",
    "scan",
    "cond",
    "own derivative, forward",
    "own derivative, backward",
]


def split(names, size):
    """Names in lists of a size: their programs are compiled together, which takes a fraction of the time."""
    return [names[i : i + size] for i in range(0, len(names), size)]


def draw(name):
    rng = np.random.default_rng(0)
    return [jnp.asarray(make(rng, MEMBERS)) for make in PROGRAMS[name].args]


def to_numbers(x):
    x = jnp.asarray(x)
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def check(name, got, wanted, exact, factor=1):
    assert jax.tree.structure(got) == jax.tree.structure(wanted), name
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert jax.typeof(a).str_short() == jax.typeof(b).str_short(), name
        assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None), name
        a, b = to_numbers(a), to_numbers(b)
        if exact or not jnp.issubdtype(a.dtype, jnp.inexact):
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            tolerance = 20 * factor * float(jnp.finfo(a.dtype).eps)
            a, b = a.astype(np.complex128), b.astype(np.complex128)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


def in_kernel(fn):
    """As in a kernel: branches, small loops and random numbers are written out."""
    scalars = ScalarInterpreter(assume_finite=False, in_kernel=True)
    return jax.vmap(lambda *args: scalars.make_inner().apply(fn, *args))


LANE_WAYS = {
    "scalar": lambda fn: xj.lane_vmap(fn, depth="scalar"),
    "array": lambda fn: xj.lane_vmap(fn, depth="array"),
}
SLOW_WAYS = {"scalarize": lambda fn: jax.vmap(xj.lanes.scalarize(fn)), "kernel": in_kernel}


def check_values(names, *ways):
    """`ways` are functions from a name to a transformation."""
    args = {name: draw(name) for name in names}

    def run(way):
        return jax.jit(lambda args: {name: way(name)(PROGRAMS[name].fn)(*args[name]) for name in names})(args)

    wanted = run(lambda name: jax.vmap)
    for way in ways:
        got = run(way)
        for name in names:
            check(name, got[name], wanted[name], PROGRAMS[name].exact)


SLOW = ("hessian within",)
by_names = pytest.mark.parametrize("names", split(NAMES, 12), ids=lambda names: f"{names[0]} to {names[-1]}")


def one_depth(name):
    """Every second program at either depth."""
    return list(LANE_WAYS.values())[NAMES.index(name) % 2]


def other_depth(name):
    return list(LANE_WAYS.values())[1 - NAMES.index(name) % 2]


@pytest.mark.lenient
@by_names
def test_values_are_those_of_vmap(names):
    check_values([name for name in names if name not in SLOW], one_depth)


@pytest.mark.slow
@pytest.mark.lenient
def test_values_of_what_compiles_slowly_are_those_of_vmap():
    check_values(SLOW, one_depth)


@pytest.mark.slow
@pytest.mark.lenient
@by_names
def test_values_are_those_of_vmap_in_every_way(names):
    ways = (lambda name, way=way: way for way in SLOW_WAYS.values())
    check_values(names, other_depth, *ways)


def gradients(name, way):
    """The gradients of a program with respect to its real arguments: within the mapped function, and around it."""
    args = draw(name)
    are_real = [jnp.issubdtype(a.dtype, jnp.floating) for a in args]
    reals = [a for a, is_real in zip(args, are_real, strict=True) if is_real]
    others = [None if is_real else a for a, is_real in zip(args, are_real, strict=True)]

    def fill(reals, others):
        rest = iter(reals)
        return [next(rest) if other is None else other for other in others]

    def objective(outs):
        floats = [out for out in jax.tree.leaves(outs) if jnp.issubdtype(out.dtype, jnp.floating)]
        return sum(
            jnp.sum(jnp.cos(jnp.arange(out.size, dtype=np.float32)).reshape(out.shape) * out.astype(np.float32))
            for out in floats
        )

    def of_member(reals, others):
        return objective(PROGRAMS[name].fn(*fill(reals, others)))

    def of_all(reals):
        return jnp.sum(jax.vmap(objective)(way(PROGRAMS[name].fn)(*fill(reals, others))))

    return way(jax.grad(of_member))(reals, others), jax.grad(of_all)(reals)


def check_gradients(names, way):
    wanted = jax.jit(lambda: {name: gradients(name, jax.vmap)[0] for name in names})()
    got = jax.jit(lambda: {name: gradients(name, way) for name in names})()
    for name in names:
        for slopes in got[name]:
            check(name, slopes, wanted[name], exact=False, factor=10)


@pytest.mark.lenient
@pytest.mark.parametrize("way", [pytest.param("scalar", marks=pytest.mark.slow), "array"])
def test_gradients_are_those_of_vmap(way):
    check_gradients(FEW_SMOOTH, LANE_WAYS[way])


@pytest.mark.slow
@pytest.mark.lenient
@pytest.mark.parametrize("way", [*LANE_WAYS, "scalarize"])
@pytest.mark.parametrize("names", split(SMOOTH, 12), ids=lambda names: f"{names[0]} to {names[-1]}")
def test_all_gradients_are_those_of_vmap(names, way):
    check_gradients(names, {**LANE_WAYS, **SLOW_WAYS}[way])


DRAWS = {
    **{
        f"bits of {bits}": lambda key, bits=bits: jax.random.bits(key, (3,), f"uint{bits}") for bits in (8, 16, 32)
    },
    "uniform": lambda key: jax.random.uniform(key, (2, 2)),
    "normal": lambda key: jax.random.normal(key, (3,)),
    "integers": lambda key: jax.random.randint(key, (4,), -5, 1_000),
    "coins": lambda key: jax.random.bernoulli(key, 0.3, (5,)),
    "permutations": lambda key: jax.random.permutation(key, 7),
    "rows": lambda key: jax.random.permutation(key, jnp.arange(6.0).reshape(3, 2)),
    "keys of keys": lambda key: jax.random.key_data(jax.random.split(jax.random.split(key)[1], (2, 2))),
    "a key by its number": lambda key: jax.random.bits(jax.random.fold_in(key, jax.random.bits(key)), (2,)),
    "a key of its own": lambda key: jax.random.bits(jax.random.key(7)) ^ jax.random.bits(key),
    "one of two keys": lambda key: jax.random.bits(
        lax.cond(jax.random.bits(key) > np.uint32(2**31), lambda: key, lambda: jax.random.fold_in(key, 1))
    ),
}


def check_draws(names, partitionable):
    keys = jax.random.split(jax.random.key(3), 40)

    def run(way):
        return jax.jit(lambda keys: {name: way(DRAWS[name])(keys) for name in names})(keys)

    with jax.threefry_partitionable(partitionable):
        got, wanted = run(in_kernel), run(jax.vmap)
    for name in names:
        check(name, got[name], wanted[name], name != "normal")


def test_random_numbers_in_a_kernel():
    check_draws(["uniform", "one of two keys"], partitionable=True)


@pytest.mark.slow
@pytest.mark.parametrize("partitionable", [True, False])
@pytest.mark.parametrize("names", split(list(DRAWS), 5), ids=lambda names: names[0])
def test_all_random_numbers_in_a_kernel(names, partitionable):
    check_draws(names, partitionable)
