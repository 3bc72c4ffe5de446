"""A loop over scalars as one kernel launch: each member in a lane, all that it carries in registers.

XLA runs a loop on an accelerator operation by operation, and keeps what is carried in memory between them. A
kernel keeps it in registers until the loop is over, so that nothing but arithmetic limits it. What compilers of
kernels can do is little and differs: a `Route` says what, for each of them (`kernel_routes.py`).
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from xorjax.lanes.jaxprs import Equation, as_function, is_literal, open_jaxpr, sub_jaxprs
from xorjax.lanes.kernel.backends import Route
from xorjax.lanes.scalar.control_flow import make_leaf_function
from xorjax.lanes.scalar.interpreter import ScalarInterpreter


def scalar_loop(closed: Any, route: Route) -> Any:
    """The jaxpr of a member as one of a vector of members, with every element a vector.

    The last argument of `closed` is the count, int32, which is the same for all members.
    """
    *in_avals, count_aval = [v.aval for v in open_jaxpr(closed)[0].invars]

    def member(elements: Sequence[Any], count: Any) -> list[Any]:
        scalars = ScalarInterpreter(assume_finite=True, in_kernel=True, substitutes=route.substitutes)
        return make_leaf_function(scalars, closed)([*elements, count])

    mapped = member
    for _ in route.lanes:
        mapped = jax.vmap(mapped, (0, None))
    elements = [
        jax.ShapeDtypeStruct(route.lanes, aval.dtype) for aval in in_avals for _ in range(prod(aval.shape))
    ]
    return jax.make_jaxpr(mapped)(elements, jax.ShapeDtypeStruct((), count_aval.dtype))


def why_not(closed: Any, route: Route) -> str | None:
    """Why a loop of vectors can't go in a kernel of this route, or None if it can."""
    for eqn in _equations(closed):
        name, avals = eqn.primitive.name, [v.aval for v in [*eqn.invars, *eqn.outvars]]
        if name not in route.primitives:
            return f"{name!r} is not to be had in a kernel ({route.name})"
        if name == "while" and open_jaxpr(eqn.params["cond_jaxpr"])[0].outvars[0].aval.shape:
            return "it has a loop that some members leave before others"
        for aval in avals:
            if aval.shape not in [route.lanes[i:] for i in range(len(route.lanes) + 1)]:
                return f"{name!r} works on arrays of {prod(aval.shape) // prod(route.lanes) or prod(aval.shape)}"
            if aval.dtype.name not in route.dtypes:
                return f"{name!r} works on {aval.dtype.name}, which a kernel ({route.name}) does not"
    needed = registers(closed, route)
    if needed > route.registers:
        return f"a member would need {needed:,} registers; {route.registers:,} are allowed ({route.name})"
    return None


def _equations(closed: Any) -> list[Equation]:
    """Those of a jaxpr, and before each those within it."""
    found = []
    for eqn in open_jaxpr(closed)[0].eqns:
        found += [*(inner for body in sub_jaxprs(eqn) for inner in _equations(body)), eqn]
    return found


def registers(closed: Any, route: Route) -> int:
    """How many a member needs at once, of 32 bits each, in the order in which a program is written."""
    jaxpr = open_jaxpr(closed)[0]

    def size(v: Any) -> int:
        return -(-v.aval.dtype.itemsize // 4) if v.aval.shape == route.lanes else 0

    last: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last.update({v: i for v in eqn.invars if not is_literal(v)})
    last.update({v: len(jaxpr.eqns) for v in jaxpr.outvars if not is_literal(v)})
    alive = {v: size(v) for v in jaxpr.invars}
    most = sum(alive.values())
    for i, eqn in enumerate(jaxpr.eqns):
        inner = max((registers(body, route) for body in sub_jaxprs(eqn)), default=0)
        within = {v for v in eqn.invars if not is_literal(v)}
        most = max(most, inner + sum(n for v, n in alive.items() if v not in within))
        alive.update({v: size(v) for v in eqn.outvars})
        most = max(most, sum(alive.values()) if not inner else 0)
        alive = {v: n for v, n in alive.items() if last.get(v, -1) > i}
    return most


def run(
    closed: Any, route: Route, carried: Sequence[Any], given: Sequence[Any], counts: Any, members: Any
) -> tuple[list[Any], list[Any]]:
    """Runs the loop of `scalar_loop` for each of these counts in turn.

    Args:
      closed: from `scalar_loop`.
      route: where to.
      carried, given: arrays (numbers, members), in the order of the loop's arguments; as many members as make
        whole vectors.
      counts: int32 (times,), the count of each time.
      members: int32, traced; whole vectors of those beyond so many do nothing.

    Returns:
      What is carried in the end, and what each time reports, (times, members) each.
    """
    n_lanes, (n_times,) = prod(route.lanes), counts.shape
    n_blocks = carried[0].shape[-1] // n_lanes
    span = as_function(closed)
    n_elements = sum(len(each) for each in carried)
    reported = open_jaxpr(closed)[0].outvars[n_elements:]

    def kernel(block: Any, at: Callable[[Any], Any], counts: Any, *refs: Any) -> None:
        ins, outs = refs[: len(carried) + len(given)], refs[len(carried) + len(given) :]
        news, reports = outs[: len(carried)], outs[len(carried) :]
        elements = [ref[at(i)] for ref in ins for i in range(ref.shape[0])]
        is_run = block * n_lanes < counts[0]

        def once(i: Any, elements: Sequence[Any]) -> list[Any]:
            outs = span(*elements, *constant, jnp.where(is_run, counts[i + 1], 0))
            for ref, report in zip(reports, outs[n_elements:], strict=True):
                ref[at(i)] = report
            return list(outs[:n_elements])

        elements, constant = elements[:n_elements], elements[n_elements:]
        elements = iter(once(0, elements) if n_times == 1 else lax.fori_loop(0, n_times, once, elements))
        for ref in news:
            for i in range(ref.shape[0]):
                ref[at(i)] = next(elements)

    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in carried]
    shapes += [jax.ShapeDtypeStruct((n_times, n_blocks * n_lanes), v.aval.dtype) for v in reported]
    counts = jnp.concatenate([jnp.asarray(members, jnp.int32)[None], counts])
    outs = route.launch(kernel, n_blocks, [counts, *carried, *given], shapes, len(carried))
    return outs[: len(carried)], outs[len(carried) :]
