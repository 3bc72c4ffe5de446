"""The interpreter of jaxprs that makes every array element a scalar of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from math import prod
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from xorjax.lanes.jaxprs import (
    AnyJaxpr,
    Aval,
    ClosedJaxpr,
    Equation,
    Params,
    Variable,
    as_known,
    bind_equation,
    cast_to_aval,
    get_avals,
    is_literal,
    literal_value,
    open_jaxpr,
)
from xorjax.lanes.scalar.control_flow import CONTROL_FLOW
from xorjax.lanes.scalar.elementwise import ELEMENTWISE_RULES
from xorjax.lanes.scalar.folding import fold, is_finite_result, is_foldable, simplify
from xorjax.lanes.scalar.indexing import INDEXING_RULES
from xorjax.lanes.scalar.kernel_rules import KERNEL_RULES
from xorjax.lanes.scalar.random import assemble_keys, is_default_key, wrap_words
from xorjax.lanes.scalar.reductions import REDUCTION_RULES
from xorjax.lanes.scalar.structure import STRUCTURE_RULES
from xorjax.lanes.scalar.values import (
    MAX_ELEMENTS,
    Element,
    KeyWords,
    Leaf,
    Number,
    Rule,
    Value,
    are_known,
    is_known,
    object_array,
    unflatten,
)

RULES: dict[str, Rule] = {
    **ELEMENTWISE_RULES,
    **STRUCTURE_RULES,
    **REDUCTION_RULES,
    **INDEXING_RULES,
    **CONTROL_FLOW,
}


class ScalarInterpreter:
    """An interpreter for one trace; the body of each loop or branch has its own, see `make_inner`.

    Attributes:
      assume_finite: as for `scalarize`.
      in_kernel: whether the result is compiled by a kernel compiler, which needs the rules of `kernel_rules`.
      count: a list of one number: the scalar operations of this interpreter and of all its inner ones.
    """

    def __init__(
        self,
        assume_finite: bool,
        outer: "ScalarInterpreter | None" = None,
        in_kernel: bool = False,
        substitutes: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ):
        """Create an interpreter.

        Args:
          assume_finite: as for `scalarize`.
          outer: the interpreter of the trace around this one.
          in_kernel: see above.
          substitutes: functions of float32 scalars that replace the primitives of these names.
        """
        self.assume_finite, self.in_kernel, self._substitutes = assume_finite, in_kernel, substitutes
        self._rules = {**RULES, **KERNEL_RULES} if in_kernel else RULES
        self.count = [0] if outer is None else outer.count
        # Scalars that may be infinite or NaN although all inputs are finite, by id; shared by all levels.
        self._maybe_nonfinite: dict[int, Any] = {} if outer is None else outer._maybe_nonfinite
        # All tables below are keyed by ids, and hold the objects whose ids they use.
        self._emitted: dict[Any, tuple[Any, Sequence[Any]]] = {}  # (name, params, operands) -> result, operands
        self._elements_of: dict[int, tuple[Value, np.ndarray]] = {}  # array -> array, elements
        self._array_of: dict[int, tuple[Value, np.ndarray]] = {}  # elements -> array, elements

    def make_inner(self) -> "ScalarInterpreter":
        """Return an interpreter for a trace inside this one, which does not reuse the scalars of this one."""
        return ScalarInterpreter(self.assume_finite, self, self.in_kernel, self._substitutes)

    def apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return `fn(*args, **kwargs)`, scalarized."""
        closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        outs = self.apply_jaxpr(closed, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(out_shapes), outs)

    def apply_jaxpr(self, closed: ClosedJaxpr, args: Sequence[ArrayLike]) -> list[Value]:
        """Return the outputs of a closed jaxpr as arrays."""
        jaxpr, consts = open_jaxpr(closed)
        outs = self.evaluate(jaxpr, consts, [jnp.asarray(x) for x in args])
        avals = get_avals(jaxpr.outvars)
        return [cast_to_aval(self.assemble(out, aval), aval) for out, aval in zip(outs, avals, strict=True)]

    def evaluate(self, jaxpr: AnyJaxpr, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Return the outputs of an open jaxpr."""
        jaxpr, _ = open_jaxpr(jaxpr)
        env: dict[Variable, Value] = dict(zip(jaxpr.constvars, map(as_known, consts), strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(v: Variable) -> Value:
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
        """Apply a primitive to assembled arrays."""
        # A kernel reports a callback by its name, so a callback is never folded.
        is_pure = not eqn.effects and not eqn.primitive.name.endswith("callback")
        if self.in_kernel and is_pure and all(map(are_known, operands)):
            return _compute_now(lambda *arrays: bind_equation(eqn, arrays), operands, {})
        arrays = [self.assemble(x, v.aval) for x, v in zip(operands, eqn.invars, strict=True)]
        outs = bind_equation(eqn, arrays)
        self.count[0] += sum(prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
        return outs

    def _unknown_elements(self, value: Value) -> list[Leaf]:
        if getattr(value, "size", 0) > MAX_ELEMENTS:
            return [value]
        return [e for e in self.elements(value).flat if not is_known(e)]

    def elements(self, value: Value) -> np.ndarray:
        """Return the elements of a value, as an array of numbers or of objects."""
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

    def assemble(self, value: Value, aval: Aval) -> Value:
        """Return a value as one array: a JAX array, or a NumPy array if it is known."""
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
        pieces: list[Value] = []
        for e in elements:
            if not is_known(e):
                pieces.append(lax.reshape(e, (1,)))
            elif pieces and isinstance(pieces[-1], np.ndarray):
                pieces[-1] = np.append(pieces[-1], e)
            else:
                pieces.append(np.asarray([e], aval.dtype))
        return lax.reshape(lax.concatenate(pieces, 0), aval.shape)

    def emit(self, name: str, operation: Callable[..., Any], /, *operands: Number, **params: Any) -> Number:
        """Add one scalar operation to the program, unless its result is known, simpler, or there already.

        Args:
          name: of the primitive.
          operation: `operation(*operands, **params)` applies it.
          operands: scalars.
          params: static parameters.
        """
        are_all_known = all(map(is_known, operands))
        if are_all_known and is_foldable(name, operands):  # pyright: ignore[reportArgumentType]
            return fold(name, operands)  # pyright: ignore[reportArgumentType]
        are_finite = self.assume_finite and not any(id(x) in self._maybe_nonfinite for x in operands)
        simple = simplify(name, operands, are_finite)
        if simple is not None:
            return simple
        if are_all_known and self.in_kernel:  # where every operation is one of vectors
            return _compute_now(operation, operands, params)[()]
        key = (name, *(item for item in params.items() if item[1] is not None), *map(_operand_key, operands))
        if key not in self._emitted:
            self.count[0] += 1
            if name in self._substitutes and operands[0].dtype == np.float32:
                operation, params = self._substitutes[name], {}
            result = operation(*operands, **params)
            self._emitted[key] = result, operands
            if self.assume_finite and not (are_finite and is_finite_result(name, operands, params)):
                self._maybe_nonfinite[id(result)] = result
        return self._emitted[key][0]

    def select(self, index: Number, *elements: Element) -> Element:
        """Return the element of this index; False is 0 and True is 1."""
        if is_known(index):
            return elements[int(index)]
        if all(e is elements[0] for e in elements):
            return elements[0]
        if isinstance(elements[0], KeyWords):
            words = [astuple(key) for key in elements]  # pyright: ignore[reportArgumentType]
            return KeyWords(*(self.select(index, *each) for each in zip(*words, strict=True)))
        if self.in_kernel and index.dtype != np.bool_:
            first, *others = elements
            is_first = self.emit("eq", lax.eq, index, index.dtype.type(0))
            before = self.emit("sub", lax.sub, index, index.dtype.type(1))
            return self.choose(is_first, first, self.select(before, *others) if len(others) > 1 else others[0])
        return self.emit("select_n", lax.select_n, index, *elements)  # pyright: ignore[reportArgumentType]

    def choose(self, condition: Number, yes: Element, no: Element) -> Element:
        """Return `yes` where the condition holds, else `no`."""
        return self.select(condition, no, yes)

    def flatten(self, values: Sequence[Value], avals: Sequence[Aval]) -> list[Leaf]:
        """Return the leaves of values for the carry of a loop: elements, and large arrays as they are."""
        leaves: list[Leaf] = []
        for value, aval in zip(values, avals, strict=True):
            if prod(aval.shape) > MAX_ELEMENTS:
                leaves.append(self.assemble(value, aval))
            else:
                leaves.extend(self.elements(value).flat)
        return leaves

    def assemble_all(self, leaves: Sequence[Leaf], avals: Sequence[Aval]) -> list[Value]:
        """Return the arrays of leaves."""
        return [self.assemble(x, aval) for x, aval in zip(unflatten(leaves, avals), avals, strict=True)]


def _compute_now(operation: Callable[..., Any], operands: Sequence[Any], params: Params) -> Any:
    """Compute the result of an operation on known operands while tracing."""
    with jax.ensure_compile_time_eval():
        outs = operation(*map(jnp.asarray, operands), **params)
    return jax.tree.map(as_known, outs)


def _operand_key(element: Number) -> tuple[np.dtype, bytes] | int:
    return (element.dtype, element.tobytes()) if isinstance(element, np.generic) else id(element)
