"""Rules for control flow, for both interpreters: the same control flow, with a body that the interpreter rewrites.

The operands of a rewritten loop, branch or call are leaves: for the scalar interpreter the elements of arrays, and
large arrays as they are; for the array interpreter whole arrays, with lanes if they differ by member.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, compress
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from xorjax.lanes import jaxprs
from xorjax.lanes.arrays.mapped import find_mapped_outputs, find_mapped_results
from xorjax.lanes.arrays.values import LaneAval, Mapped, broadcast_lanes, find_mapped
from xorjax.lanes.jaxprs import AnyJaxpr, Equation, Variable, open_jaxpr

Flags = Sequence[bool]
Leaves = Sequence[Any]
Values = Sequence[Any]


@runtime_checkable
class Interpreter(Protocol):
    """The part of `ScalarInterpreter` and `LaneInterpreter` that these rules use."""

    def make_inner(self) -> "Interpreter": ...
    def evaluate(self, jaxpr: AnyJaxpr, consts: Values, args: Values) -> list[Any]: ...
    def apply(self, fn: Callable[..., Any], *args: Any) -> Any: ...
    def share(self, values: Values) -> Values: ...
    def flatten(self, values: Values, avals: Sequence[LaneAval]) -> list[Any]: ...
    def unflatten(self, leaves: Leaves, avals: Sequence[LaneAval]) -> list[Any]: ...
    def assemble_all(self, leaves: Leaves, avals: Sequence[LaneAval]) -> list[Any]: ...
    def split_rows(self, values: Values, avals: Sequence[LaneAval]) -> list[Any]: ...
    def stack_rows(self, leaves: Leaves, avals: Sequence[LaneAval]) -> list[Any]: ...


def lane_avals(variables: Sequence[Variable], are_mapped: Flags) -> list[LaneAval]:
    """Return the types of variables; `are_mapped` tells which of them have lanes."""
    avals = jaxprs.get_avals(variables)
    return [LaneAval(a.shape, a.dtype, a.weak_type, flag) for a, flag in zip(avals, are_mapped, strict=True)]


def make_leaf_function(
    interpreter: Interpreter, closed: AnyJaxpr, consts: Values, are_mapped: Flags, are_lanes: Flags
) -> Callable[..., list[Any]]:
    """Return a jaxpr as a function of leaves to leaves, which closes over `consts`, the first inputs.

    `are_mapped` and `are_lanes` tell which of the other inputs and which outputs are mapped.
    """
    jaxpr, jaxpr_consts = open_jaxpr(closed)
    consts = interpreter.share(consts)
    ins, outs = lane_avals(jaxpr.invars[len(consts) :], are_mapped), lane_avals(jaxpr.outvars, are_lanes)

    def run(*leaves: Any) -> list[Any]:
        inner = interpreter.make_inner()
        return inner.flatten(inner.evaluate(jaxpr, jaxpr_consts, [*consts, *inner.unflatten(leaves, ins)]), outs)

    return run


def inline_rule(interpreter: Interpreter, eqn: Equation, *operands: Any) -> list[Any]:
    """Evaluate the body of a call in its place."""
    return interpreter.evaluate(*open_jaxpr(jaxprs.call_jaxpr(eqn.params)), operands)


def scan_rule(interpreter: Interpreter, eqn: Equation, *operands: Any, unroll: int | None = None) -> list[Any]:
    """Scan over leaves, with the equation's own `unroll` if none is given."""
    params, flags = eqn.params, find_mapped(operands)
    n_consts, n_carry = jaxprs.scan_counts(params)
    n_fixed = n_consts + n_carry
    are_mapped = find_mapped_outputs(eqn, flags)
    ins_mapped = [*are_mapped[:n_carry], *flags[n_fixed:]]
    run = make_leaf_function(interpreter, params["jaxpr"], operands[:n_consts], ins_mapped, are_mapped)
    rows = interpreter.split_rows(operands[n_fixed:], lane_avals(eqn.invars[n_fixed:], flags[n_fixed:]))
    outs = lane_avals(eqn.outvars, are_mapped)
    start = interpreter.flatten(operands[n_consts:n_fixed], outs[:n_carry])

    def body(carry: Leaves, row: Leaves) -> tuple[Leaves, Leaves]:
        leaves = run(*carry, *row)
        return leaves[: len(start)], leaves[len(start) :]

    carry, ys = lax.scan(body, start, rows, params["length"], params["reverse"], unroll or params["unroll"])
    return [*interpreter.unflatten(carry, outs[:n_carry]), *interpreter.stack_rows(ys, outs[n_carry:])]


def _while(interpreter: Interpreter, eqn: Equation, *operands: Any) -> list[Any]:
    n_cond = eqn.params["cond_nconsts"]
    n_consts = n_cond + eqn.params["body_nconsts"]
    cond, cond_consts = eqn.params["cond_jaxpr"], operands[:n_cond]
    are_mapped = find_mapped_outputs(eqn, find_mapped(operands))
    (leave_apart,) = find_mapped_results(cond, [*find_mapped(cond_consts), *are_mapped])
    holds = make_leaf_function(interpreter, cond, cond_consts, are_mapped, [leave_apart])
    consts = operands[n_cond:n_consts]
    body = make_leaf_function(interpreter, eqn.params["body_jaxpr"], consts, are_mapped, are_mapped)

    def any_holds(carry: Leaves) -> Array:
        return jnp.any(holds(*carry)[0]) if leave_apart else holds(*carry)[0]

    def run(carry: Leaves) -> Leaves:
        new = body(*carry)
        if not leave_apart:
            return new
        (still_runs,) = holds(*carry)  # a member whose condition is False keeps its carry
        return [_select_lanes(still_runs, n, old) for n, old in zip(new, carry, strict=True)]

    outs = lane_avals(eqn.outvars, are_mapped)
    start = interpreter.flatten(operands[n_consts:], outs)
    return interpreter.unflatten(lax.while_loop(any_holds, run, start), outs)


