"""Rules for control flow: the same control flow, with a scalarized body.

The carry of a loop becomes a list of leaves: the elements of its arrays, and large arrays as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import jax
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import (
    CHECKPOINTS,
    INLINED,
    AnyJaxpr,
    Aval,
    Equation,
    bind_equation,
    call_jaxpr,
    cast_to_aval,
    equation_jvp,
    fill_nones,
    get_avals,
    open_jaxpr,
    real_cotangents,
    real_tangents,
    scan_counts,
)
from xorjax.lanes.scalar.values import (
    MAX_ELEMENTS,
    Interpreter,
    Leaf,
    Rule,
    Value,
    count_leaves,
    is_known,
    is_small,
    unflatten,
)

Leaves = Sequence[Leaf]


def make_leaf_function(
    scalars: Interpreter, closed: AnyJaxpr, consts: Sequence[Value] = ()
) -> Callable[[Leaves], list[Any]]:
    """Return a jaxpr as a function of leaves to leaves, which closes over `consts`, the jaxpr's first inputs."""
    jaxpr, jaxpr_consts = open_jaxpr(closed)
    in_avals, out_avals = get_avals(jaxpr.invars[len(consts) :]), get_avals(jaxpr.outvars)
    consts = [  # split here, not in every iteration
        scalars.elements(x) if is_small(v) else x for x, v in zip(consts, jaxpr.invars[: len(consts)], strict=True)
    ]

    def run(leaves: Leaves) -> list[Any]:
        inner = scalars.make_inner()
        outs = inner.evaluate(jaxpr, jaxpr_consts, [*consts, *unflatten(leaves, in_avals)])
        each_aval = [aval for aval in out_avals for _ in range(count_leaves(aval))]
        return [cast_to_aval(x, aval) for x, aval in zip(inner.flatten(outs, out_avals), each_aval, strict=True)]

    return run


