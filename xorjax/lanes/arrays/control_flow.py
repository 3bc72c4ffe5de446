"""Rules for control flow: the same control flow, with a body that the array interpreter rewrites."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from xorjax.lanes.arrays.mapped import (
    find_mapped_of_cond,
    find_mapped_of_scan,
    find_mapped_of_while,
    find_mapped_results,
)
from xorjax.lanes.arrays.values import (
    Interpreter,
    Mapped,
    Rule,
    Value,
    broadcast_lanes,
    find_mapped,
    to_array,
    to_values,
)
from xorjax.lanes.jaxprs import (
    CHECKPOINTS,
    INLINED,
    AnyJaxpr,
    Equation,
    bind_equation,
    call_jaxpr,
    equation_jvp,
    fill_nones,
    get_avals,
    open_jaxpr,
    real_cotangents,
    real_tangents,
    scan_counts,
)

Arrays = Sequence[Array]


def _inline(lanes: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    return lanes.evaluate(*open_jaxpr(call_jaxpr(eqn.params)), operands)


def _scan(lanes: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    n_consts, n_carry = scan_counts(eqn.params)
    jaxpr, jaxpr_consts = open_jaxpr(eqn.params["jaxpr"])
    are_mapped = find_mapped_of_scan(eqn.params, find_mapped(operands))
    consts, carry = operands[:n_consts], operands[n_consts : n_consts + n_carry]
    xs = operands[n_consts + n_carry :]
    out_avals = get_avals(jaxpr.outvars)

    def body(carry: Arrays, xs_arrays: Arrays) -> tuple[list[Array], list[Array]]:
        values = [*consts, *to_values(carry, are_mapped[:n_carry]), *to_values(xs_arrays, find_mapped(xs))]
        outs = lanes.make_inner().evaluate(jaxpr, jaxpr_consts, values)
        arrays = lanes.to_arrays(outs, out_avals, are_mapped)
        return arrays[:n_carry], arrays[n_carry:]

    new_carry, ys = lax.scan(
        body,
        lanes.to_arrays(carry, out_avals[:n_carry], are_mapped[:n_carry]),
        list(map(to_array, xs)),
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=eqn.params["unroll"],
    )
    return to_values([*new_carry, *ys], are_mapped)


def _while(lanes: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    are_mapped = find_mapped_of_while(eqn.params, find_mapped(operands))
    avals = get_avals(eqn.outvars)
    cond_consts, body_consts = operands[:n_cond], operands[n_cond : n_cond + n_body]
    start = operands[n_cond + n_body :]
    cond_jaxpr, body_jaxpr = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    is_mapped = find_mapped_results(cond_jaxpr, find_mapped(cond_consts) + are_mapped)[0]

    def holds(carry: Arrays) -> Value:
        values = [*cond_consts, *to_values(carry, are_mapped)]
        return lanes.make_inner().evaluate(*open_jaxpr(cond_jaxpr), values)[0]

    def any_holds(carry: Arrays) -> Any:
        return jnp.any(to_array(holds(carry))) if is_mapped else holds(carry)

    def body(carry: Arrays) -> list[Array]:
        values = [*body_consts, *to_values(carry, are_mapped)]
        outs = lanes.make_inner().evaluate(*open_jaxpr(body_jaxpr), values)
        new = lanes.to_arrays(outs, avals, are_mapped)
        if not is_mapped:
            return new
        still_runs = holds(carry)  # a member whose condition is False keeps its carry
        return [_select_lanes(lanes, still_runs, n, old) for n, old in zip(new, carry, strict=True)]

    return to_values(lax.while_loop(any_holds, body, lanes.to_arrays(start, avals, are_mapped)), are_mapped)


def _cond(lanes: Interpreter, eqn: Equation, index: Value, *operands: Value) -> list[Value]:
    branches, avals = eqn.params["branches"], get_avals(eqn.outvars)
    are_mapped = find_mapped_of_cond(eqn.params, find_mapped((index, *operands)))

    def run(branch: AnyJaxpr) -> list[Array]:
        return lanes.to_arrays(lanes.make_inner().evaluate(*open_jaxpr(branch), operands), avals, are_mapped)

    if not isinstance(index, Mapped):
        functions = [lambda branch=branch: run(branch) for branch in branches]
        return to_values(lax.switch(index, functions), are_mapped)
    clamped = lax.clamp(np.int32(0), index.array, np.int32(len(branches) - 1))
    results, *others = map(run, branches)
    for i, other in enumerate(others, 1):
        is_this = Mapped(lax.eq(clamped, jnp.full_like(clamped, i)))
        results = [_select_lanes(lanes, is_this, new, old) for new, old in zip(other, results, strict=True)]
    return to_values(results, are_mapped)


def _select_lanes(lanes: Interpreter, condition: Value, new: Array, old: Array) -> Array:
    """Return `new` in the lanes where the condition holds, else `old`."""
    return lax.select(broadcast_lanes(lanes.n, condition, new.shape[:-1]), new, old)


def _checkpoint(lanes: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    jaxpr, avals = eqn.params["jaxpr"], get_avals(eqn.outvars)
    are_mapped = find_mapped_results(jaxpr, find_mapped(operands))

    def run(*arrays: Array) -> list[Array]:
        outs = lanes.make_inner().evaluate(*open_jaxpr(jaxpr), to_values(arrays, find_mapped(operands)))
        return lanes.to_arrays(outs, avals, are_mapped)

    recompute = jax.checkpoint(run, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"])
    return to_values(recompute(*map(to_array, operands)), are_mapped)


# Custom derivatives. JAX differentiates these functions, so all their operands have lanes.


def _to_mapped_arrays(lanes: Interpreter, eqn: Equation, operands: Sequence[Value]) -> list[Array]:
    return lanes.to_arrays(operands, get_avals(eqn.invars), [True] * len(operands))


def _make_array_function(lanes: Interpreter, eqn: Equation) -> Callable[..., list[Array]]:
    """Return the body of a call as a function of arrays with lanes."""
    out_avals = get_avals(eqn.outvars)

    def call(*arrays: Array) -> list[Array]:
        outs = lanes.make_inner().evaluate(*open_jaxpr(eqn.params["call_jaxpr"]), list(map(Mapped, arrays)))
        return lanes.to_arrays(outs, out_avals, [True] * len(out_avals))

    return call


def _apply(lanes: Interpreter, fn: Callable[..., Any], args: Any) -> Any:
    """Return `fn(args)` in lanes, for a pytree of arrays with lanes."""
    members = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[:-1], a.dtype), args)
    closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(members)
    jaxpr, consts = open_jaxpr(closed)
    outs = lanes.make_inner().evaluate(jaxpr, consts, [Mapped(a) for a in jax.tree.leaves(args)])
    arrays = lanes.to_arrays(outs, get_avals(jaxpr.outvars), [True] * len(outs))
    return jax.tree.unflatten(jax.tree.structure(out_shapes), arrays)


def _custom_jvp(lanes: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    call = jax.custom_jvp(_make_array_function(lanes, eqn))

    @call.defjvp
    def _(primals: Arrays, tangents: Arrays) -> Any:
        return _apply(lanes, lambda both: equation_jvp(eqn, *both), real_tangents(eqn, primals, tangents))

    return [Mapped(a) for a in call(*_to_mapped_arrays(lanes, eqn, operands))]


def _custom_vjp(lanes: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    call = jax.custom_vjp(_make_array_function(lanes, eqn))

    def forward(*arrays: Array) -> Any:
        return _apply(lanes, lambda xs: jax.vjp(lambda *ys: bind_equation(eqn, ys), *xs), arrays)

    def backward(pullback: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        slopes = _apply(lanes, lambda both: real_cotangents(eqn, *both), (pullback, cotangents))
        return fill_nones(eqn, slopes)

    call.defvjp(forward, backward)
    return [Mapped(a) for a in call(*_to_mapped_arrays(lanes, eqn, operands))]


CONTROL_FLOW: dict[str, Rule] = {
    **dict.fromkeys(INLINED, _inline),
    **dict.fromkeys(CHECKPOINTS, _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": _scan,
    "while": _while,
}
