"""Which values are materialized, because XLA:CPU would otherwise recompute them for each of their uses.

In a native function, XLA:CPU fuses cheap operations into each use of their result. A chain of such results that
are used several times is recomputed several times at every step, which grows exponentially with the chain.
"""

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from jax import Array, lax

from xorjax.lanes.arrays.values import Mapped, Rule, Value, to_array
from xorjax.lanes.jaxprs import Equation, Jaxpr, Variable, is_literal, outlined_call

# Primitives whose results XLA:CPU recomputes for every use, and those that only move elements.
CHEAP = frozenset(
    "abs add clamp convert_element_type integer_pow max min mul neg select_n sign square sub".split()
)
MOVES = frozenset("broadcast_in_dim reshape slice squeeze transpose".split())
RECOMPUTED = CHEAP | MOVES | {"dot_general", "pow"}
# Materialize a value once recomputing it would cost more than MAX_REPEATED operations for each element: 4 to 16
# perform alike for SGD, 32 a tenth slower; few are best for Adam.
MAX_REPEATED = 4
MAX_CHAIN = 32  # equations


def count_uses(jaxpr: Jaxpr) -> Counter[Variable]:
    """Return how often each variable's elements are used; a matrix product uses them once per row or column."""
    uses: Counter[Variable] = Counter()
    for eqn in jaxpr.eqns:
        times = [1] * len(eqn.invars)
        if eqn.primitive.name == "dot_general":
            terms = _cost(eqn) // 2 * prod(eqn.outvars[0].aval.shape)
            times = [terms // max(1, prod(v.aval.shape)) for v in eqn.invars]
        for v, n in zip(eqn.invars, times, strict=True):
            if not is_literal(v):
                uses[v] += n
    uses.update(v for v in jaxpr.outvars if not is_literal(v))
    return uses


def _cost(eqn: Equation) -> int:
    """Return the operations for one element of the result."""
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    return int(eqn.primitive.name not in MOVES)


class _Recipe(NamedTuple):
    """How to recompute a mapped array from values that exist."""

    rule: Rule
    eqn: Equation
    operands: Sequence[Value]
    array: Array  # kept alive, since its id is the key
    cost: int  # operations for each element
    length: int  # equations
    is_irreducible: bool  # True if algebraic simplification cannot reduce it to one of its inputs


class Materializer:
    """The base class of `LaneInterpreter`: recipes of its values, and the values that were materialized."""

    def __init__(self) -> None:
        self._recipes: dict[int, _Recipe] = {}  # by the id of the array
        self._materialized: dict[int, Mapped] = {}  # by the id of the array

    def materialize(self, x: Value) -> Value:
        """Return the same value, computed once by a call of its own.

        Do not pass the value through a call: XLA treats input and output as distinct buffers, and may reuse the
        memory of one for another array. So the call recomputes it from its recipe.
        """
        recipe = self._recipes.get(id(x.array)) if isinstance(x, Mapped) else None
        if recipe is None or not recipe.is_irreducible:
            return x
        key = id(recipe.array)
        if key not in self._materialized:
            # Two results, since XLA:CPU may split a call with one among threads, see `outlined_call`.
            array, _ = lax.optimization_barrier(outlined_call(lambda: (to_array(self._recompute(x)), np.int32(0))))
            self._materialized[key] = Mapped(array)
        return self._materialized[key]

    def _recompute(self, x: Value) -> Value:
        key = id(x.array) if isinstance(x, Mapped) else None
        if key in self._materialized:
            return self._materialized[key]
        if key not in self._recipes:
            return x
        recipe = self._recipes[key]
        with recipe.eqn.ctx.manager:
            return recipe.rule(self, recipe.eqn, *map(self._recompute, recipe.operands))[0]

    def materialize_if_reused(
        self, n_uses: int, rule: Rule, eqn: Equation, operands: Sequence[Value], out: Value
    ) -> Value:
        """Record how a rule computed a result, and materialize it if XLA would recompute too much.

        `n_uses` tells how often each element is used.
        """
        name = eqn.primitive.name
        ids = [id(x.array) for x in operands if isinstance(x, Mapped)]
        if not isinstance(out, Mapped) or id(out.array) in ids:
            return out
        inputs = [self._recipes[i] for i in ids if i in self._recipes]
        length = 1 + sum(recipe.length for recipe in inputs)
        if length > MAX_CHAIN:
            return out
        cost = _cost(eqn) + sum(recipe.cost for recipe in inputs)
        is_irreducible = (
            name == "pow"
            or (name == "dot_general" and _cost(eqn) > 2)
            or (name in ("add", "mul", "sub", "dot_general") and len(set(ids)) == 2)
            or any(recipe.is_irreducible for recipe in inputs)
        )
        self._recipes[id(out.array)] = _Recipe(rule, eqn, operands, out.array, cost, length, is_irreducible)
        return self.materialize(out) if name == "pow" or cost * (n_uses - 1) > MAX_REPEATED else out
