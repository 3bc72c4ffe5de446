"""The interpreter of `lane_vmap`'s second depth, and its control flow: the same, with a rewritten body.

Only what is mapped has lanes, and stays free of them through loops and branches where it can.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.arrays.reuse import RECOMPUTED, Reuse, count_uses
from xorjax.lanes.arrays.rules import ARRAY_RULES, Mapped, broadcast_lanes
from xorjax.lanes.jaxprs import (
    CHECKPOINTS,
    INLINED,
    Equation,
    bind_equation,
    call_jaxpr,
    equation_jvp,
    fill_nones,
    is_literal,
    literal_value,
    open_jaxpr,
    real_cotangents,
    real_tangents,
    scan_counts,
)


def find_mapped_results(closed: Any, are_mapped: Sequence[bool]) -> list[bool]:
    """Which results of a jaxpr depend on the mapped ones among its arguments."""
    jaxpr, _ = open_jaxpr(closed)
    mapped = {v for v, is_mapped in zip(jaxpr.invars, are_mapped, strict=True) if is_mapped}
    for eqn in jaxpr.eqns:
        operands = [not is_literal(v) and v in mapped for v in eqn.invars]
        if any(operands):
            find = _MAPPED.get(eqn.primitive.name)
            results = [True] * len(eqn.outvars) if find is None else find(eqn.params, operands)
            mapped.update(v for v, is_mapped in zip(eqn.outvars, results, strict=True) if is_mapped)
    return [not is_literal(v) and v in mapped for v in jaxpr.outvars]


def _find_mapped_of_scan(params: Any, operands: list[bool]) -> list[bool]:
    n_consts, n_carry = scan_counts(params)
    carry = operands[n_consts : n_consts + n_carry]
    while True:
        results = find_mapped_results(
            params["jaxpr"], [*operands[:n_consts], *carry, *operands[n_consts + n_carry :]]
        )
        grown = [a or b for a, b in zip(carry, results[:n_carry], strict=True)]
        if grown == carry:
            return [*carry, *results[n_carry:]]
        carry = grown


def _find_mapped_of_while(params: Any, operands: list[bool]) -> list[bool]:
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    carry = operands[n_cond + n_body :]
    while True:
        if find_mapped_results(params["cond_jaxpr"], [*operands[:n_cond], *carry])[0]:
            return [True] * len(carry)
        results = find_mapped_results(params["body_jaxpr"], [*operands[n_cond : n_cond + n_body], *carry])
        grown = [a or b for a, b in zip(carry, results, strict=True)]
        if grown == carry:
            return carry
        carry = grown


def _find_mapped_of_cond(params: Any, operands: list[bool]) -> list[bool]:
    index, *rest = operands
    branches = [find_mapped_results(branch, rest) for branch in params["branches"]]
    return [index or any(each) for each in zip(*branches, strict=True)]


_MAPPED: dict[str, Callable[[Any, list[bool]], list[bool]]] = {
    **dict.fromkeys(
        (*INLINED, *CHECKPOINTS),
        lambda params, operands: find_mapped_results(call_jaxpr(params), operands),
    ),
    "cond": _find_mapped_of_cond,
    "scan": _find_mapped_of_scan,
    "while": _find_mapped_of_while,
}


class LaneInterpreter(Reuse):
    """The interpreter of the second depth. Values are `Lane`s, or arrays where they are not mapped."""

    def __init__(self, n: int, keeps: bool = False):
        super().__init__()
        self.n = n
        self._materializes = keeps  # what is used often

    def make_inner(self) -> "LaneInterpreter":
        """For what is traced by itself: of the values outside it, nothing is made again there."""
        return LaneInterpreter(self.n, self._materializes)

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        """The values of a jaxpr's results."""
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(v: Any) -> Any:
            return literal_value(v) if is_literal(v) else env[v]

        n_uses = count_uses(jaxpr) if self._materializes else {}
        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            with eqn.ctx.manager:
                if not any(isinstance(x, Mapped) for x in operands):
                    outs = bind_equation(eqn, operands)
                else:
                    rule = RULES.get(eqn.primitive.name)
                    outs = NotImplemented if rule is None else rule(self, eqn, *operands)
                    if outs is NotImplemented:
                        outs = self.apply_vmap(lambda *arrays, eqn=eqn: bind_equation(eqn, arrays), operands)
                    elif self._materializes and eqn.primitive.name in RECOMPUTED:
                        outs = [self.materialize_if_reused(n_uses[eqn.outvars[0]], rule, eqn, operands, outs[0])]
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def apply_vmap(self, fn: Callable[..., Any], operands: Sequence[Any]) -> list[Mapped]:
        """One operation as `jax.vmap` does it."""
        axes = [-1 if isinstance(x, Mapped) else None for x in operands]
        arrays = [x.array if isinstance(x, Mapped) else x for x in operands]
        run = jax.vmap(lambda *xs: list(fn(*xs)), in_axes=axes, out_axes=-1, axis_size=self.n)
        return [Mapped(out) for out in run(*arrays)]

    def to_arrays(self, values: Sequence[Any], avals: Sequence[Any], are_lanes: Sequence[bool]) -> list[Any]:
        """Values as arrays that a loop can carry: with lanes where `are_lanes` says so."""
        return [
            broadcast_lanes(self.n, x, aval.shape) if is_lane else jnp.asarray(x)
            for x, aval, is_lane in zip(values, avals, are_lanes, strict=True)
        ]


