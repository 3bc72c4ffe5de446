"""`lane_vmap`: a drop-in for `jax.vmap` on programs of tiny arrays, which has the members in vector lanes.

The mapped axis, the lanes, goes last, where vector instructions and GPU threads run along it, and the program is
rewritten at one of two depths: every array element a scalar of its own (`scalarize`), or arrays that stay
arrays with only products and reductions written out (`lane_rules.py`). `jax.vmap` itself cannot do the second:
some of its rules move the mapped axis to the front. Uses nothing of the package but `scalarize`.
"""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Literal as Constant
from jax.extend.core import jaxpr_as_fun

from xorjax.lane_rules import LANE_RULES, Lane, spread
from xorjax.scalar_rules import ELEMENTWISE, Equation, computed_once
from xorjax.scalarize import (
    Scalars,
    bound,
    bound_on_operations,
    derivative,
    evaluated,
    literal,
    opened,
    real_cotangents,
    real_tangents,
    scan_counts,
    typed,
    with_nones,
)

Depth = Literal["scalar", "contract", "vmap"]
# What XLA:CPU can put into one native function. Random bits are arithmetic too, by the default generator.
_ARITHMETIC = ELEMENTWISE | set(
    """broadcast_in_dim concatenate cond copy custom_jvp_call custom_vjp_call dynamic_slice dynamic_update_slice
    iota jit optimization_barrier pad pjit random_bits random_fold_in random_split random_unwrap random_wrap
    reshape rev scan slice split squeeze threefry2x32 transpose while""".split()
)
DEPTHS = ("auto", "scalar", "contract")

MAX_SCALAR = 350  # scalar operations up to which the first depth is the faster one
MAX_CONTRACT = 100_000  # and up to which the second is


class Explanation(NamedTuple):
    """What `lane_vmap` does with a program.

    Attributes:
      depth: "scalar" (every element a scalar), "contract" (arrays with the lanes last), or "vmap" (`jax.vmap`).
      operations: the program's scalar operations, at most, those in loops counted once.
      why: in a sentence.
    """

    depth: Depth
    operations: int
    why: str


def lane_vmap(
    fn: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    *,
    depth: Literal["auto", "scalar", "contract"] = "auto",
    assume_finite: bool = False,
) -> Callable[..., Any]:
    """`jax.vmap(fn, in_axes, out_axes)`, with the members in vector lanes: for tiny arrays, much faster.

    The result is compiled (`jax.jit` is part of it) and equals that of vmap to rounding. Sums and products of
    matrices run from the first term to the last in every member, so that results do not depend on the number
    of members, given at least a few vectors of them (64 is enough on CPUs).

    Args:
      fn: a function of pytrees of arrays to pytrees of arrays.
      in_axes: as for `jax.vmap`; keyword arguments are mapped along their first axis.
      out_axes: as for `jax.vmap`.
      depth: "scalar", "contract", or "auto" to choose by the number of operations, see `explain`.
      assume_finite: as for `scalarize`; products with constant zeros are 0 at the depth "scalar".

    Raises:
      TypeError, ValueError: those of `jax.vmap`, or for an unknown depth.
    """
    if not callable(fn):
        raise TypeError(f"{fn=} must be a function.")
    if depth not in DEPTHS:
        raise ValueError(f"{depth=} must be one of {', '.join(map(repr, DEPTHS))}.")

    @jax.jit
    @wraps(fn)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        call = _Call(fn, in_axes, args, kwargs)
        chosen = chosen_depth(call.closed).depth if depth == "auto" else depth
        outs = _compiled_as_one(partial(_RUN[chosen], call, assume_finite), call.leaves)
        axes = call.out_axes(out_axes)
        if any(axis is None and is_lane for axis, is_lane in zip(axes, call.are_lanes, strict=True)):
            return jax.vmap(fn, in_axes, out_axes)(*args, **kwargs)  # raises, and says which output
        moved = [
            out
            if axis is None
            else jnp.moveaxis(spread(call.n_lanes, Lane(out) if is_lane else out, member.shape), -1, axis)
            for out, axis, is_lane, member in zip(
                outs, axes, call.are_lanes, jax.tree.leaves(call.out_shapes), strict=True
            )
        ]
        return jax.tree.unflatten(call.out_tree, moved)

    return mapped


