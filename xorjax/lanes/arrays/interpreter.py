"""The interpreter of jaxprs that keeps arrays, with the lanes as their last axis."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xorjax.lanes.arrays.control_flow import CONTROL_FLOW
from xorjax.lanes.arrays.products import PRODUCT_RULES
from xorjax.lanes.arrays.reuse import RECOMPUTED, Materializer, count_uses
from xorjax.lanes.arrays.rules import ARRAY_RULES
from xorjax.lanes.arrays.values import Mapped, Rule, Value, broadcast_lanes, to_array
from xorjax.lanes.jaxprs import (
    AnyJaxpr,
    Aval,
    Variable,
    bind_equation,
    is_literal,
    literal_value,
    open_jaxpr,
)

RULES: dict[str, Rule] = {**ARRAY_RULES, **PRODUCT_RULES, **CONTROL_FLOW}


class LaneInterpreter(Materializer):
    """An interpreter for one trace; the body of each loop or branch has its own, see `make_inner`.

    Only values that depend on a mapped input have lanes.

    Attributes:
      n: the number of lanes.
    """

    def __init__(self, n: int, is_native: bool = False):
        """Create an interpreter.

        Args:
          n: the number of lanes.
          is_native: whether the result becomes a native function, in which reused values are materialized.
        """
        super().__init__()
        self.n = n
        self._is_native = is_native

    def make_inner(self) -> "LaneInterpreter":
        """Return an interpreter for a nested trace, which must not recompute values of the outer one."""
        return LaneInterpreter(self.n, self._is_native)

    def evaluate(self, jaxpr: AnyJaxpr, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Return the outputs of an open jaxpr."""
        jaxpr, _ = open_jaxpr(jaxpr)
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(v: Variable) -> Value:
            return literal_value(v) if is_literal(v) else env[v]

        n_uses = count_uses(jaxpr) if self._is_native else {}
        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            with eqn.ctx.manager:
                if not any(isinstance(x, Mapped) for x in operands):
                    outs = bind_equation(eqn, operands)
                else:
                    rule = RULES.get(eqn.primitive.name)
                    outs = NotImplemented if rule is None else rule(self, eqn, *operands)
                    if outs is NotImplemented:
                        outs = self._apply_vmap(lambda *arrays, eqn=eqn: bind_equation(eqn, arrays), operands)
                    elif self._is_native and rule is not None and eqn.primitive.name in RECOMPUTED:
                        outs = [self.materialize_if_reused(n_uses[eqn.outvars[0]], rule, eqn, operands, outs[0])]
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _apply_vmap(self, fn: Callable[..., Sequence[Array]], operands: Sequence[Value]) -> list[Mapped]:
        axes = [-1 if isinstance(x, Mapped) else None for x in operands]
        run = jax.vmap(lambda *xs: list(fn(*xs)), in_axes=axes, out_axes=-1, axis_size=self.n)
        return [Mapped(out) for out in run(*map(to_array, operands))]

    def to_arrays(self, values: Sequence[Value], avals: Sequence[Aval], are_mapped: Sequence[bool]) -> list[Array]:
        """Return values as arrays, for example for the carry of a loop.

        Args:
          values: the values.
          avals: their abstract values, of one member.
          are_mapped: which arrays have lanes; those of mapped values must.
        """
        return [
            broadcast_lanes(self.n, x, aval.shape) if is_mapped else jnp.asarray(x)
            for x, aval, is_mapped in zip(values, avals, are_mapped, strict=True)
        ]