def to_values(arrays: Sequence[Any], are_lanes: Sequence[bool]) -> list[Any]:
    """Arrays as values of the interpreter: those that are mapped have the lanes last."""
    return [Mapped(a) if is_lane else a for a, is_lane in zip(arrays, are_lanes, strict=True)]


def get_avals(variables: Sequence[Any]) -> list[Any]:
    return [v.aval for v in variables]


# Control flow: the same control flow with a rewritten body.


def _inlined(lanes: LaneInterpreter, eqn: Equation, *operands: Any) -> list[Any]:
    return lanes.evaluate(*open_jaxpr(call_jaxpr(eqn.params)), operands)


def _scan(lanes: LaneInterpreter, eqn: Equation, *operands: Any) -> list[Any]:
    n_consts, n_carry = scan_counts(eqn.params)
    jaxpr, jaxpr_consts = open_jaxpr(eqn.params["jaxpr"])
    are_lanes = _find_mapped_of_scan(eqn.params, [isinstance(x, Mapped) for x in operands])
    consts, carry, xs = (
        operands[:n_consts],
        operands[n_consts : n_consts + n_carry],
        operands[n_consts + n_carry :],
    )
    out_avals = get_avals(jaxpr.outvars)

    def body(carry: Any, xs_arrays: Any) -> Any:
        xs_values = to_values(xs_arrays, [isinstance(x, Mapped) for x in xs])
        outs = lanes.make_inner().evaluate(
            jaxpr, jaxpr_consts, [*consts, *to_values(carry, are_lanes[:n_carry]), *xs_values]
        )
        arrays = lanes.to_arrays(outs, out_avals, are_lanes)
        return arrays[:n_carry], arrays[n_carry:]

    new_carry, ys = lax.scan(
        body,
        lanes.to_arrays(carry, out_avals[:n_carry], are_lanes[:n_carry]),
        [x.array if isinstance(x, Mapped) else x for x in xs],
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=eqn.params["unroll"],
    )
    return to_values([*new_carry, *ys], are_lanes)


def _while(lanes: LaneInterpreter, eqn: Equation, *operands: Any) -> list[Any]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    are_lanes = _find_mapped_of_while(eqn.params, [isinstance(x, Mapped) for x in operands])
    avals = get_avals(eqn.outvars)
    cond_consts, body_consts, carry = (
        operands[:n_cond],
        operands[n_cond : n_cond + n_body],
        operands[n_cond + n_body :],
    )

    def holds(carry: Any) -> Any:
        values = [*cond_consts, *to_values(carry, are_lanes)]
        return lanes.make_inner().evaluate(*open_jaxpr(eqn.params["cond_jaxpr"]), values)[0]

    cond_is_lane = find_mapped_results(
        eqn.params["cond_jaxpr"], [isinstance(x, Mapped) for x in cond_consts] + are_lanes
    )[0]

    def body(carry: Any) -> Any:
        values = [*body_consts, *to_values(carry, are_lanes)]
        outs = lanes.make_inner().evaluate(*open_jaxpr(eqn.params["body_jaxpr"]), values)
        new = lanes.to_arrays(outs, avals, are_lanes)
        if not cond_is_lane:
            return new
        going_on = holds(carry)
        return [_select_lanes(lanes, going_on, n, old) for n, old in zip(new, carry, strict=True)]

    def any_holds(carry: Any) -> Any:
        going_on = holds(carry)
        return jnp.any(going_on.array) if cond_is_lane else going_on

    return to_values(lax.while_loop(any_holds, body, lanes.to_arrays(carry, avals, are_lanes)), are_lanes)