def _compiled_as_one(run: Callable[..., Any], leaves: Sequence[Any]) -> list[Any]:
    """`run(False, *leaves)`; on a CPU, where it is arithmetic with a loop, as one native function.

    XLA:CPU otherwise dispatches every operation of a loop's body by itself, some fifty nanoseconds each, unless
    the body is small by its own measure, which differs between versions. Derivatives are taken of `run` itself.
    """
    plain = partial(run, False)
    if jax.default_backend() != "cpu":
        return plain(*leaves)
    closed = jax.make_jaxpr(partial(run, True))(*leaves)
    names = _primitives(closed)
    if not names <= _ARITHMETIC or names.isdisjoint(("scan", "while")):
        return plain(*leaves)
    native = jax.custom_jvp(lambda *leaves: _native(jaxpr_as_fun(closed), leaves))
    native.defjvp(partial(_plain_jvp, plain), symbolic_zeros=True)
    return native(*leaves)


def _native(run: Callable[..., list[Any]], leaves: Sequence[Any]) -> list[Any]:
    # A parameter of which nothing is left after simplification makes XLA abort the process: give one element of
    # each back, and leave out what has none.
    full = [leaf.size > 0 for leaf in leaves]

    def called(*present: Any) -> Any:
        given = iter(present)
        whole = [next(given) if is_full else leaf for leaf, is_full in zip(leaves, full, strict=True)]
        return run(*whole), [leaf.reshape(-1)[:1] for leaf in present]

    with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
        both = jax.jit(called)(*(leaf for leaf, is_full in zip(leaves, full, strict=True) if is_full))
    return lax.optimization_barrier(both)[0]


def _plain_jvp(plain: Callable[..., list[Any]], primals: Any, tangents: Any) -> Any:
    moves = [not isinstance(t, SymbolicZero) for t in tangents]

    def moving(*moved: Any) -> list[Any]:
        given = iter(moved)
        return plain(*(next(given) if m else primal for primal, m in zip(primals, moves, strict=True)))

    moved, along = ([x for x, m in zip(xs, moves, strict=True) if m] for xs in (primals, tangents))
    return jax.jvp(moving, moved, along)


def _primitives(closed: Any) -> set[str]:
    """The names of the primitives in a jaxpr, and in those within."""
    names = set()
    for eqn in opened(closed)[0].eqns:
        names.add(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple) else [value]:
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    names |= _primitives(inner)
    return names


def explain(fn: Callable[..., Any], *args: Any, in_axes: Any = 0, **kwargs: Any) -> Explanation:
    """What `lane_vmap(fn, in_axes)` does on these arguments, and why. Traces and compiles nothing.

    >>> explain(lambda w, x: x @ w, jnp.zeros((64, 2, 2)), jnp.zeros((64, 4, 2))).depth
    'scalar'
    """
    shapes, keyword_shapes = jax.eval_shape(lambda *args, **kwargs: (args, kwargs), *args, **kwargs)
    return chosen_depth(_Call(fn, in_axes, shapes, keyword_shapes).closed)


def chosen_depth(closed: Any) -> Explanation:
    """The cost model: chosen from the program alone, since a member's bits must not depend on its company."""
    operations = bound_on_operations(closed)
    limits: dict[Depth, int] = {"scalar": MAX_SCALAR, "contract": MAX_CONTRACT}
    for depth, limit in limits.items():
        if operations <= limit:
            return Explanation(depth, operations, f"up to {operations:,} scalar operations, at most {limit:,}")
    return Explanation("vmap", operations, f"up to {operations:,} scalar operations, more than {MAX_CONTRACT:,}")


