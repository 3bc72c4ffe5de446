"""`scalarize`: a function of small arrays rewritten as one of scalars, for vmap to make vectors of.

vmap over a 2×2 matrix product makes XLA run a batched product of tiny matrices, which uses no vector
instructions. If every element of every array is a scalar of its own, vmap turns each of them into a vector over
the members, and the program into one chain of elementwise operations. This module has the interpreter of
jaxprs that does so, and its control flow; the rules for arrays are in `scalar_rules.py`. Both use nothing else
of the package, and of JAX's internals only what `jax.extend` gives.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from math import inf, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import Literal
from jax.extend.core.primitives import convert_element_type_p

from xorjax.scalar_rules import (
    ARRAY_RULES,
    CHEAP,
    FOLDED,
    MAX_APART,
    STRUCTURE,
    Equation,
    computed_once,
    is_foldable,
    is_known,
    objects,
    replaced,
    simplified,
)

MAX_OPERATIONS = 20_000

# A value of the interpreter: a NumPy array of numbers where the elements are known, a NumPy array of objects
# (JAX scalars, and NumPy scalars for the known among them), or a JAX array that nobody has taken apart yet.
Value = Any
Rule = Callable[..., Any]


def scalarize(
    fn: Callable[..., Any], *, assume_finite: bool = False, max_operations: int = MAX_OPERATIONS
) -> Callable[..., Any]:
    """`fn` with every array element a scalar of its own: `jax.jit(jax.vmap(scalarize(fn)))` is `vmap(fn)`, faster.

    For programs of tens to thousands of scalar operations. Everything in `fn` is handled: what merely moves
    elements about costs nothing; elementwise operations are done element by element; products and reductions
    are written out as sums **from the first term to the last**, so that no result depends on the number of
    members; loops, branches, `jax.checkpoint` and custom derivatives stay what they are, with scalarized
    bodies; and for whatever has no rule (random bits, linear algebra, callbacks) the array is assembled, the
    operation done as it is, and the result taken apart again. Composes with jit, vmap, grad and the rest.

    What is known while tracing is computed then, and what occurs twice is written once. Products and
    quotients by a constant 1, and sums with a zero that changes no number (−0.0, or a subtracted 0.0) vanish.

    Args:
      fn: any function of pytrees of arrays to pytrees of arrays.
      assume_finite: whether a product with a constant 0 is 0, whatever the other factor (so not NaN, if that
        is infinite or NaN), and a sum with a constant 0.0 its other term (so −0.0 stays −0.0). Saves
        operations where data are constants with zeros among them, such as the truth table of XOR.
      max_operations: a program that could have more is refused, since compiling it would take minutes.

    Raises:
      ValueError: when called, if `fn` may need more than `max_operations`; the message says how many.
    """
    if not callable(fn):
        raise TypeError(f"{fn=} must be a function.")

    @wraps(fn)
    def scalarized(*args: Any, **kwargs: Any) -> Any:
        return _applied(Scalars(assume_finite), fn, *args, max_operations=max_operations, **kwargs)

    return scalarized


def scalar_operations(fn: Callable[..., Any], *args: Any, assume_finite: bool = False, **kwargs: Any) -> int:
    """The number of scalar operations of `scalarize(fn)` on these arguments, those in loops counted once.

    Traces and does not compile. The arguments are arrays or `jax.ShapeDtypeStruct`s.
    """
    scalars = Scalars(assume_finite)
    jax.eval_shape(lambda *args, **kwargs: _applied(scalars, fn, *args, **kwargs), *args, **kwargs)
    return scalars.count[0]


def bound_on_operations(jaxpr: Any) -> int:
    """From the shapes alone: at most as many scalar operations does a jaxpr have when it is scalarized."""
    total = 0
    for eqn in opened(jaxpr)[0].eqns:
        inner = [j for value in eqn.params.values() for j in (value if isinstance(value, tuple) else [value])]
        bodies = [j for j in inner if hasattr(j, "eqns") or hasattr(j, "jaxpr")]
        name = eqn.primitive.name
        if bodies and name in _CONTROL_FLOW:
            total += sum(map(bound_on_operations, bodies))
        elif name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            lhs = eqn.invars[0].aval.shape
            total += 2 * prod(eqn.outvars[0].aval.shape) * prod(lhs[axis] for axis in contracted)
        elif name not in STRUCTURE:
            sizes = [prod(getattr(v.aval, "shape", ())) for v in [*eqn.invars, *eqn.outvars]]
            total += max((size for size in sizes if size <= MAX_APART), default=0)
    return total


def evaluated(scalars: "Scalars", closed: Any, leaves: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr, as arrays."""
    jaxpr, consts = opened(closed)
    outs = scalars.evaluate(jaxpr, consts, [jnp.asarray(leaf) for leaf in leaves])
    avals = [v.aval for v in jaxpr.outvars]
    return [typed(scalars.whole(out, aval), aval) for out, aval in zip(outs, avals, strict=True)]


