"""The interpreter of jaxprs that keeps arrays, with the lanes as their last axis."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xorjax.lanes.arrays.products import PRODUCT_RULES
from xorjax.lanes.arrays.reuse import RECOMPUTED, Materializer, count_uses
from xorjax.lanes.arrays.rules import ARRAY_RULES
from xorjax.lanes.arrays.values import LaneAval, Mapped, Rule, Value, broadcast_lanes, to_array
from xorjax.lanes.control_flow import CONTROL_FLOW
from xorjax.lanes.jaxprs import AnyJaxpr, Equation, Variable, bind_equation, evaluate_jaxpr, open_jaxpr

RULES: dict[str, Rule] = {**ARRAY_RULES, **PRODUCT_RULES, **CONTROL_FLOW}


class LaneInterpreter(Materializer):
    """An interpreter for one trace; the body of each loop or branch has its own, see `make_inner`.

    Only values that depend on a mapped input have lanes.

    Attributes:
      n: the number of lanes.
    """

    def __init__(self, n: int, is_native: bool = False):
        """Create an interpreter; in a native function (`is_native`), reused values are materialized."""
        super().__init__()
        self.n = n
        self._is_native = is_native

    def make_inner(self) -> "LaneInterpreter":
        """Return an interpreter for a nested trace, which must not recompute values of the outer one."""
        return LaneInterpreter(self.n, self._is_native)

    def evaluate(self, jaxpr: AnyJaxpr, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Return the outputs of an open jaxpr."""
        n_uses = count_uses(open_jaxpr(jaxpr)[0]) if self._is_native else {}
        return evaluate_jaxpr(jaxpr, [*consts, *args], partial(self._run_equation, n_uses))

    def _run_equation(
        self, n_uses: Mapping[Variable, int], eqn: Equation, operands: Sequence[Value]
    ) -> Sequence[Value]:
        if not any(isinstance(x, Mapped) for x in operands):
            return bind_equation(eqn, operands)
        rule = RULES.get(eqn.primitive.name)
        outs = NotImplemented if rule is None else rule(self, eqn, *operands)
        if outs is NotImplemented:
            axes = [-1 if isinstance(x, Mapped) else None for x in operands]
            run = jax.vmap(lambda *xs: list(bind_equation(eqn, xs)), axes, -1, axis_size=self.n)
            return [Mapped(out) for out in run(*map(to_array, operands))]
        if self._is_native and rule is not None and eqn.primitive.name in RECOMPUTED:
            return [self.materialize_if_reused(n_uses[eqn.outvars[0]], rule, eqn, operands, outs[0])]
        return outs

    def apply(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return `fn(*args)` for pytrees of mapped values; the results are mapped."""
        values, tree = jax.tree.flatten(args, is_leaf=lambda x: isinstance(x, Mapped))
        members = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values])
        closed, out_shapes = jax.make_jaxpr(fn, return_shape=True)(*members)
        outs = self.evaluate(*open_jaxpr(closed), values)
        arrays = [
            Mapped(broadcast_lanes(self.n, x, v.aval.shape))
            for x, v in zip(outs, open_jaxpr(closed)[0].outvars, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(out_shapes), arrays)

    def share(self, values: Sequence[Value]) -> Sequence[Value]:
        """Return values for the bodies of loops to use."""
        return values

    def flatten(self, values: Sequence[Value], avals: Sequence[LaneAval]) -> list[Array]:
        """Return values as arrays of these types, for example for the carry of a loop."""
        return [
            broadcast_lanes(self.n, x, aval.shape) if aval.is_mapped else jnp.asarray(x)
            for x, aval in zip(values, avals, strict=True)
        ]

    def unflatten(self, leaves: Sequence[Array], avals: Sequence[LaneAval]) -> list[Value]:
        """Return arrays of these types as values."""
        return [Mapped(x) if aval.is_mapped else x for x, aval in zip(leaves, avals, strict=True)]

    assemble_all = stack_rows = unflatten  # arrays are not split

    def split_rows(self, values: Sequence[Value], avals: Sequence[LaneAval]) -> list[Array]:
        """Return arrays to scan over: their first axis is not that of the lanes."""
        return list(map(to_array, values))
