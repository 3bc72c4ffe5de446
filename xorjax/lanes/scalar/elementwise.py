"""Rules for elementwise primitives: one scalar operation for each element."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import Equation
from xorjax.lanes.scalar.folding import fold
from xorjax.lanes.scalar.objects import (
    are_known,
    is_known,
    is_small,
    map_elements,
    object_array,
    promote_to_objects,
)
from xorjax.lanes.scalar.values import Choose, Emit, Interpreter, Results, Rule, Value

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
    complex conj convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1
    floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic
    lt lt_to max min mul mulhi name ne neg nextafter not one_minus_square or polygamma polynomial population_count
    pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
    zeta""".split()
)


def _elementwise(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    name, (out,) = eqn.primitive.name, eqn.outvars
    if not is_small(out):
        return NotImplemented
    arrays = np.broadcast_arrays(*map(scalars.elements, operands))
    if all(map(are_known, arrays)):
        folded = fold(name, arrays)
        if folded is not None:
            return [np.asarray(folded, out.aval.dtype)]
        return _convert_known(eqn, *arrays) if name == "convert_element_type" else NotImplemented
    if name == "copy":
        return [arrays[0]]
    return [map_elements(partial(scalars.emit, name, eqn.primitive.bind, **eqn.params), *arrays)]


def _convert_known(eqn: Equation, x: np.ndarray) -> Results:
    """Convert known numbers to another dtype, except from floats to integers, where NumPy and XLA may differ."""
    new = np.dtype(eqn.params["new_dtype"])
    if jnp.issubdtype(new, jnp.inexact) or not jnp.issubdtype(x.dtype, jnp.inexact) or new == np.bool_:
        with np.errstate(all="ignore"):
            return [x.astype(new)]
    return NotImplemented


def _bitcast_convert_type(scalars: Interpreter, eqn: Equation, x: Value) -> Results:
    same = eqn.invars[0].aval.dtype.itemsize == eqn.outvars[0].aval.dtype.itemsize
    return _elementwise(scalars, eqn, x) if same else NotImplemented


def _convert_element_type(scalars: Interpreter, eqn: Equation, x: Value) -> Results:
    if eqn.params["new_dtype"] == eqn.invars[0].aval.dtype:
        return [x]
    return _elementwise(scalars, eqn, x)


def _select_n(scalars: Interpreter, eqn: Equation, which: Value, *cases: Value) -> Results:
    (out,) = eqn.outvars
    if not is_small(out):
        return NotImplemented
    arrays = np.broadcast_arrays(scalars.elements(which), *map(scalars.elements, cases))
    if all(map(are_known, arrays)) and len(arrays) == 3 and arrays[0].dtype == np.bool_:
        return [np.where(arrays[0], arrays[2], arrays[1])]
    return [map_elements(scalars.select, *arrays)]


def power(emit: Emit, choose: Choose, base: Any, exponent: Any) -> Any:
    """Return a known base to an integer exponent that is not known, from products of its known powers.

    The lowest four bits of the exponent select one of sixteen powers, each rounded once, because optimizers
    subtract them from 1 early in training. Every higher bit that is set multiplies by one more power, and adds an
    ulp of error. This vectorizes, whereas XLA calls C's power function lane by lane.

    Args:
      emit, choose: the operations of an interpreter on scalars, or on arrays.
      base: a known float, positive and finite.
      exponent: integers.
    """
    dtype, one = exponent.dtype, base.dtype.type(1)
    signed = jnp.issubdtype(dtype, jnp.signedinteger)
    count = emit("abs", lax.abs, exponent) if signed else exponent
    negative = emit("lt", lax.lt, exponent, dtype.type(0)) if signed else np.False_

    def powers(n: int) -> list[Any]:
        with np.errstate(all="ignore"):
            return [(np.float64(base) ** p).astype(base.dtype) for p in (-float(n), float(n))]

    low = emit("and", lax.bitwise_and, count, dtype.type(15))
    result = one
    for n in range(1, 16):
        is_this = emit("eq", lax.eq, low, dtype.type(n))
        result = choose(is_this, choose(negative, *powers(n)), result)
    for bit in range(4, 8 * dtype.itemsize):
        if np.isinf(powers(2**bit)).any():  # all higher powers are infinite or 0 too
            ends = [base.dtype.type(0 if (base < 1) != is_inverse else np.inf) for is_inverse in (True, False)]
            rest = emit("shift_right_logical", lax.shift_right_logical, count, dtype.type(bit))
            return choose(emit("ne", lax.ne, rest, dtype.type(0)), choose(negative, *ends), result)
        is_set = emit("and", lax.bitwise_and, count, np.uint64(1 << bit).astype(dtype))
        factor = choose(emit("ne", lax.ne, is_set, dtype.type(0)), choose(negative, *powers(2**bit)), one)
        result = emit("mul", lax.mul, result, factor)
    return result


def has_known_base(base: Any, exponent: Any) -> bool:
    """Return True if `power` can compute this power; `exponent` needs no more than a dtype."""
    return (
        is_known(base)
        and base.dtype in (np.float32, np.float64)
        and jnp.issubdtype(exponent.dtype, jnp.integer)
        and bool(0 < base < np.inf)
    )


def _pow(scalars: Interpreter, eqn: Equation, x: Value, y: Value) -> Results:
    (out,) = eqn.outvars
    if not is_small(out):
        return NotImplemented
    operands = np.broadcast_arrays(scalars.elements(x), scalars.elements(y))
    bases, exponents = promote_to_objects(*operands)
    if bases.dtype != object or not all(map(has_known_base, bases.flat, exponents.flat)):
        return _elementwise(scalars, eqn, x, y)
    return [map_elements(partial(power, scalars.emit, scalars.choose), bases, exponents)]


def _optimization_barrier(scalars: Interpreter, eqn: Equation, *operands: Value) -> Results:
    if not is_small(*eqn.invars):
        return NotImplemented
    arrays = [scalars.elements(x) for x in operands]
    unknown = {id(e): e for a in arrays if not are_known(a) for e in a.flat if not is_known(e)}
    passed = dict(zip(unknown, lax.optimization_barrier(list(unknown.values())), strict=True))
    return [a if are_known(a) else object_array([passed.get(id(e), e) for e in a.flat], a.shape) for a in arrays]


ELEMENTWISE_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    "bitcast_convert_type": _bitcast_convert_type,
    "convert_element_type": _convert_element_type,
    "optimization_barrier": _optimization_barrier,
    "pow": _pow,
    "select_n": _select_n,
}
