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

from xorjax.lanes import jaxprs
from xorjax.lanes.jaxprs import AnyJaxpr, Equation, Jaxpr, Params, open_jaxpr
from xorjax.lanes.scalar.control_flow import CONTROL_FLOW
from xorjax.lanes.scalar.elements import Splitter
from xorjax.lanes.scalar.elementwise import ELEMENTWISE_RULES
from xorjax.lanes.scalar.folding import fold, is_finite_result, simplify
from xorjax.lanes.scalar.indexing import INDEXING_RULES
from xorjax.lanes.scalar.kernel_rules import KERNEL_RULES
from xorjax.lanes.scalar.objects import MAX_ELEMENTS, are_known, is_known
from xorjax.lanes.scalar.reductions import REDUCTION_RULES
from xorjax.lanes.scalar.structure import STRUCTURE_RULES
from xorjax.lanes.scalar.values import Element, KeyWords, Number, Value

RULES = ELEMENTWISE_RULES | STRUCTURE_RULES | REDUCTION_RULES | INDEXING_RULES | CONTROL_FLOW


class ScalarInterpreter(Splitter):
    """An interpreter for one trace; the body of each loop or branch has its own, see `make_inner`.

    Attributes:
      assume_finite: as for `scalarize`.
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
          in_kernel: whether the result goes to a kernel compiler, which needs the rules of `kernel_rules`.
          substitutes: functions of float32 scalars that replace the primitives of these names.
        """
        super().__init__(in_kernel)
        self.assume_finite, self._substitutes = assume_finite, substitutes
        self._rules = RULES | KERNEL_RULES if in_kernel else RULES
        self.count = [0] if outer is None else outer.count
        # Scalars that may be infinite or NaN although all inputs are finite, by id; shared by all levels.
        self._maybe_nonfinite: dict[int, Any] = {} if outer is None else outer._maybe_nonfinite
        self._emitted: dict[Any, tuple[Any, Sequence[Any]]] = {}  # (name, params, operands) -> result, operands

    def make_inner(self) -> "ScalarInterpreter":
        """Return an interpreter for a trace inside this one, which does not reuse the scalars of this one."""
        return ScalarInterpreter(self.assume_finite, self, self.in_kernel, self._substitutes)

    def apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return `fn(*args, **kwargs)`, scalarized."""
        closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        outs = self.apply_jaxpr(*open_jaxpr(closed), jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(out_shapes), outs)

    def apply_jaxpr(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[ArrayLike]) -> list[Value]:
        """Return the outputs of an open jaxpr as arrays."""
        outs = self.evaluate(jaxpr, consts, [jnp.asarray(x) for x in args])
        avals = jaxprs.get_avals(jaxpr.outvars)
        return [jaxprs.cast_to_aval(self.assemble(out, aval), aval) for out, aval in zip(outs, avals, strict=True)]

    def evaluate(self, jaxpr: AnyJaxpr, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Return the outputs of an open jaxpr."""
        return jaxprs.evaluate_jaxpr(jaxpr, [*map(jaxprs.as_known, consts), *args], self._run_equation)

    def _run_equation(self, eqn: Equation, operands: Sequence[Value]) -> Sequence[Value]:
        name = eqn.primitive.name
        rule = self._rules.get(name)
        outs = NotImplemented if rule is None else rule(self, eqn, *operands)
        if outs is NotImplemented:
            outs = self._bind_assembled(eqn, operands)
        if self.assume_finite and (rule is None or name in CONTROL_FLOW):
            for out in outs:
                elements = [out] if getattr(out, "size", 0) > MAX_ELEMENTS else self.elements(out).flat
                self._maybe_nonfinite.update((id(e), e) for e in elements if not is_known(e))
        return outs

    def _bind_assembled(self, eqn: Equation, operands: Sequence[Value]) -> Sequence[Value]:
        """Apply a primitive to assembled arrays."""
        # A kernel reports a callback by its name, so a callback is never folded.
        is_pure = not eqn.effects and not eqn.primitive.name.endswith("callback")
        if self.in_kernel and is_pure and all(map(are_known, operands)):
            return _compute_now(lambda *arrays: jaxprs.bind_equation(eqn, arrays), operands, {})
        self.count[0] += sum(prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
        arrays = [self.assemble(x, v.aval) for x, v in zip(operands, eqn.invars, strict=True)]
        return jaxprs.bind_equation(eqn, arrays)

    def emit(self, name: str, operation: Callable[..., Any], /, *operands: Number, **params: Any) -> Number:
        """Add one scalar operation to the program, unless its result is known, simpler, or there already.

        `operation(*operands, **params)` applies the primitive of this name.
        """
        are_all_known = all(map(is_known, operands))
        folded = fold(name, operands) if are_all_known else None
        if folded is not None:
            return folded
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


def _compute_now(operation: Callable[..., Any], operands: Sequence[Any], params: Params) -> Any:
    """Compute the result of an operation on known operands while tracing."""
    with jax.ensure_compile_time_eval():
        outs = operation(*map(jnp.asarray, operands), **params)
    return jax.tree.map(jaxprs.as_known, outs)


def _operand_key(element: Number) -> tuple[np.dtype, bytes] | int:
    return (element.dtype, element.tobytes()) if isinstance(element, np.generic) else id(element)
