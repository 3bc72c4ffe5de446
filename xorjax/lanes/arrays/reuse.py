"""Which values `lane_vmap` has computed once and kept, where XLA:CPU would compute them again for every use."""

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from xorjax.lanes.arrays.rules import Mapped
from xorjax.lanes.jaxprs import Equation, is_literal, outlined_call

# Results that XLA:CPU computes again for every use, rather than keep them, and what only moves them about. How
# many operations done again, over all uses of a value, are worth keeping it: 4 to 16 are alike for SGD, 32 are a
# tenth slower, and few are best for Adam.
CHEAP = frozenset(
    "abs add clamp convert_element_type integer_pow max min mul neg select_n sign square sub".split()
)
MOVES = frozenset("broadcast_in_dim reshape slice squeeze transpose".split())
RECOMPUTED = CHEAP | MOVES | {"dot_general", "pow"}
MAX_REPEATED = 4
MAX_CHAIN = 32  # equations


def count_uses(jaxpr: Any) -> Counter[Any]:
    """How often each variable's elements are used; by a product of matrices, once for every column or row."""
    found: Counter[Any] = Counter()
    for eqn in jaxpr.eqns:
        times = [1] * len(eqn.invars)
        if eqn.primitive.name == "dot_general":
            terms = _cost(eqn) // 2 * prod(eqn.outvars[0].aval.shape)
            times = [terms // max(1, prod(v.aval.shape)) for v in eqn.invars]
        for v, n in zip(eqn.invars, times, strict=True):
            if not is_literal(v):
                found[v] += n
    found.update(v for v in jaxpr.outvars if not is_literal(v))
    return found


def _cost(eqn: Equation) -> int:
    """Operations for an element of the result."""
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    return int(eqn.primitive.name not in MOVES)


class _Recipe(NamedTuple):
    """How an array with lanes was made, to make it again."""

    rule: Any
    eqn: Equation
    operands: Sequence[Any]
    array: Any  # kept alive, since its id names it
    cost: int  # operations for an element
    length: int  # equations, from those whose results are kept on
    is_irreducible: bool  # whether simplification can surely not find it to be one of the arrays it is made of


class Reuse:
    """What an interpreter knows of how its values were made, for the base of its class."""

    def __init__(self) -> None:
        self._recipes: dict[int, _Recipe] = {}  # by the id of the array
        self._materialized: dict[int, Mapped] = {}  # the same

    def materialize(self, x: Any) -> Any:
        """The same value, for uses so many that computing it once is worth keeping it.

        What makes it is done by a call, which XLA keeps one. (Not passed through one: XLA takes what a call
        returns for another array than what it was given, and may write a third over both.)
        """
        made = self._recipes.get(id(x.array)) if isinstance(x, Mapped) else None
        if made is None or not made.is_irreducible:
            return x
        key = id(x.array)
        if key not in self._materialized:
            array, _ = lax.optimization_barrier(outlined_call(lambda: (self._recompute(x).array, np.int32(0))))
            self._materialized[key] = Mapped(array)
        return self._materialized[key]

    def _recompute(self, x: Any) -> Any:
        if not isinstance(x, Mapped):
            return x
        if id(x.array) in self._materialized:
            return self._materialized[id(x.array)]
        made = self._recipes.get(id(x.array))
        if made is None:
            return x
        with made.eqn.ctx.manager:
            return made.rule(self, made.eqn, *map(self._recompute, made.operands))[0]

    def materialize_if_reused(
        self, n_uses: int, rule: Any, eqn: Equation, operands: Sequence[Any], out: Mapped
    ) -> Mapped:
        """The result of an equation, kept where XLA would compute too much again for its uses."""
        name, used = eqn.primitive.name, {id(x.array) for x in operands if isinstance(x, Mapped)}
        if id(out.array) in used:
            return out
        before = [
            self._recipes[id(x.array)] for x in operands if isinstance(x, Mapped) and id(x.array) in self._recipes
        ]
        length = 1 + sum(made.length for made in before)
        if length > MAX_CHAIN:
            return out
        cost = _cost(eqn) + sum(made.cost for made in before)
        is_irreducible = (
            name == "pow"
            or (name == "dot_general" and _cost(eqn) > 2)
            or (name in ("add", "mul", "sub", "dot_general") and len(used) == 2)
            or any(made.is_irreducible for made in before)
        )
        self._recipes[id(out.array)] = _Recipe(rule, eqn, operands, out.array, cost, length, is_irreducible)
        return self.materialize(out) if name == "pow" or cost * (n_uses - 1) > MAX_REPEATED else out