def cond_rule(interpreter: Interpreter, eqn: Equation, index: Any, *operands: Any) -> list[Any]:
    """Run one branch, or select from the results of all if the members take different branches."""
    branches = eqn.params["branches"]
    are_mapped = find_mapped_outputs(eqn, find_mapped((index, *operands)))
    runs = [make_leaf_function(interpreter, branch, operands, [], are_mapped) for branch in branches]
    outs = lane_avals(eqn.outvars, are_mapped)
    if not isinstance(index, Mapped):
        return interpreter.unflatten(lax.switch(index, runs), outs)
    clamped = lax.clamp(np.int32(0), index.array, np.int32(len(branches) - 1))
    leaves, *others = (run() for run in runs)
    for i, other in enumerate(others, 1):
        is_this = lax.eq(clamped, jnp.full_like(clamped, i))
        leaves = [_select_lanes(is_this, new, old) for new, old in zip(other, leaves, strict=True)]
    return interpreter.unflatten(leaves, outs)


def _select_lanes(condition: Array, new: Array, old: Array) -> Array:
    """Return `new` in the lanes where the condition holds, else `old`."""
    *shape, n_lanes = new.shape
    return lax.select(broadcast_lanes(n_lanes, Mapped(condition), shape), new, old)


def _checkpoint(interpreter: Interpreter, eqn: Equation, *operands: Any) -> list[Any]:
    flags = find_mapped(operands)
    are_mapped = find_mapped_outputs(eqn, flags)
    run = make_leaf_function(interpreter, eqn.params["jaxpr"], (), flags, are_mapped)
    options = {name: eqn.params[name] for name in ("prevent_cse", "policy")}
    leaves = interpreter.flatten(operands, lane_avals(eqn.invars, flags))
    outs = jax.checkpoint(run, **options)(*leaves)
    return interpreter.unflatten(outs, lane_avals(eqn.outvars, are_mapped))


def _prepare_call(
    interpreter: Interpreter, eqn: Equation
) -> tuple[Callable[..., list[Any]], list[LaneAval], list[LaneAval]]:
    """Return the body of a call as a function of leaves, and the types of its operands and results.

    JAX differentiates this function, so all its operands and results have lanes.
    """
    are_mapped, are_lanes = [True] * len(eqn.invars), [True] * len(eqn.outvars)
    run = make_leaf_function(interpreter, eqn.params["call_jaxpr"], (), are_mapped, are_lanes)
    return run, lane_avals(eqn.invars, are_mapped), lane_avals(eqn.outvars, are_lanes)


def _custom_jvp(interpreter: Interpreter, eqn: Equation, *operands: Any) -> list[Any]:
    run, ins, outs = _prepare_call(interpreter, eqn)
    are_floats = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in ins]  # only floats have tangents
    call = jax.custom_jvp(run)

    def differentiate(primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Any, Any]:
        def run_floats(*floats: Array) -> Sequence[Array]:
            return jaxprs.bind_equation(eqn, jaxprs.replace_where(are_floats, floats, primals))

        return jax.jvp(run_floats, list(compress(primals, are_floats)), tangents)

    @call.defjvp
    def _(primals: Leaves, tangents: Leaves) -> tuple[list[Any], list[Any]]:
        inner = interpreter.make_inner()
        values, slopes = inner.assemble_all(primals, ins), inner.assemble_all(tangents, ins)
        results, slopes = inner.apply(differentiate, values, list(compress(slopes, are_floats)))
        return inner.flatten(results, outs), inner.flatten(slopes, outs)

    return interpreter.unflatten(call(*interpreter.flatten(operands, ins)), outs)


def _custom_vjp(interpreter: Interpreter, eqn: Equation, *operands: Any) -> list[Any]:
    run, ins, outs = _prepare_call(interpreter, eqn)
    are_floats = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in ins]  # only floats have tangents
    call = jax.custom_vjp(run)
    leaves = [interpreter.flatten([x], [aval]) for x, aval in zip(operands, ins, strict=True)]
    nones = [[None] * len(own) for own in leaves]

    def forward(*leaves: Any) -> tuple[list[Any], Any]:
        inner = interpreter.make_inner()
        linearize = partial(jax.vjp, lambda *xs: jaxprs.bind_equation(eqn, xs))
        results, pullback = inner.apply(linearize, *inner.assemble_all(leaves, ins))
        return inner.flatten(results, outs), pullback

    def backward(pullback: Any, cotangents: Leaves) -> tuple[Any, ...]:
        inner = interpreter.make_inner()
        slopes = inner.apply(
            lambda pullback, cotangents: list(compress(pullback(cotangents), are_floats)),
            pullback,
            inner.assemble_all(cotangents, outs),
        )
        flat = [inner.flatten([x], [aval]) for x, aval in zip(slopes, compress(ins, are_floats), strict=True)]
        return tuple(chain(*jaxprs.replace_where(are_floats, flat, nones)))

    call.defvjp(forward, backward)
    return interpreter.unflatten(call(*chain(*leaves)), outs)


CONTROL_FLOW: dict[str, Callable[..., list[Any]]] = {
    **dict.fromkeys(jaxprs.INLINED, inline_rule),
    **dict.fromkeys(jaxprs.CHECKPOINTS, _checkpoint),
    "cond": cond_rule,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": scan_rule,
    "while": _while,
}
