"""The cost model: the depth at which `lane_vmap` runs a program, and the number of lanes in a block on a CPU."""

from math import inf, prod
from typing import Literal, NamedTuple

from xorjax.lanes.jaxprs import AnyJaxpr, open_jaxpr, primitive_names, sub_jaxprs
from xorjax.lanes.native import ARITHMETIC, LOOPS, Depth
from xorjax.lanes.scalar.indexing import INDEXING_RULES
from xorjax.lanes.scalar.reductions import REDUCTION_RULES
from xorjax.lanes.scalar.transform import bound_operations

MAX_SCALAR = 350  # scalar operations up to which the depth "scalar" is the fastest
MAX_ARRAY = 100_000  # scalar operations up to which the depth "array" is

# Lanes of a block with a loop, on a CPU: the fastest of 16 to 1,024. Fewer than 32 are not whole vectors in every
# loop; many do not fit the cache, where large arrays of a power of two compete for the same lines. Plain vmap has
# no vectors of lanes, so only the cache matters.
LOOP_LANES: dict[Depth, int] = {"scalar": 64, "array": 32, "vmap": 8}
LARGE, LARGE_LANES = 16_000, 48  # at the depth "array": lanes for more operations than LARGE
# Without a loop, XLA dispatches each operation once for the block: enough lanes that the work takes about as long
# as the dispatch, in whole vectors. Fewer lanes if a primitive is not known, since it may take long.
BLOCK_OPERATIONS = 2**16
VECTORS, OTHER_LANES, MAX_LANES = 64, 256, 4_096
BLOCK_ELEMENTS = 2**23  # elements in all arrays of a block's members
KNOWN = ARITHMETIC | set(REDUCTION_RULES) | set(INDEXING_RULES)  # primitives with a known time


class Explanation(NamedTuple):
    """How `lane_vmap` runs a program.

    Attributes:
      depth: "scalar" (every element a scalar), "array" (arrays with the lanes last), or "vmap" (`jax.vmap`).
      operations: an upper bound on the scalar operations of the program; a loop's body counts once.
      lanes: the number of members in a block on a CPU; the last block is padded to it, except in programs that
        print or call Python.
      why: the reason, as text.
    """

    depth: Depth
    operations: int
    lanes: int
    why: str


def plan_lanes(closed: AnyJaxpr, depth: Literal["auto"] | Depth = "auto") -> Explanation:
    """Return the depth, unless it is given, and the block size for a program of one member.

    Both follow from the program alone, never from the number of members, so that no member's bits depend on it.
    """
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


def count_elements(closed: AnyJaxpr) -> int:
    """Return the number of elements in all inputs and intermediate arrays of a program."""
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
