"""The cost model: at which depth `lane_vmap` runs a program, and how many lanes make a block on a CPU."""

from math import inf, prod
from typing import Any, Literal, NamedTuple

from xorjax.lanes.jaxprs import open_jaxpr, primitive_names, sub_jaxprs
from xorjax.lanes.native import ARITHMETIC, LOOPS, Depth
from xorjax.lanes.scalar.indexing import INDEXING_RULES
from xorjax.lanes.scalar.interpreter import bound_operations
from xorjax.lanes.scalar.reductions import REDUCTION_RULES

MAX_SCALAR = 350  # scalar operations up to which the first depth is the faster one
MAX_ARRAY = 100_000  # and up to which the second is

# Lanes of a block on a CPU. For a loop, the fastest of 16 to 1,024: fewer than 32 do not become whole vectors in
# every loop, and many do not stay in the cache, where powers of two of large arrays compete for places. Plain vmap
# has no vectors of lanes, so that the cache alone counts.
LOOP_LANES: dict[Depth, int] = {"scalar": 64, "array": 32, "vmap": 8}
LARGE, LARGE_LANES = 16_000, 48  # at the second depth: beyond so many operations, so many lanes
# For what is dispatched operation by operation: as many as take about as long as calling it, in whole vectors, and
# fewer where an operation has no rule and may take long.
BLOCK_OPERATIONS = 2**16
VECTORS, OTHER_LANES, MAX_LANES = 64, 256, 4_096
BLOCK_ELEMENTS = 2**23  # of all arrays of its members
KNOWN = ARITHMETIC | set(REDUCTION_RULES) | set(INDEXING_RULES)  # what a native loop can hold, at most


class Explanation(NamedTuple):
    """What `lane_vmap` does with a program.

    Attributes:
      depth: "scalar" (every element a scalar), "array" (arrays with the lanes last), or "vmap" (`jax.vmap`).
      operations: the program's scalar operations, at most, those in loops counted once.
      lanes: members that a CPU works on at once, and what it rounds their number up to (not for programs that
        print or call Python).
      why: in a sentence.
    """

    depth: Depth
    operations: int
    lanes: int
    why: str


def plan_lanes(closed: Any, depth: Literal["auto"] | Depth = "auto") -> Explanation:
    """The cost model: chosen from the program alone, since a member's bits must not depend on its company."""
    operations, n_elements = bound_operations(closed, largest=inf), count_elements(closed)
    chosen, why = _choose_depth(operations) if depth == "auto" else (depth, "as asked")
    names = primitive_names(closed)
    if not names <= KNOWN:
        lanes = OTHER_LANES
    elif names.isdisjoint(LOOPS):
        vectors = BLOCK_OPERATIONS // max(1, operations, n_elements) // VECTORS
        lanes = min(VECTORS * max(1, vectors), MAX_LANES)
    else:
        lanes = LARGE_LANES if chosen == "array" and operations > LARGE else LOOP_LANES[chosen]
    lanes = max(1, min(lanes, BLOCK_ELEMENTS // max(1, n_elements)))
    return Explanation(chosen, operations, lanes, f"up to {operations:,} scalar operations, {why}")


def count_elements(closed: Any) -> int:
    """Of all arrays that a program makes and is given."""
    jaxpr = open_jaxpr(closed)[0]
    variables = [*jaxpr.invars, *(v for eqn in jaxpr.eqns for v in eqn.outvars)]
    inner = sum(count_elements(body) for eqn in jaxpr.eqns for body in sub_jaxprs(eqn))
    return inner + sum(prod(getattr(v.aval, "shape", ())) for v in variables)


def _choose_depth(operations: int) -> tuple[Depth, str]:
    limits: dict[Depth, int] = {"scalar": MAX_SCALAR, "array": MAX_ARRAY}
    for depth, limit in limits.items():
        if operations <= limit:
            return depth, f"at most {limit:,}"
    return "vmap", f"more than {MAX_ARRAY:,}"