def inline_rule(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    """Evaluate the body of a call in its place."""
    return scalars.evaluate(*open_jaxpr(call_jaxpr(eqn.params)), operands)


def scan_rule(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    """Scan over arrays (length,), one for each element of what the equation scans over."""
    n_consts, n_carry = scan_counts(eqn.params)
    n_fixed = n_consts + n_carry
    avals = get_avals(eqn.invars)
    carry_avals, ys_avals = avals[n_consts:n_fixed], get_avals(eqn.outvars[n_carry:])
    n_carry_leaves = sum(map(count_leaves, carry_avals))
    run = make_leaf_function(scalars, eqn.params["jaxpr"], operands[:n_consts])

    def body(carry: Leaves, xs: Leaves) -> tuple[list[Leaf], list[Leaf]]:
        leaves = run([*carry, *xs])
        return leaves[:n_carry_leaves], leaves[n_carry_leaves:]

    columns = [
        column
        for x, aval in zip(operands[n_fixed:], avals[n_fixed:], strict=True)
        for column in _split_columns(scalars.assemble(x, aval), aval)
    ]
    carry, ys = lax.scan(
        body,
        scalars.flatten(operands[n_consts:n_fixed], carry_avals),
        columns,
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=1 if scalars.in_kernel else eqn.params["unroll"],
    )
    stacked = iter(ys)
    return [*unflatten(carry, carry_avals), *(_stack_columns(stacked, aval) for aval in ys_avals)]


def _split_columns(x: Value, aval: Aval) -> list[Value]:
    """Split (length, *shape) into an array (length,) for each element of the shape."""
    length, *shape = aval.shape
    size = prod(shape)
    if size > MAX_ELEMENTS:
        return [x]
    if not size:
        return []
    if isinstance(x, np.ndarray):
        return list(x.reshape(length, size).T)
    flat = lax.reshape(x, (length, size))
    return [lax.squeeze(column, (1,)) for column in lax.split(flat, (1,) * size, axis=1)]


def _stack_columns(columns: Iterator[Any], aval: Aval) -> Value:
    length, *shape = aval.shape
    size = prod(shape)
    if size > MAX_ELEMENTS:
        return next(columns)
    if not size:
        return np.zeros(aval.shape, aval.dtype)
    parts = [lax.reshape(next(columns), (length, 1)) for _ in range(size)]
    return lax.reshape(lax.concatenate(parts, 1), aval.shape)


def _while(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    holds = make_leaf_function(scalars, eqn.params["cond_jaxpr"], operands[:n_cond])
    body = make_leaf_function(scalars, eqn.params["body_jaxpr"], operands[n_cond : n_cond + n_body])
    avals = get_avals(eqn.outvars)
    carry = scalars.flatten(operands[n_cond + n_body :], avals)
    return unflatten(lax.while_loop(lambda c: holds(c)[0], body, carry), avals)


def evaluate_known_branch(
    scalars: Interpreter, eqn: Equation, index: np.generic, operands: Sequence[Value]
) -> list[Value]:
    """Evaluate the branch of this index in place of a `cond`."""
    branches = eqn.params["branches"]
    branch = branches[int(np.clip(index, 0, len(branches) - 1))]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return scalars.evaluate(*open_jaxpr(branch), operands)


def _cond(scalars: Interpreter, eqn: Equation, index: Value, *operands: Value) -> list[Value]:
    (which,) = scalars.elements(index).flat
    if is_known(which):
        return evaluate_known_branch(scalars, eqn, which, operands)
    bodies = [make_leaf_function(scalars, branch, operands) for branch in eqn.params["branches"]]
    leaves = lax.switch(which, [lambda body=body: body([]) for body in bodies])
    return unflatten(leaves, get_avals(eqn.outvars))


def _checkpoint(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    run = make_leaf_function(scalars, eqn.params["jaxpr"])
    recompute = jax.checkpoint(
        lambda *leaves: run(leaves), prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
    )
    return unflatten(recompute(*scalars.flatten(operands, get_avals(eqn.invars))), get_avals(eqn.outvars))


def _custom_jvp(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    in_avals, out_avals = get_avals(eqn.invars), get_avals(eqn.outvars)
    run = make_leaf_function(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_jvp(lambda *leaves: run(leaves))

    @call.defjvp
    def _(primals: Leaves, tangents: Leaves) -> tuple[list[Leaf], list[Leaf]]:
        inner = scalars.make_inner()
        arrays = inner.assemble_all(primals, in_avals), inner.assemble_all(tangents, in_avals)
        outs, slopes = inner.apply(lambda *both: equation_jvp(eqn, *both), *real_tangents(eqn, *arrays))
        return inner.flatten(outs, out_avals), inner.flatten(slopes, out_avals)

    return unflatten(call(*scalars.flatten(operands, in_avals)), out_avals)


def _custom_vjp(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    in_avals, out_avals = get_avals(eqn.invars), get_avals(eqn.outvars)
    run = make_leaf_function(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_vjp(lambda *leaves: run(leaves))

    def forward(*leaves: Leaf) -> tuple[list[Leaf], Any]:
        inner = scalars.make_inner()
        arrays = inner.assemble_all(leaves, in_avals)
        outs, pullback = inner.apply(lambda *xs: jax.vjp(lambda *ys: bind_equation(eqn, ys), *xs), *arrays)
        return inner.flatten(outs, out_avals), pullback

    def backward(pullback: Any, leaves: Leaves) -> tuple[Leaf | None, ...]:
        inner = scalars.make_inner()
        cotangents = inner.assemble_all(leaves, out_avals)
        slopes = inner.apply(lambda *both: real_cotangents(eqn, *both), pullback, cotangents)
        return tuple(
            leaf
            for slope, aval in zip(fill_nones(eqn, slopes), in_avals, strict=True)
            for leaf in ([None] * count_leaves(aval) if slope is None else inner.flatten([slope], [aval]))
        )

    call.defvjp(forward, backward)
    return unflatten(call(*scalars.flatten(operands, in_avals)), out_avals)


CONTROL_FLOW: dict[str, Rule] = {
    **dict.fromkeys(INLINED, inline_rule),
    **dict.fromkeys(CHECKPOINTS, _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": scan_rule,
    "while": _while,
}