def _cond(lanes: LaneInterpreter, eqn: Equation, index: Any, *operands: Any) -> list[Any]:
    branches, avals = eqn.params["branches"], get_avals(eqn.outvars)
    are_lanes = _find_mapped_of_cond(eqn.params, [isinstance(x, Mapped) for x in (index, *operands)])

    def run(branch: Any) -> list[Any]:
        return lanes.to_arrays(lanes.make_inner().evaluate(*open_jaxpr(branch), operands), avals, are_lanes)

    if not isinstance(index, Mapped):
        return to_values(lax.switch(index, [lambda branch=branch: run(branch) for branch in branches]), are_lanes)
    chosen = lax.clamp(np.int32(0), index.array, np.int32(len(branches) - 1))
    results, *others = map(run, branches)
    for i, other in enumerate(others, 1):
        is_this = Mapped(lax.eq(chosen, jnp.full_like(chosen, i)))
        results = [_select_lanes(lanes, is_this, new, old) for new, old in zip(other, results, strict=True)]
    return to_values(results, are_lanes)


def _select_lanes(lanes: LaneInterpreter, condition: Mapped, new: Any, old: Any) -> Any:
    """`new` in the lanes where the condition holds."""
    return lax.select(broadcast_lanes(lanes.n, condition, new.shape[:-1]), new, old)


def _checkpoint(lanes: LaneInterpreter, eqn: Equation, *operands: Any) -> list[Any]:
    jaxpr, avals = eqn.params["jaxpr"], get_avals(eqn.outvars)
    are_operands = [isinstance(x, Mapped) for x in operands]
    are_lanes = find_mapped_results(jaxpr, are_operands)

    def run(*arrays: Any) -> list[Any]:
        outs = lanes.make_inner().evaluate(*open_jaxpr(jaxpr), to_values(arrays, are_operands))
        return lanes.to_arrays(outs, avals, are_lanes)

    again = jax.checkpoint(run, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"])
    return to_values(again(*(x.array if isinstance(x, Mapped) else x for x in operands)), are_lanes)


# What JAX differentiates in its own way: called with every operand in lanes.


def _make_array_function(
    lanes: LaneInterpreter, eqn: Equation, body: Any
) -> tuple[Callable[..., Any], Callable[[Sequence[Any]], list[Any]]]:
    """A body as a function of arrays with lanes, and what makes such arrays of the operands."""
    in_avals, out_avals = get_avals(eqn.invars), get_avals(eqn.outvars)

    def call(*arrays: Any) -> list[Any]:
        outs = lanes.make_inner().evaluate(*open_jaxpr(body), [Mapped(a) for a in arrays])
        return lanes.to_arrays(outs, out_avals, [True] * len(out_avals))

    return call, lambda operands: lanes.to_arrays(operands, in_avals, [True] * len(in_avals))


def _apply(lanes: LaneInterpreter, fn: Callable[..., Any], arrays: Any) -> Any:
    """`fn` of a pytree of arrays with lanes, to one such."""
    members = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[:-1], a.dtype), arrays)
    closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(members)
    outs = lanes.make_inner().evaluate(*open_jaxpr(closed), [Mapped(a) for a in jax.tree.leaves(arrays)])
    held = lanes.to_arrays(outs, get_avals(open_jaxpr(closed)[0].outvars), [True] * len(outs))
    return jax.tree.unflatten(jax.tree.structure(out_shapes), held)


def _custom_jvp(lanes: LaneInterpreter, eqn: Equation, *operands: Any) -> list[Any]:
    run, spread_out = _make_array_function(lanes, eqn, eqn.params["call_jaxpr"])
    call = jax.custom_jvp(run)
    call.defjvp(
        lambda primals, tangents: _apply(
            lanes, lambda both: equation_jvp(eqn, *both), real_tangents(eqn, primals, tangents)
        )
    )
    return [Mapped(a) for a in call(*spread_out(operands))]


def _custom_vjp(lanes: LaneInterpreter, eqn: Equation, *operands: Any) -> list[Any]:
    run, spread_out = _make_array_function(lanes, eqn, eqn.params["call_jaxpr"])
    call = jax.custom_vjp(run)

    def forward(*arrays: Any) -> Any:
        return _apply(lanes, lambda xs: jax.vjp(lambda *ys: bind_equation(eqn, ys), *xs), arrays)

    def backward(pullback: Any, cotangents: Any) -> Any:
        slopes = _apply(lanes, lambda both: real_cotangents(eqn, *both), (pullback, cotangents))
        return fill_nones(eqn, slopes)

    call.defvjp(forward, backward)
    return [Mapped(a) for a in call(*spread_out(operands))]


RULES: dict[str, Callable[..., Any]] = {
    **ARRAY_RULES,
    **dict.fromkeys(INLINED, _inlined),
    **dict.fromkeys(CHECKPOINTS, _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": _scan,
    "while": _while,
}