class _Call:
    """A call of a mapped function, on arrays or on `jax.ShapeDtypeStruct`s, and the jaxpr of one member."""

    def __init__(self, fn: Callable[..., Any], in_axes: Any, args: Any, kwargs: Any):
        leaves, tree = jax.tree.flatten((args, kwargs))
        try:
            axes = [*_axes(in_axes, args), *_axes(0, kwargs)]
            axes = [
                None if axis is None else range(leaf.ndim)[axis] for leaf, axis in zip(leaves, axes, strict=True)
            ]
            (self.n_lanes,) = {
                leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None
            }
        except (ValueError, TypeError, IndexError):
            jax.eval_shape(jax.vmap(fn, in_axes), *args, **kwargs)  # raises, and says what is wrong
            raise
        self.axes = axes
        self.leaves = leaves
        members = [
            jax.ShapeDtypeStruct(_without(leaf.shape, axis), leaf.dtype, weak_type=leaf.weak_type)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(tree, members)
        self.closed, self.out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        self.out_tree = jax.tree.structure(self.out_shapes)
        self.are_lanes = mapped_results(self.closed, [axis is not None for axis in axes])

    def values(self, leaves: Sequence[Any]) -> list[Any]:
        return [
            leaf if axis is None else Lane(jnp.moveaxis(leaf, axis, -1))
            for leaf, axis in zip(leaves, self.axes, strict=True)
        ]

    def out_axes(self, out_axes: Any) -> list[Any]:
        return _axes(out_axes, self.out_shapes)


def _without(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(shape) if i != axis)


def _axes(axes: Any, tree: Any) -> list[Any]:
    """One axis for each leaf of the tree, of which `axes` is a prefix."""
    if isinstance(axes, list):
        axes = tuple(axes)
    found: list[Any] = []
    jax.tree.map(
        lambda axis, part: found.extend([axis] * len(jax.tree.leaves(part))),
        axes,
        tree,
        is_leaf=lambda x: x is None,
    )
    return found


def _run_scalar(call: _Call, assume_finite: bool, materialize: bool, *leaves: Any) -> list[Any]:
    axes = [-1 if isinstance(x, Lane) else None for x in call.values(leaves)]
    arrays = [x.array if isinstance(x, Lane) else x for x in call.values(leaves)]
    return jax.vmap(
        lambda *leaves: evaluated(Scalars(assume_finite, materialize), call.closed, leaves),
        in_axes=axes,
        out_axes=[-1 if is_lane else None for is_lane in call.are_lanes],
        axis_size=call.n_lanes,
    )(*arrays)


def _run_contract(call: _Call, assume_finite: bool, materialize: bool, *leaves: Any) -> list[Any]:
    lanes = Lanes(call.n_lanes, materialize)
    outs = lanes.evaluate(*opened(call.closed), call.values(leaves))
    avals = _avals(opened(call.closed)[0].outvars)
    return [typed(a, aval) for a, aval in zip(lanes.held(outs, avals, call.are_lanes), avals, strict=True)]


def _run_vmap(call: _Call, assume_finite: bool, materialize: bool, *leaves: Any) -> list[Any]:
    axes = [-1 if isinstance(x, Lane) else None for x in call.values(leaves)]
    arrays = [x.array if isinstance(x, Lane) else x for x in call.values(leaves)]
    out_axes = [-1 if is_lane else None for is_lane in call.are_lanes]
    function = jaxpr_as_fun(call.closed)
    return jax.vmap(lambda *xs: list(function(*xs)), axes, out_axes, axis_size=call.n_lanes)(*arrays)


_RUN: dict[str, Callable[..., list[Any]]] = {
    "scalar": _run_scalar,
    "contract": _run_contract,
    "vmap": _run_vmap,
}


def mapped_results(closed: Any, are_mapped: Sequence[bool]) -> list[bool]:
    """Which results of a jaxpr depend on the mapped ones among its arguments."""
    jaxpr, _ = opened(closed)
    mapped = {v for v, is_mapped in zip(jaxpr.invars, are_mapped, strict=True) if is_mapped}
    for eqn in jaxpr.eqns:
        operands = [not isinstance(v, Constant) and v in mapped for v in eqn.invars]
        if any(operands):
            find = _MAPPED.get(eqn.primitive.name)
            results = [True] * len(eqn.outvars) if find is None else find(eqn.params, operands)
            mapped.update(v for v, is_mapped in zip(eqn.outvars, results, strict=True) if is_mapped)
    return [not isinstance(v, Constant) and v in mapped for v in jaxpr.outvars]


def _scan_mapped(params: Any, operands: list[bool]) -> list[bool]:
    n_consts, n_carry = scan_counts(params)
    carry = operands[n_consts : n_consts + n_carry]
    while True:
        results = mapped_results(params["jaxpr"], [*operands[:n_consts], *carry, *operands[n_consts + n_carry :]])
        grown = [a or b for a, b in zip(carry, results[:n_carry], strict=True)]
        if grown == carry:
            return [*carry, *results[n_carry:]]
        carry = grown


def _while_mapped(params: Any, operands: list[bool]) -> list[bool]:
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    carry = operands[n_cond + n_body :]
    while True:
        if mapped_results(params["cond_jaxpr"], [*operands[:n_cond], *carry])[0]:
            return [True] * len(carry)
        results = mapped_results(params["body_jaxpr"], [*operands[n_cond : n_cond + n_body], *carry])
        grown = [a or b for a, b in zip(carry, results, strict=True)]
        if grown == carry:
            return carry
        carry = grown


def _cond_mapped(params: Any, operands: list[bool]) -> list[bool]:
    index, *rest = operands
    branches = [mapped_results(branch, rest) for branch in params["branches"]]
    return [index or any(each) for each in zip(*branches, strict=True)]


_MAPPED: dict[str, Callable[[Any, list[bool]], list[bool]]] = {
    **dict.fromkeys(
        ("jit", "pjit", "closed_call"), lambda params, operands: mapped_results(params["jaxpr"], operands)
    ),
    **dict.fromkeys(
        ("checkpoint", "remat", "remat2"), lambda params, operands: mapped_results(params["jaxpr"], operands)
    ),
    "cond": _cond_mapped,
    "scan": _scan_mapped,
    "while": _while_mapped,
}


class Lanes:
    """The interpreter of the second depth. Values are `Lane`s, or arrays where they are not mapped."""

    def __init__(self, n: int, materialize: bool):
        self.n = n
        self.materialize = materialize

    def materialized(self, *values: Any) -> Sequence[Any]:
        """The same values, for a sum of products that uses each many times."""
        if not self.materialize:
            return values
        once = iter(computed_once([x.array for x in values if isinstance(x, Lane)]))
        return [Lane(next(once)) if isinstance(x, Lane) else x for x in values]

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        """The values of a jaxpr's results."""
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(v: Any) -> Any:
            return literal(v) if isinstance(v, Constant) else env[v]

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            with eqn.ctx.manager:
                if not any(isinstance(x, Lane) for x in operands):
                    outs = bound(eqn, operands)
                else:
                    rule = _RULES.get(eqn.primitive.name)
                    outs = NotImplemented if rule is None else rule(self, eqn, *operands)
                    if outs is NotImplemented:
                        outs = self.by_vmap(lambda *arrays, eqn=eqn: bound(eqn, arrays), operands)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def by_vmap(self, fn: Callable[..., Any], operands: Sequence[Any]) -> list[Lane]:
        """One operation as `jax.vmap` does it."""
        axes = [-1 if isinstance(x, Lane) else None for x in operands]
        arrays = [x.array if isinstance(x, Lane) else x for x in operands]
        run = jax.vmap(lambda *xs: list(fn(*xs)), in_axes=axes, out_axes=-1, axis_size=self.n)
        return [Lane(out) for out in run(*arrays)]

    def held(self, values: Sequence[Any], avals: Sequence[Any], are_lanes: Sequence[bool]) -> list[Any]:
        """Values as arrays that a loop can carry: with lanes where `are_lanes` says so."""
        return [
            spread(self.n, x, aval.shape) if is_lane else jnp.asarray(x)
            for x, aval, is_lane in zip(values, avals, are_lanes, strict=True)
        ]


def _values(arrays: Sequence[Any], are_lanes: Sequence[bool]) -> list[Any]:
    return [Lane(a) if is_lane else a for a, is_lane in zip(arrays, are_lanes, strict=True)]


def _avals(variables: Sequence[Any]) -> list[Any]:
    return [v.aval for v in variables]


# Control flow: the same control flow with a rewritten body.


def _inlined(lanes: Lanes, eqn: Equation, *operands: Any) -> list[Any]:
    return lanes.evaluate(*opened(eqn.params["jaxpr"]), operands)


def _scan(lanes: Lanes, eqn: Equation, *operands: Any) -> list[Any]:
    n_consts, n_carry = scan_counts(eqn.params)
    jaxpr, jaxpr_consts = opened(eqn.params["jaxpr"])
    are_lanes = _scan_mapped(eqn.params, [isinstance(x, Lane) for x in operands])
    consts, carry, xs = (
        operands[:n_consts],
        operands[n_consts : n_consts + n_carry],
        operands[n_consts + n_carry :],
    )
    out_avals = _avals(jaxpr.outvars)

    def body(carry: Any, xs_arrays: Any) -> Any:
        xs_values = _values(xs_arrays, [isinstance(x, Lane) for x in xs])
        outs = lanes.evaluate(jaxpr, jaxpr_consts, [*consts, *_values(carry, are_lanes[:n_carry]), *xs_values])
        arrays = lanes.held(outs, out_avals, are_lanes)
        return arrays[:n_carry], arrays[n_carry:]

    new_carry, ys = lax.scan(
        body,
        lanes.held(carry, out_avals[:n_carry], are_lanes[:n_carry]),
        [x.array if isinstance(x, Lane) else x for x in xs],
        length=eqn.params["length"],
        reverse=eqn.params["reverse"],
        unroll=eqn.params["unroll"],
    )
    return _values([*new_carry, *ys], are_lanes)


def _while(lanes: Lanes, eqn: Equation, *operands: Any) -> list[Any]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    are_lanes = _while_mapped(eqn.params, [isinstance(x, Lane) for x in operands])
    avals = _avals(eqn.outvars)
    cond_consts, body_consts, carry = (
        operands[:n_cond],
        operands[n_cond : n_cond + n_body],
        operands[n_cond + n_body :],
    )

    def holds(carry: Any) -> Any:
        values = [*cond_consts, *_values(carry, are_lanes)]
        return lanes.evaluate(*opened(eqn.params["cond_jaxpr"]), values)[0]

    def body(carry: Any) -> Any:
        outs = lanes.evaluate(*opened(eqn.params["body_jaxpr"]), [*body_consts, *_values(carry, are_lanes)])
        new = lanes.held(outs, avals, are_lanes)
        going_on = holds(carry)
        if not isinstance(going_on, Lane):
            return new
        return [_chosen(lanes, going_on, n, old) for n, old in zip(new, carry, strict=True)]

    def any_holds(carry: Any) -> Any:
        going_on = holds(carry)
        return jnp.any(going_on.array) if isinstance(going_on, Lane) else going_on

    return _values(lax.while_loop(any_holds, body, lanes.held(carry, avals, are_lanes)), are_lanes)


def _cond(lanes: Lanes, eqn: Equation, index: Any, *operands: Any) -> list[Any]:
    branches, avals = eqn.params["branches"], _avals(eqn.outvars)
    are_lanes = _cond_mapped(eqn.params, [isinstance(x, Lane) for x in (index, *operands)])

    def run(branch: Any) -> list[Any]:
        return lanes.held(lanes.evaluate(*opened(branch), operands), avals, are_lanes)

    if not isinstance(index, Lane):
        return _values(lax.switch(index, [lambda branch=branch: run(branch) for branch in branches]), are_lanes)
    chosen = lax.clamp(np.int32(0), index.array, np.int32(len(branches) - 1))
    results, *others = map(run, branches)
    for i, other in enumerate(others, 1):
        is_this = Lane(lax.eq(chosen, jnp.full_like(chosen, i)))
        results = [
            _chosen(lanes, is_this, new, old) if is_lane else old
            for new, old, is_lane in zip(other, results, are_lanes, strict=True)
        ]
    return _values(results, are_lanes)


def _chosen(lanes: Lanes, condition: Lane, new: Any, old: Any) -> Any:
    """`new` in the lanes where the condition holds."""
    return lax.select(spread(lanes.n, condition, new.shape[:-1]), new, old)


def _checkpoint(lanes: Lanes, eqn: Equation, *operands: Any) -> list[Any]:
    jaxpr, avals = eqn.params["jaxpr"], _avals(eqn.outvars)
    are_operands = [isinstance(x, Lane) for x in operands]
    are_lanes = mapped_results(jaxpr, are_operands)

    def run(*arrays: Any) -> list[Any]:
        return lanes.held(lanes.evaluate(*opened(jaxpr), _values(arrays, are_operands)), avals, are_lanes)

    again = jax.checkpoint(run, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"])
    return _values(again(*(x.array if isinstance(x, Lane) else x for x in operands)), are_lanes)


# What JAX differentiates in its own way: called with every operand in lanes.


def _called(
    lanes: Lanes, eqn: Equation, body: Any
) -> tuple[Callable[..., Any], Callable[[Sequence[Any]], list[Any]]]:
    """A body as a function of arrays with lanes, and what makes such arrays of the operands."""
    in_avals, out_avals = _avals(eqn.invars), _avals(eqn.outvars)

    def call(*arrays: Any) -> list[Any]:
        outs = lanes.evaluate(*opened(body), [Lane(a) for a in arrays])
        return lanes.held(outs, out_avals, [True] * len(out_avals))

    return call, lambda operands: lanes.held(operands, in_avals, [True] * len(in_avals))


def _applied(lanes: Lanes, fn: Callable[..., Any], arrays: Any) -> Any:
    """`fn` of a pytree of arrays with lanes, to one such."""
    members = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[:-1], a.dtype), arrays)
    closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(members)
    outs = lanes.evaluate(*opened(closed), [Lane(a) for a in jax.tree.leaves(arrays)])
    held = lanes.held(outs, _avals(opened(closed)[0].outvars), [True] * len(outs))
    return jax.tree.unflatten(jax.tree.structure(out_shapes), held)


