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


def drawn(program, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(make(rng, MEMBERS)) for make in program.args]


def numbers(x):
    x = jnp.asarray(x)
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def check(got, wanted, exact, factor=1):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert jax.typeof(a).str_short() == jax.typeof(b).str_short()
        assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
        a, b = numbers(a), numbers(b)
        if exact or not jnp.issubdtype(a.dtype, jnp.inexact):
            np.testing.assert_array_equal(a, b)
        else:
            eps = float(jnp.finfo(a.dtype).eps)
            np.testing.assert_allclose(
                a.astype(np.complex128), b.astype(np.complex128), rtol=20 * factor * eps, atol=20 * factor * eps
            )


WAYS = {
    "scalarize": lambda fn: jax.jit(jax.vmap(xj.lanes.scalarize(fn))),
    "scalar": lambda fn: xj.lane_vmap(fn, depth="scalar"),
    "array": lambda fn: xj.lane_vmap(fn, depth="array"),
}


def in_kernel(fn):
    """As a kernel has it: branches, small loops and random numbers written out."""
    scalars = ScalarInterpreter(assume_finite=False, in_kernel=True)
    return jax.jit(jax.vmap(lambda *args: scalars.make_inner().apply(fn, *args)))


def objective(fn):
    """The results as one number, for its gradient with respect to the real arguments."""

    def value(reals, others):
        rest = iter(reals)
        outs = fn(*(next(rest) if other is None else other for other in others))
        reals_out = [out for out in jax.tree.leaves(outs) if jnp.issubdtype(out.dtype, jnp.floating)]
        return sum(
            jnp.sum(jnp.cos(jnp.arange(out.size, dtype=np.float32)).reshape(out.shape) * out.astype(np.float32))
            for out in reals_out
        )

    return value


def reals_and_others(args):
    real = [jnp.issubdtype(a.dtype, jnp.floating) for a in args]
    return [a for a, r in zip(args, real, strict=True) if r], [
        None if r else a for a, r in zip(args, real, strict=True)
    ]


@pytest.mark.lenient
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name, way):
    program = PROGRAMS[name]
    args = drawn(program)
    check(WAYS[way](program.fn)(*args), jax.jit(jax.vmap(program.fn))(*args), program.exact)


@pytest.mark.slow
@pytest.mark.lenient
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_in_a_kernel(name):
    program = PROGRAMS[name]
    args = drawn(program)
    check(in_kernel(program.fn)(*args), jax.jit(jax.vmap(program.fn))(*args), program.exact)


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


@pytest.mark.parametrize("partitionable", [True, False])
@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_in_a_kernel(name, partitionable):
    keys = jax.random.split(jax.random.key(3), 40)
    with jax.threefry_partitionable(partitionable):
        check(in_kernel(DRAWS[name])(keys), jax.jit(jax.vmap(DRAWS[name]))(keys), name != "normal")


@pytest.mark.lenient
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow if way == "scalarize" else ()) for way in WAYS]
)
@pytest.mark.parametrize("name", [name for name, program in PROGRAMS.items() if program.smooth])
def test_gradients(name, way):
    program = PROGRAMS[name]
    reals, others = reals_and_others(drawn(program))

    wanted = jax.jit(jax.vmap(jax.grad(objective(program.fn))))(reals, others)
    of_gradient = WAYS[way](jax.grad(objective(program.fn)))(reals, others)
    check(of_gradient, wanted, exact=False, factor=10)

    def summed(reals):
        rest = iter(reals)
        args = [next(rest) if other is None else other for other in others]
        outs = WAYS[way](program.fn)(*args)
        return objective(lambda: outs)([], [])

    def summed_plain(reals):
        rest = iter(reals)
        args = [next(rest) if other is None else other for other in others]
        return objective(lambda: jax.vmap(program.fn)(*args))([], [])

    check(jax.jit(jax.grad(summed))(reals), jax.jit(jax.grad(summed_plain))(reals), exact=False, factor=10)
