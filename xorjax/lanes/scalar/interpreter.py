"""`scalarize`: a function of small arrays rewritten as one of scalars, for vmap to make vectors of.

vmap over a 2×2 matrix product makes XLA run a batched product of tiny matrices, which uses no vector
instructions. If every element of every array is a scalar of its own, vmap turns each of them into a vector over
the members, and the program into one chain of elementwise operations. This module has the interpreter of
jaxprs that does so; the rules for operations are in the modules `scalar_…`. They use nothing of the package but
one another and `jaxprs.py`, and of JAX's internals only what `jax.extend` gives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from functools import wraps
from math import inf, prod
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import (
    Equation,
    as_known,
    bind_equation,
    cast_to_aval,
    is_literal,
    literal_value,
    open_jaxpr,
    sub_jaxprs,
)
from xorjax.lanes.scalar.control_flow import CONTROL_FLOW, unflatten
from xorjax.lanes.scalar.elementwise import (
    ELEMENTWISE_RULES,
    FOLDED,
    MAX_ELEMENTS,
    STRUCTURE,
    is_finite_result,
    is_foldable,
    is_known,
    object_array,
    simplify,
)
from xorjax.lanes.scalar.indexing import INDEXING_RULES
from xorjax.lanes.scalar.kernel_rules import KERNEL_RULES
from xorjax.lanes.scalar.random import KeyWords, assemble_keys, is_default_key, wrap_words
from xorjax.lanes.scalar.reductions import REDUCTION_RULES

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
    are written out as sums **from the first term to the last**, whatever the number of members; loops,
    branches, `jax.checkpoint` and custom derivatives stay what they are, with scalarized bodies; and for whatever
    has no rule (random bits, linear algebra, callbacks) the array is assembled, the operation done as it is, and
    the result taken apart again. Composes with jit, vmap, grad and the rest. (Where a last bit must not depend on
    how many members a compiler has in view, use `lane_vmap`, whose blocks have one size.)

    What is known while tracing is computed then, and what occurs twice is written once. Known numbers to whole
    powers become products of their squares, within an ulp for every bit of the exponent. Products and
    quotients by a constant 1, and sums with a zero that changes no number (−0.0, or a subtracted 0.0) vanish.

    Args:
      fn: any function of pytrees of arrays to pytrees of arrays.
      assume_finite: whether a product with a constant 0 is 0 (so not NaN, if an argument is infinite or NaN),
        and a sum with a constant 0.0 its other term (so −0.0 stays −0.0). Saves operations where data are
        constants with zeros among them, such as the truth table of XOR. Not for what depends on a logarithm, a
        quotient or another operation that may not be finite though its operands are.
      max_operations: a program that could have more is refused, since compiling it would take minutes.

    Raises:
      ValueError: when called, if `fn` may need more than `max_operations`; the message says how many.

    >>> layer = lambda w, x: jnp.tanh(x @ w)
    >>> float(scalarize(layer)(jnp.zeros((2, 1)), jnp.ones((1, 2)))[0, 0])
    0.0
    """
    if not callable(fn):
        raise TypeError(f"{fn=} must be a function.")

    @wraps(fn)
    def scalarized(*args: Any, **kwargs: Any) -> Any:
        return ScalarInterpreter(assume_finite).apply(fn, *args, max_operations=max_operations, **kwargs)

    return scalarized


def count_operations(fn: Callable[..., Any], *args: Any, assume_finite: bool = False, **kwargs: Any) -> int:
    """The number of scalar operations of `scalarize(fn)` on these arguments, those in loops counted once.

    Traces and does not compile.

    Args:
      fn, assume_finite: as for `scalarize`.
      args, kwargs: what `fn` is called with: pytrees of arrays, or `jax.ShapeDtypeStruct`s.

    >>> scalar_operations(lambda x, y: jnp.sum(x * y), jnp.ones(3), jnp.ones(3))  # 3 products, 2 sums
    5
    """
    scalars = ScalarInterpreter(assume_finite)
    jax.eval_shape(lambda *args, **kwargs: scalars.apply(fn, *args, **kwargs), *args, **kwargs)
    return scalars.count[0]