def _custom_jvp(lanes: Lanes, eqn: Equation, *operands: Any) -> list[Any]:
    run, spread_out = _called(lanes, eqn, eqn.params["call_jaxpr"])
    call = jax.custom_jvp(run)
    call.defjvp(
        lambda primals, tangents: _applied(
            lanes, lambda both: derivative(eqn, *both), real_tangents(eqn, primals, tangents)
        )
    )
    return [Lane(a) for a in call(*spread_out(operands))]


def _custom_vjp(lanes: Lanes, eqn: Equation, *operands: Any) -> list[Any]:
    run, spread_out = _called(lanes, eqn, eqn.params["call_jaxpr"])
    call = jax.custom_vjp(run)

    def forward(*arrays: Any) -> Any:
        return _applied(lanes, lambda xs: jax.vjp(lambda *ys: bound(eqn, ys), *xs), arrays)

    def backward(pullback: Any, cotangents: Any) -> Any:
        slopes = _applied(lanes, lambda both: real_cotangents(eqn, *both), (pullback, cotangents))
        return with_nones(eqn, slopes)

    call.defvjp(forward, backward)
    return [Lane(a) for a in call(*spread_out(operands))]


_RULES: dict[str, Callable[..., Any]] = {
    **LANE_RULES,
    **dict.fromkeys(("jit", "pjit", "closed_call"), _inlined),
    **dict.fromkeys(("checkpoint", "remat", "remat2"), _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": _scan,
    "while": _while,
}
