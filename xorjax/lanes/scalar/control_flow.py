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
    body_of,
    bound,
    derivative,
    opened,
    real_cotangents,
    real_tangents,
    scan_counts,
    typed,
    with_nones,
)
from xorjax.lanes.scalar.elementwise import MAX_APART, is_known, objects


def n_leaves(aval: Any) -> int:
    size = prod(aval.shape)
    return size if size <= MAX_APART else 1


def from_leaves(leaves: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """The values that `Scalars.all_leaves` took to pieces."""
    rest = iter(leaves)
    values = []
    for aval in avals:
        if prod(aval.shape) > MAX_APART:
            values.append(next(rest))
            continue
        values.append(objects([next(rest) for _ in range(prod(aval.shape))], aval.shape))
    return values


def on_leaves(scalars: Any, closed: Any, consts: Sequence[Any] = ()) -> Callable[[Sequence[Any]], list[Any]]:
    """A jaxpr as a function of leaves to leaves; `consts`, its first arguments, are closed over."""
    jaxpr, jaxpr_consts = opened(closed)
    in_avals = [v.aval for v in jaxpr.invars[len(consts) :]]
    out_avals = [v.aval for v in jaxpr.outvars]
    consts = [  # taken apart here, and not in every iteration
        scalars.apart(x) if n_leaves(v.aval) == prod(v.aval.shape) else x
        for x, v in zip(consts, jaxpr.invars[: len(consts)], strict=True)
    ]

    def run(leaves: Sequence[Any]) -> list[Any]:
        inner = scalars.inner()
        outs = inner.evaluate(jaxpr, jaxpr_consts, [*consts, *from_leaves(leaves, in_avals)])
        each_aval = [aval for aval in out_avals for _ in range(n_leaves(aval))]
        return [typed(x, aval) for x, aval in zip(inner.all_leaves(outs, out_avals), each_aval, strict=True)]

    return run


def inlined(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    return scalars.evaluate(*opened(body_of(eqn.params)), operands)


def scan(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    n_consts, n_carry = scan_counts(eqn.params)
    length = eqn.params["length"]
    avals = [v.aval for v in eqn.invars]
    carry_avals, xs_avals = avals[n_consts : n_consts + n_carry], avals[n_consts + n_carry :]
    consts, carry, xs = (
        operands[:n_consts],
        operands[n_consts : n_consts + n_carry],
        operands[n_consts + n_carry :],
    )
    n_carry_leaves = sum(map(n_leaves, carry_avals))
    run = on_leaves(scalars, eqn.params["jaxpr"], consts)

    def body(carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        leaves = run([*carry, *xs])
        return leaves[:n_carry_leaves], leaves[n_carry_leaves:]

    columns = [
        column for x, aval in zip(xs, xs_avals, strict=True) for column in _columns(scalars.whole(x, aval), aval)
    ]
    new_carry, ys = lax.scan(
        body,
        scalars.all_leaves(carry, carry_avals),
        columns,
        length=length,
        reverse=eqn.params["reverse"],
        unroll=1 if scalars.in_kernel else eqn.params["unroll"],
    )
    stacked = iter(ys)
    ys_avals = [v.aval for v in eqn.outvars[n_carry:]]
    return [*from_leaves(new_carry, carry_avals), *(_stacked(stacked, aval) for aval in ys_avals)]


def _columns(x: Any, aval: Any) -> list[Any]:
    """What a scan takes apart, (length, *shape), as an array (length,) for each element of the shape."""
    length, *shape = aval.shape
    size = prod(shape)
    if size > MAX_APART:
        return [x]
    if not size:
        return []
    flat = x.reshape(length, size) if isinstance(x, np.ndarray) else lax.reshape(x, (length, size))
    if isinstance(x, np.ndarray):
        return list(flat.T)
    return [lax.squeeze(column, (1,)) for column in lax.split(flat, (1,) * size, axis=1)]


def _stacked(columns: Any, aval: Any) -> Any:
    length, *shape = aval.shape
    size = prod(shape)
    if size > MAX_APART:
        return next(columns)
    if not size:
        return np.zeros(aval.shape, aval.dtype)
    parts = [lax.reshape(next(columns), (length, 1)) for _ in range(size)]
    return lax.reshape(lax.concatenate(parts, 1), aval.shape)


def _while(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    holds = on_leaves(scalars, eqn.params["cond_jaxpr"], operands[:n_cond])
    body = on_leaves(scalars, eqn.params["body_jaxpr"], operands[n_cond : n_cond + n_body])
    avals = [v.aval for v in eqn.outvars]
    carry = scalars.all_leaves(operands[n_cond + n_body :], avals)
    return from_leaves(lax.while_loop(lambda c: holds(c)[0], body, carry), avals)


def _cond(scalars: Any, eqn: Equation, index: Any, *operands: Any) -> list[Any]:
    branches = eqn.params["branches"]
    (index,) = scalars.apart(index).flat
    if is_known(index):
        return scalars.evaluate(*opened(branches[int(np.clip(index, 0, len(branches) - 1))]), operands)
    bodies = [on_leaves(scalars, branch, operands) for branch in branches]
    leaves = lax.switch(index, [lambda body=body: body([]) for body in bodies])
    return from_leaves(leaves, [v.aval for v in eqn.outvars])


def _checkpoint(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    run = on_leaves(scalars, eqn.params["jaxpr"])
    again = jax.checkpoint(
        lambda *leaves: run(leaves), prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
    )
    leaves = again(*scalars.all_leaves(operands, [v.aval for v in eqn.invars]))
    return from_leaves(leaves, [v.aval for v in eqn.outvars])


def _custom_jvp(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    in_avals, out_avals = [v.aval for v in eqn.invars], [v.aval for v in eqn.outvars]
    run = on_leaves(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_jvp(lambda *leaves: run(leaves))

    @call.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        inner = scalars.inner()
        both = real_tangents(eqn, inner.arrays(primals, in_avals), inner.arrays(tangents, in_avals))
        outs, slopes = inner.applied(lambda *both: derivative(eqn, *both), *both)
        return inner.all_leaves(outs, out_avals), inner.all_leaves(slopes, out_avals)

    return from_leaves(call(*scalars.all_leaves(operands, in_avals)), out_avals)


def _custom_vjp(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    in_avals, out_avals = [v.aval for v in eqn.invars], [v.aval for v in eqn.outvars]
    run = on_leaves(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_vjp(lambda *leaves: run(leaves))

    def forward(*leaves: Any) -> Any:
        inner = scalars.inner()
        arrays = inner.arrays(leaves, in_avals)
        outs, pullback = inner.applied(lambda *xs: jax.vjp(lambda *ys: bound(eqn, ys), *xs), *arrays)
        return inner.all_leaves(outs, out_avals), pullback

    def backward(pullback: Any, leaves: Any) -> Any:
        inner = scalars.inner()
        cotangents = inner.arrays(leaves, out_avals)
        slopes = inner.applied(lambda *both: real_cotangents(eqn, *both), pullback, cotangents)
        each = with_nones(eqn, slopes)
        return tuple(
            leaf
            for slope, aval in zip(each, in_avals, strict=True)
            for leaf in ([None] * n_leaves(aval) if slope is None else inner.leaves(slope, aval))
        )

    call.defvjp(forward, backward)
    return from_leaves(call(*scalars.all_leaves(operands, in_avals)), out_avals)


CONTROL_FLOW: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(INLINED, inlined),
    **dict.fromkeys(CHECKPOINTS, _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": scan,
    "while": _while,
}
