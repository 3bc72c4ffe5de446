"""Random programs give in lanes what they give under vmap, and in every company of members the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from lanes.random_programs import programs

import xorjax as xj

pytestmark = pytest.mark.lenient
MEMBERS = 5
DEPTHS = ("scalar", "array")
few = settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def ways(fn, in_axes):
    yield jax.jit(jax.vmap(xj.lanes.scalarize(fn), in_axes))
    for depth in DEPTHS:
        yield xj.lane_vmap(fn, in_axes, depth=depth)


def assert_alike(got, wanted, **tolerance):
    """Integers and Booleans exactly, as everything without a tolerance."""
    for a, b in zip(got, wanted, strict=True):
        assert jax.typeof(a).str_short() == jax.typeof(b).str_short()
        assert a.weak_type == b.weak_type
        if tolerance and a.dtype == np.float32:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


def check_values(program):
    fn, args = program.function(), program.arguments(MEMBERS)
    wanted = jax.jit(jax.vmap(fn, program.in_axes))(*args)
    for way in ways(fn, program.in_axes):
        assert_alike(way(*args), wanted)


def check_gradients(program):
    """Of a sum of all results with respect to all real arguments, those shared by the members too."""
    fn, args = program.function(), program.arguments(MEMBERS)
    real = [i for i, a in enumerate(args) if a.dtype == np.float32]

    def slopes_with(mapped):
        def total(reals):
            given = list(args)
            for i, x in zip(real, reals, strict=True):
                given[i] = x
            return sum(jnp.sum(jnp.sin(x)) for x in mapped(*given) if x.dtype == np.float32) + jnp.float32(0)

        return jax.jit(jax.grad(total))([args[i] for i in real])

    wanted = slopes_with(jax.vmap(fn, program.in_axes))
    for way in ways(fn, program.in_axes):
        assert_alike(slopes_with(way), wanted, rtol=1e-3, atol=1e-4)


def check_bits(program):
    fn, args = program.function(), program.arguments(199)

    def company(members):
        return [a if axis is None else a[:members] for a, axis in zip(args, program.in_axes, strict=True)]

    for depth in DEPTHS:
        mapped = xj.lane_vmap(fn, program.in_axes, depth=depth)
        whole = mapped(*company(199))
        for members in (1, 5, 64):
            for a, b in zip(mapped(*company(members)), whole, strict=True):
                a, b = (np.asarray(x).view(f"u{x.dtype.itemsize}") for x in (a, b))
                np.testing.assert_array_equal(a, b[:members])


@few
@given(programs())
def test_values_are_those_of_vmap(program):
    check_values(program)


@pytest.mark.slow
@few
@given(programs(smooth=True))
def test_gradients_are_those_of_vmap(program):
    check_gradients(program)


@settings(few, max_examples=1)
@given(programs(smooth=True))
def test_a_member_has_the_same_bits_in_every_company(program):
    check_bits(program)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "smooth", "examples"),
    [(check_values, False, 15), (check_gradients, True, 10), (check_bits, True, 4)],
)
def test_more_of_them(check, smooth, examples):
    seed(1)(settings(few, max_examples=examples)(given(programs(smooth))(check)))()