def _applied(
    scalars: "Scalars", fn: Callable[..., Any], *args: Any, max_operations: float = inf, **kwargs: Any
) -> Any:
    """`fn(*args, **kwargs)`, scalarized."""
    closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
    operations = bound_on_operations(closed)
    if operations > max_operations:
        raise ValueError(
            f"{getattr(fn, '__name__', fn)} may need up to {operations:,} scalar operations, more than "
            f"{max_operations=:,}; use jax.vmap or lane_vmap, or allow more."
        )
    outs = evaluated(scalars, closed, jax.tree.leaves((args, kwargs)))
    return jax.tree.unflatten(jax.tree.structure(out_shapes), outs)


class Scalars:
    """The interpreter at one level of control flow; bodies of loops have one of their own."""

    def __init__(self, assume_finite: bool, materialize: bool = False, count: list[int] | None = None):
        self.assume_finite = assume_finite
        self.materialize = materialize  # whether what is multiplied out is computed once, before; see `lane_vmap`
        self.count = [0] if count is None else count  # of scalar operations, shared by all levels
        self._written: dict[Any, Any] = {}  # operation and operands -> (result, what keeps the ids alive)
        self._cheap: set[int] = set()  # ids of results that XLA would rather compute again than keep
        self._once: dict[int, Any] = {}  # what stands for them once they are materialized, by their ids
        self._apart: dict[int, tuple[Any, np.ndarray]] = {}  # array and elements, by the id of the array
        self._whole: dict[int, tuple[Any, np.ndarray]] = {}  # the same, by the id of the elements

    def inner(self) -> "Scalars":
        return Scalars(self.assume_finite, self.materialize, self.count)

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """The values of a jaxpr's results."""
        env: dict[Any, Value] = dict(zip(jaxpr.constvars, map(as_known, consts), strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(v: Any) -> Value:
            return literal(v) if isinstance(v, Literal) else env[v]

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            rule = RULES.get(eqn.primitive.name)
            with eqn.ctx.manager:
                outs = NotImplemented if rule is None else rule(self, eqn, *operands)
                if outs is NotImplemented:
                    outs = self.as_it_is(eqn, operands)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def as_it_is(self, eqn: Equation, operands: Sequence[Value]) -> Sequence[Value]:
        """An operation on assembled arrays."""
        arrays = [self.whole(x, v.aval) for x, v in zip(operands, eqn.invars, strict=True)]
        outs = bound(eqn, arrays)
        self.count[0] += sum(prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
        return outs

    def apart(self, value: Value) -> np.ndarray:
        """The elements of a value."""
        if isinstance(value, np.ndarray):
            return value
        if id(value) not in self._apart:
            parts = [value]
            if value.ndim:
                flat = lax.reshape(value, (value.size,))
                parts = [lax.squeeze(part, (0,)) for part in lax.split(flat, (1,) * value.size)]
            elements = objects(parts, value.shape)
            self._apart[id(value)] = value, elements
            self._whole[id(elements)] = value, elements
        return self._apart[id(value)][1]

    def whole(self, value: Value, aval: Any) -> Any:
        """The array that a value is."""
        if not isinstance(value, np.ndarray) or value.dtype != object:
            return value
        if id(value) in self._whole:
            return self._whole[id(value)][0]
        if not value.size:
            return jnp.zeros(aval.shape, aval.dtype)
        elements = list(value.flat)
        if all(e is elements[0] for e in elements):
            return lax.broadcast_in_dim(elements[0], aval.shape, ())
        pieces: list[Any] = []
        for e in elements:
            if not is_known(e):
                pieces.append(lax.reshape(e, (1,)))
            elif pieces and isinstance(pieces[-1], np.ndarray):
                pieces[-1] = np.append(pieces[-1], e)
            else:
                pieces.append(np.asarray([e], aval.dtype))
        return lax.reshape(lax.concatenate(pieces, 0), aval.shape)

    def materialized(self, *values: Value) -> Sequence[Value]:
        """The same values, for a sum of products that uses each many times."""
        if not self.materialize:
            return values
        arrays = [self.apart(x) for x in values]
        elements = {id(e): e for a in arrays for e in a.flat if id(e) in self._cheap and id(e) not in self._once}
        self._once.update(zip(elements, computed_once(list(elements.values())), strict=True))
        return [replaced(a, self._once) for a in arrays]

    def scalar(self, name: str, operation: Callable[..., Any], *operands: Any, **params: Any) -> Any:
        """One operation on scalars: computed now if that can be, found again if it is written, else written."""
        known = all(map(is_known, operands))
        if known and name in FOLDED and is_foldable(name, operands):
            with np.errstate(all="ignore"):
                return FOLDED[name](*operands)
        simple = simplified(name, operands, self.assume_finite)
        if simple is not None:
            return simple
        key = (name, *(item for item in params.items() if item[1] is not None), *map(_identity, operands))
        if key not in self._written:
            self.count[0] += 1
            self._written[key] = operation(*operands, **params), operands
            if name in CHEAP:
                self._cheap.add(id(self._written[key][0]))
        return self._written[key][0]

    def leaves(self, value: Value, aval: Any) -> list[Any]:
        """A value as what a loop can carry: its elements, or itself if it is large."""
        if prod(aval.shape) > MAX_APART:
            return [self.whole(value, aval)]
        return list(self.apart(value).flat)

    def arrays(self, leaves: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
        return [self.whole(x, aval) for x, aval in zip(from_leaves(leaves, avals), avals, strict=True)]

    def all_leaves(self, values: Sequence[Value], avals: Sequence[Any]) -> list[Any]:
        return [leaf for value, aval in zip(values, avals, strict=True) for leaf in self.leaves(value, aval)]


def from_leaves(leaves: Sequence[Any], avals: Sequence[Any]) -> list[Value]:
    """The values that `Scalars.all_leaves` took to pieces."""
    rest = iter(leaves)
    values = []
    for aval in avals:
        if prod(aval.shape) > MAX_APART:
            values.append(next(rest))
            continue
        values.append(objects([next(rest) for _ in range(prod(aval.shape))], aval.shape))
    return values


# Control flow: the same control flow with a scalarized body.


def _body(scalars: Scalars, closed: Any, consts: Sequence[Value] = ()) -> Callable[[Sequence[Any]], list[Any]]:
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


def n_leaves(aval: Any) -> int:
    size = prod(aval.shape)
    return size if size <= MAX_APART else 1


def _inlined(scalars: Scalars, eqn: Equation, *operands: Value) -> list[Value]:
    body = eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
    return scalars.evaluate(*opened(body), operands)


def _scan(scalars: Scalars, eqn: Equation, *operands: Value) -> list[Value]:
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
    run = _body(scalars, eqn.params["jaxpr"], consts)

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
        unroll=eqn.params["unroll"],
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


def _while(scalars: Scalars, eqn: Equation, *operands: Value) -> list[Value]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    holds = _body(scalars, eqn.params["cond_jaxpr"], operands[:n_cond])
    body = _body(scalars, eqn.params["body_jaxpr"], operands[n_cond : n_cond + n_body])
    avals = [v.aval for v in eqn.outvars]
    carry = scalars.all_leaves(operands[n_cond + n_body :], avals)
    return from_leaves(lax.while_loop(lambda c: holds(c)[0], body, carry), avals)


def _cond(scalars: Scalars, eqn: Equation, index: Value, *operands: Value) -> list[Value]:
    branches = eqn.params["branches"]
    (index,) = scalars.apart(index).flat
    if is_known(index):
        return scalars.evaluate(*opened(branches[int(np.clip(index, 0, len(branches) - 1))]), operands)
    bodies = [_body(scalars, branch, operands) for branch in branches]
    leaves = lax.switch(index, [lambda body=body: body([]) for body in bodies])
    return from_leaves(leaves, [v.aval for v in eqn.outvars])


def _checkpoint(scalars: Scalars, eqn: Equation, *operands: Value) -> list[Value]:
    run = _body(scalars, eqn.params["jaxpr"])
    again = jax.checkpoint(
        lambda *leaves: run(leaves), prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
    )
    leaves = again(*scalars.all_leaves(operands, [v.aval for v in eqn.invars]))
    return from_leaves(leaves, [v.aval for v in eqn.outvars])


def _custom_jvp(scalars: Scalars, eqn: Equation, *operands: Value) -> list[Value]:
    in_avals, out_avals = [v.aval for v in eqn.invars], [v.aval for v in eqn.outvars]
    run = _body(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_jvp(lambda *leaves: run(leaves))

    @call.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        inner = scalars.inner()
        both = real_tangents(eqn, inner.arrays(primals, in_avals), inner.arrays(tangents, in_avals))
        outs, slopes = _applied(inner, lambda *both: derivative(eqn, *both), *both)
        return inner.all_leaves(outs, out_avals), inner.all_leaves(slopes, out_avals)

    return from_leaves(call(*scalars.all_leaves(operands, in_avals)), out_avals)


def _custom_vjp(scalars: Scalars, eqn: Equation, *operands: Value) -> list[Value]:
    in_avals, out_avals = [v.aval for v in eqn.invars], [v.aval for v in eqn.outvars]
    run = _body(scalars, eqn.params["call_jaxpr"])
    call = jax.custom_vjp(lambda *leaves: run(leaves))

    def forward(*leaves: Any) -> Any:
        inner = scalars.inner()
        arrays = inner.arrays(leaves, in_avals)
        outs, pullback = _applied(inner, lambda *xs: jax.vjp(lambda *ys: bound(eqn, ys), *xs), *arrays)
        return inner.all_leaves(outs, out_avals), pullback

    def backward(pullback: Any, leaves: Any) -> Any:
        inner = scalars.inner()
        cotangents = inner.arrays(leaves, out_avals)
        slopes = _applied(inner, lambda *both: real_cotangents(eqn, *both), pullback, cotangents)
        each = with_nones(eqn, slopes)
        return tuple(
            leaf
            for slope, aval in zip(each, in_avals, strict=True)
            for leaf in ([None] * n_leaves(aval) if slope is None else inner.leaves(slope, aval))
        )

    call.defvjp(forward, backward)
    return from_leaves(call(*scalars.all_leaves(operands, in_avals)), out_avals)


# Derivatives of an equation that has its own: of the operands that can have one.


def _are_real(eqn: Equation) -> list[bool]:
    return [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.invars]


def real_tangents(eqn: Equation, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    return list(primals), [t for t, is_real in zip(tangents, _are_real(eqn), strict=True) if is_real]


def derivative(eqn: Equation, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Results and their tangents, from the primals and the tangents of the real ones among them."""
    are_real = _are_real(eqn)

    def of_real(*reals: Any) -> Any:
        rest = iter(reals)
        return bound(eqn, [next(rest) if is_real else x for x, is_real in zip(primals, are_real, strict=True)])

    return jax.jvp(of_real, [x for x, is_real in zip(primals, are_real, strict=True) if is_real], tangents)


def real_cotangents(eqn: Equation, pullback: Any, cotangents: Sequence[Any]) -> list[Any]:
    slopes = pullback(cotangents)
    return [slope for slope, is_real in zip(slopes, _are_real(eqn), strict=True) if is_real]


def with_nones(eqn: Equation, slopes: Sequence[Any]) -> tuple[Any, ...]:
    """Cotangents of all operands from those of the real ones."""
    rest = iter(slopes)
    return tuple(next(rest) if is_real else None for is_real in _are_real(eqn))


# What differs between versions of JAX, and what a primitive's equation says.


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants; newer versions of JAX have one class for open and closed ones."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are its carry."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def bound(eqn: Equation, arrays: Sequence[Any]) -> Sequence[Any]:
    """The results of an equation on these arrays."""
    params = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = params if isinstance(params, tuple) else ((), params)
    outs = eqn.primitive.bind(*subfuns, *arrays, **params)
    return outs if eqn.primitive.multiple_results else [outs]


def typed(x: Any, aval: Any) -> Any:
    """`x` in a dtype and weak type that it has but for what folding changed."""
    same = isinstance(x, jax.Array) and jax.typeof(x).weak_type == aval.weak_type
    if same or jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return x
    return convert_element_type_p.bind(x, new_dtype=aval.dtype, weak_type=aval.weak_type, sharding=None)


def literal(v: Any) -> np.ndarray:
    """The value of a `Literal` of a jaxpr."""
    return np.asarray(v.val, v.aval.dtype)


def as_known(x: Any) -> Value:
    """A constant as NumPy has it, if it is one."""
    if isinstance(x, Tracer) or jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    return np.asarray(x)


def _identity(element: Any) -> Any:
    return (element.dtype, element.tobytes()) if is_known(element) else id(element)


_CONTROL_FLOW: dict[str, Rule] = {
    **dict.fromkeys(("jit", "pjit", "closed_call", "core_call"), _inlined),
    **dict.fromkeys(("checkpoint", "remat", "remat2"), _checkpoint),
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": _scan,
    "while": _while,
}
RULES: dict[str, Rule] = {**ARRAY_RULES, **_CONTROL_FLOW}