def bound_operations(jaxpr: Any, largest: float = MAX_ELEMENTS) -> int:
    """From the shapes alone: at most so many scalar operations a jaxpr is, on arrays up to the `largest` size.

    Larger ones than by default are worked on whole.
    """
    total = 0
    for eqn in open_jaxpr(jaxpr)[0].eqns:
        name, inner = eqn.primitive.name, sub_jaxprs(eqn)
        if inner and name in CONTROL_FLOW:
            total += sum(bound_operations(body, largest) for body in inner)
        elif name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            lhs = eqn.invars[0].aval.shape
            total += 2 * prod(eqn.outvars[0].aval.shape) * prod(lhs[axis] for axis in contracted)
        elif name not in STRUCTURE:
            sizes = [prod(getattr(v.aval, "shape", ())) for v in [*eqn.invars, *eqn.outvars]]
            total += max((size for size in sizes if size <= largest), default=0)
    return total


class ScalarInterpreter:
    """The interpreter at one level of control flow; bodies of loops have one of their own.

    `in_kernel` is for a compiler that knows scalars alone, see `scalar_kernel.py`; `substitutes` are functions of
    float32 scalars to be used for some primitives.
    """

    def __init__(
        self,
        assume_finite: bool,
        outer: "ScalarInterpreter | None" = None,
        in_kernel: bool = False,
        substitutes: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ):
        self.assume_finite, self.in_kernel, self._substitutes = assume_finite, in_kernel, substitutes
        self._rules = {**RULES, **KERNEL_RULES} if in_kernel else RULES
        self.count = [0] if outer is None else outer.count  # of scalar operations, shared by all levels
        # What may not be finite though all arguments are, by id, and what it depends on; shared as well.
        self._maybe_nonfinite: dict[int, Any] = {} if outer is None else outer._maybe_nonfinite
        self._written: dict[Any, Any] = {}  # operation and operands -> (result, what keeps the ids alive)
        self._elements_of: dict[int, tuple[Any, np.ndarray]] = {}  # array and elements, by the id of the array
        self._array_of: dict[int, tuple[Any, np.ndarray]] = {}  # the same, by the id of the elements

    def make_inner(self) -> "ScalarInterpreter":
        return ScalarInterpreter(self.assume_finite, self, self.in_kernel, self._substitutes)

    def apply(self, fn: Callable[..., Any], *args: Any, max_operations: float = inf, **kwargs: Any) -> Any:
        """`fn(*args)`, scalarized."""
        closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        operations = bound_operations(closed)
        if operations > max_operations:
            raise ValueError(
                f"{getattr(fn, '__name__', fn)} may need up to {operations:,} scalar operations, more than "
                f"{max_operations=:,}; use jax.vmap or lane_vmap, or allow more."
            )
        jaxpr, consts = open_jaxpr(closed)
        outs = self.evaluate(jaxpr, consts, [jnp.asarray(leaf) for leaf in jax.tree.leaves((args, kwargs))])
        avals = [v.aval for v in jaxpr.outvars]
        arrays = [cast_to_aval(self.assemble(out, aval), aval) for out, aval in zip(outs, avals, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(out_shapes), arrays)

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """The values of a jaxpr's results."""
        env: dict[Any, Value] = dict(zip(jaxpr.constvars, map(as_known, consts), strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(v: Any) -> Value:
            return literal_value(v) if is_literal(v) else env[v]

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            rule = self._rules.get(eqn.primitive.name)
            with eqn.ctx.manager:
                outs = NotImplemented if rule is None else rule(self, eqn, *operands)
                if outs is NotImplemented:
                    outs = self.bind_assembled(eqn, operands)
                if self.assume_finite and (rule is None or eqn.primitive.name in CONTROL_FLOW):
                    for element in (e for out in outs for e in self._unknown_elements(out)):
                        self._maybe_nonfinite[id(element)] = element
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def bind_assembled(self, eqn: Equation, operands: Sequence[Value]) -> Sequence[Value]:
        """An operation on assembled arrays."""
        # What calls back is not computed once for all: a kernel refuses it by name.
        is_pure = not eqn.effects and not eqn.primitive.name.endswith("callback")
        if self.in_kernel and is_pure and all(isinstance(x, np.ndarray) and x.dtype != object for x in operands):
            return _compute_now(lambda *arrays: bind_equation(eqn, arrays), operands, {})
        arrays = [self.assemble(x, v.aval) for x, v in zip(operands, eqn.invars, strict=True)]
        outs = bind_equation(eqn, arrays)
        self.count[0] += sum(prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
        return outs

    def _unknown_elements(self, value: Value) -> list[Any]:
        """Those that are not known, or the value itself if it is large."""
        if getattr(value, "size", 0) > MAX_ELEMENTS:
            return [value]
        return [e for e in self.elements(value).flat if not is_known(e)]

    def elements(self, value: Value) -> np.ndarray:
        """The elements of a value."""
        if isinstance(value, np.ndarray):
            return value
        if id(value) not in self._elements_of:
            if self.in_kernel and is_default_key(value):
                elements = wrap_words(self.elements(jax.random.key_data(value)))
            else:
                parts = [value]
                if value.ndim:
                    flat = lax.reshape(value, (value.size,))
                    parts = [lax.squeeze(part, (0,)) for part in lax.split(flat, (1,) * value.size)]
                elements = object_array(parts, value.shape)
            self._elements_of[id(value)] = value, elements
            self._array_of[id(elements)] = value, elements
        return self._elements_of[id(value)][1]

    def assemble(self, value: Value, aval: Any) -> Any:
        """The array that a value is."""
        if not isinstance(value, np.ndarray) or value.dtype != object:
            return value
        if id(value) in self._array_of:
            return self._array_of[id(value)][0]
        if not value.size:
            return jnp.zeros(aval.shape, aval.dtype)
        elements = list(value.flat)
        if isinstance(elements[0], KeyWords):
            return assemble_keys(value)
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

    def emit(self, name: str, operation: Callable[..., Any], *operands: Any, **params: Any) -> Any:
        """One operation on scalars: computed now if that can be, found again if it is written, else written."""
        known = all(map(is_known, operands))
        if known and name in FOLDED and is_foldable(name, operands):
            with np.errstate(all="ignore"):
                return FOLDED[name](*operands)
        is_tame = self.assume_finite and not any(id(x) in self._maybe_nonfinite for x in operands)
        simple = simplify(name, operands, is_tame)
        if simple is not None:
            return simple
        if known and self.in_kernel:  # where every operation is to be one of vectors
            return _compute_now(operation, operands, params)[()]
        key = (name, *(item for item in params.items() if item[1] is not None), *map(_operand_key, operands))
        if key not in self._written:
            self.count[0] += 1
            if name in self._substitutes and operands[0].dtype == np.float32:
                operation, params = self._substitutes[name], {}
            result = operation(*operands, **params)
            self._written[key] = result, operands
            if self.assume_finite and not (is_tame and is_finite_result(name, operands, params)):
                self._maybe_nonfinite[id(result)] = result
        return self._written[key][0]

    def select(self, index: Any, *elements: Any) -> Any:
        """The element of this index, 0 and 1 for a truth."""
        if is_known(index):
            return elements[int(index)]
        if all(e is elements[0] for e in elements):
            return elements[0]
        if isinstance(elements[0], KeyWords):
            return KeyWords(*(self.select(index, *each) for each in zip(*map(astuple, elements), strict=True)))
        if self.in_kernel and index.dtype != np.bool_:
            first, *others = elements
            is_first = self.emit("eq", lax.eq, index, index.dtype.type(0))
            before = self.emit("sub", lax.sub, index, index.dtype.type(1))
            return self.choose(is_first, first, self.select(before, *others) if len(others) > 1 else others[0])
        return self.emit("select_n", lax.select_n, index, *elements)

    def choose(self, condition: Any, yes: Any, no: Any) -> Any:
        return self.select(condition, no, yes)

    def flatten_value(self, value: Value, aval: Any) -> list[Any]:
        """A value as what a loop can carry: its elements, or itself if it is large."""
        if prod(aval.shape) > MAX_ELEMENTS:
            return [self.assemble(value, aval)]
        return list(self.elements(value).flat)

    def assemble_all(self, leaves: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
        return [self.assemble(x, aval) for x, aval in zip(unflatten(leaves, avals), avals, strict=True)]

    def flatten(self, values: Sequence[Value], avals: Sequence[Any]) -> list[Any]:
        return [
            leaf for value, aval in zip(values, avals, strict=True) for leaf in self.flatten_value(value, aval)
        ]


def _compute_now(operation: Callable[..., Any], operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """What an operation makes of known operands, now."""
    with jax.ensure_compile_time_eval():
        outs = operation(*map(jnp.asarray, operands), **params)
    return jax.tree.map(as_known, outs)


def _operand_key(element: Any) -> Any:
    return (element.dtype, element.tobytes()) if is_known(element) else id(element)


RULES: dict[str, Rule] = {**ELEMENTWISE_RULES, **REDUCTION_RULES, **INDEXING_RULES, **CONTROL_FLOW}
