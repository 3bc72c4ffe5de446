"""What `scalarize` does with control flow: the same control flow, with a scalarized body.

What a loop carries is taken to pieces, every element by itself but for large arrays.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import (
    CHECKPOINTS,
    INLINED,
    Equation,
    bind_equation,
    call_jaxpr,
    cast_to_aval,
    equation_jvp,
    fill_nones,
    open_jaxpr,
    real_cotangents,
    real_tangents,
    scan_counts,
)
from xorjax.lanes.scalar.elementwise import MAX_ELEMENTS, is_known, object_array


def count_leaves(aval: Any) -> int:
    size = prod(aval.shape)
    return size if size <= MAX_ELEMENTS else 1


def unflatten(leaves: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """The values that `Scalars.all_leaves` took to pieces."""
    rest = iter(leaves)
    values = []
    for aval in avals:
        if prod(aval.shape) > MAX_ELEMENTS:
            values.append(next(rest))
            continue
        values.append(object_array([next(rest) for _ in range(prod(aval.shape))], aval.shape))
    return values


def make_leaf_function(
    scalars: Any, closed: Any, consts: Sequence[Any] = ()
) -> Callable[[Sequence[Any]], list[Any]]:
    """A jaxpr as a function of leaves to leaves; `consts`, its first arguments, are closed over."""
    jaxpr, jaxpr_consts = open_jaxpr(closed)
    in_avals = [v.aval for v in jaxpr.invars[len(consts) :]]
    out_avals = [v.aval for v in jaxpr.outvars]
    consts = [  # taken apart here, and not in every iteration
        scalars.elements(x) if count_leaves(v.aval) == prod(v.aval.shape) else x
        for x, v in zip(consts, jaxpr.invars[: len(consts)], strict=True)
    ]

    def run(leaves: Sequence[Any]) -> list[Any]:
        inner = scalars.make_inner()
        outs = inner.evaluate(jaxpr, jaxpr_consts, [*consts, *unflatten(leaves, in_avals)])
        each_aval = [aval for aval in out_avals for _ in range(count_leaves(aval))]
        return [cast_to_aval(x, aval) for x, aval in zip(inner.flatten(outs, out_avals), each_aval, strict=True)]

    return run


def inline_rule(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    return scalars.evaluate(*open_jaxpr(call_jaxpr(eqn.params)), operands)


def scan_rule(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    n_consts, n_carry = scan_counts(eqn.params)
    length = eqn.params["length"]
    avals = [v.aval for v in eqn.invars]
    carry_avals, xs_avals = avals[n_consts : n_consts + n_carry], avals[n_consts + n_carry :]
    consts, carry, xs = (
        operands[:n_consts],
        operands[n_consts : n_consts + n_carry],
        operands[n_consts + n_carry :],
    )
    n_carry_leaves = sum(map(count_leaves, carry_avals))
    run = make_leaf_function(scalars, eqn.params["jaxpr"], consts)

    def body(carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        leaves = run([*carry, *xs])
        return leaves[:n_carry_leaves], leaves[n_carry_leaves:]

    columns = [
        column
        for x, aval in zip(xs, xs_avals, strict=True)
        for column in _split_columns(scalars.assemble(x, aval), aval)
    ]
    new_carry, ys = lax.scan(
        body,
        scalars.flatten(carry, carry_avals),
        columns,
        length=length,
        reverse=eqn.params["reverse"],
        unroll=1 if scalars.in_kernel else eqn.params["unroll"],
    )
    stacked = iter(ys)
    ys_avals = [v.aval for v in eqn.outvars[n_carry:]]
    return [*unflatten(new_carry, carry_avals), *(_stack_columns(stacked, aval) for aval in ys_avals)]


def _split_columns(x: Any, aval: Any) -> list[Any]:
    """What a scan takes apart, (length, *shape), as an array (length,) for each element of the shape."""
    length, *shape = aval.shape
    size = prod(shape)
    if size > MAX_ELEMENTS:
        return [x]
    if not size:
        return []
    flat = x.reshape(length, size) if isinstance(x, np.ndarray) else lax.reshape(x, (length, size))
    if isinstance(x, np.ndarray):
        return list(flat.T)
    return [lax.squeeze(column, (1,)) for column in lax.split(flat, (1,) * size, axis=1)]


def _stack_columns(columns: Any, aval: Any) -> Any:
    length, *shape = aval.shape
    size = prod(shape)
    if size > MAX_ELEMENTS:
        return next(columns)
    if not size:
        return np.zeros(aval.shape, aval.dtype)
    parts = [lax.reshape(next(columns), (length, 1)) for _ in range(size)]
    return lax.reshape(lax.concatenate(parts, 1), aval.shape)


def _while(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    holds = make_leaf_function(scalars, eqn.params["cond_jaxpr"], operands[:n_cond])
    body = make_leaf_function(scalars, eqn.params["body_jaxpr"], operands[n_cond : n_cond + n_body])
    avals = [v.aval for v in eqn.outvars]
    carry = scalars.flatten(operands[n_cond + n_body :], avals)
    return unflatten(lax.while_loop(lambda c: holds(c)[0], body, carry), avals)


def _cond(scalars: Any, eqn: Equation, index: Any, *operands: Any) -> list[Any]:
    branches = eqn.params["branches"]
    (index,) = scalars.elements(index).flat
    if is_known(index):
        return scalars.evaluate(*open_jaxpr(branches[int(np.clip(index, 0, len(branches) - 1))]), operands)
    bodies = [make_leaf_function(scalars, branch, operands) for branch in branches]
    leaves = lax.switch(index, [lambda body=body: body([]) for body in bodies])
    return unflatten(leaves, [v.aval for v in eqn.outvars])


def _checkpoint(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    run = make_leaf_function(scalars, eqn.params["jaxpr"])
    again = jax.checkpoint(
        lambda *leaves: run(leaves), prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
    )
    leaves = again(*scalars.flatten(operands, [v.aval for v in eqn.invars]))
    return unflatten(leaves, [v.aval for v in eqn.outvars])


def _custom_jvp(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    in_avals, out_avals = [v.aval for v in eqn.invars], [v.aval for v in eqn.outvars]
    run = make_leaf_function(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_jvp(lambda *leaves: run(leaves))

    @call.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        inner = scalars.make_inner()
        both = real_tangents(eqn, inner.assemble_all(primals, in_avals), inner.assemble_all(tangents, in_avals))
        outs, slopes = inner.apply(lambda *both: equation_jvp(eqn, *both), *both)
        return inner.flatten(outs, out_avals), inner.flatten(slopes, out_avals)

    return unflatten(call(*scalars.flatten(operands, in_avals)), out_avals)


def _custom_vjp(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    in_avals, out_avals = [v.aval for v in eqn.invars], [v.aval for v in eqn.outvars]
    run = make_leaf_function(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_vjp(lambda *leaves: run(leaves))

    def forward(*leaves: Any) -> Any:
        inner = scalars.make_inner()
        arrays = inner.assemble_all(leaves, in_avals)
        outs, pullback = inner.apply(lambda *xs: jax.vjp(lambda *ys: bind_equation(eqn, ys), *xs), *arrays)
        return inner.flatten(outs, out_avals), pullback

    def backward(pullback: Any, leaves: Any) -> Any:
        inner = scalars.make_inner()
        cotangents = inner.assemble_all(leaves, out_avals)
        slopes = inner.apply(lambda *both: real_cotangents(eqn, *both), pullback, cotangents)
        each = fill_nones(eqn, slopes)
        return tuple(
            leaf
            for slope, aval in zip(each, in_avals, strict=True)
            for leaf in ([None] * count_leaves(aval) if slope is None else inner.flatten_value(slope, aval))
        )

    call.defvjp(forward, backward)
    return unflatten(call(*scalars.flatten(operands, in_avals)), out_avals)


CONTROL_FLOW: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(INLINED, inline_rule),
    **dict.fromkeys(CHECKPOINTS, _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": scan_rule,
    "while": _while,
}
