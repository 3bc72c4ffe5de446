"""A loop over scalars as one kernel launch: each member in a lane, its whole state in registers.

XLA runs a loop on an accelerator operation by operation, and keeps the carry in memory between them. A kernel
keeps it in registers until the loop ends, so that only arithmetic limits the speed. Compilers of kernels support
few operations, and each has its own set: see `KernelBackend`.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from xorjax.lanes import jaxprs
from xorjax.lanes.jaxprs import ClosedJaxpr, is_literal, open_jaxpr
from xorjax.lanes.kernel.backends import KernelBackend, launch_grid
from xorjax.lanes.scalar.interpreter import ScalarInterpreter


def scalarize_loop(closed: ClosedJaxpr, backend: KernelBackend) -> ClosedJaxpr:
    """Return the jaxpr of one member as a jaxpr of a vector of members, with a vector for every element.

    The last argument of `closed` is the count, int32, which is the same for all members.
    """
    jaxpr, consts = open_jaxpr(closed)
    *in_avals, count_aval = jaxprs.get_avals(jaxpr.invars)

    def run_member(elements: Sequence[Array], count: Array) -> list[Any]:
        scalars = ScalarInterpreter(assume_finite=True, in_kernel=True, substitutes=backend.substitutes)
        args = scalars.unflatten([*elements, count], [*in_avals, count_aval])
        return scalars.flatten(scalars.evaluate(jaxpr, consts, args), jaxprs.get_avals(jaxpr.outvars))

    mapped = run_member
    for _ in backend.lanes:
        mapped = jax.vmap(mapped, (0, None))
    elements = [
        jax.ShapeDtypeStruct(backend.lanes, aval.dtype) for aval in in_avals for _ in range(prod(aval.shape))
    ]
    return jax.make_jaxpr(mapped)(elements, jax.ShapeDtypeStruct((), count_aval.dtype))


def unsupported_reason(loop: ClosedJaxpr, backend: KernelBackend) -> str | None:
    """Return why a kernel of this backend can't run a loop of vectors, or None if it can."""
    for eqn in jaxprs.iter_equations(loop):
        name, avals = eqn.primitive.name, [v.aval for v in [*eqn.invars, *eqn.outvars]]
        if name not in backend.primitives:
            return f"{name!r} is not to be had in a kernel ({backend.name})"
        if name == "while" and open_jaxpr(eqn.params["cond_jaxpr"])[0].outvars[0].aval.shape:
            return "it has a loop that some members leave before others"
        for aval in avals:
            if aval.shape not in [backend.lanes[i:] for i in range(len(backend.lanes) + 1)]:
                return f"{name!r} works on arrays of {prod(aval.shape) // prod(backend.lanes) or prod(aval.shape)}"
            if aval.dtype.name not in backend.dtypes:
                return f"{name!r} works on {aval.dtype.name}, which a kernel ({backend.name}) does not"
    needed = count_registers(loop, backend)
    if needed > backend.registers:
        return f"a member would need {needed:,} registers; {backend.registers:,} are allowed ({backend.name})"
    return None


def count_registers(loop: Any, backend: KernelBackend) -> int:
    """Return how many registers of 32 bits a member needs at once, in the order of the program's equations."""
    jaxpr = open_jaxpr(loop)[0]

    def size(v: Any) -> int:
        return -(-v.aval.dtype.itemsize // 4) if v.aval.shape == backend.lanes else 0

    last_use: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last_use.update({v: i for v in eqn.invars if not is_literal(v)})
    last_use.update({v: len(jaxpr.eqns) for v in jaxpr.outvars if not is_literal(v)})
    alive = {v: size(v) for v in jaxpr.invars}
    most = sum(alive.values())
    for i, eqn in enumerate(jaxpr.eqns):
        inner = max((count_registers(body, backend) for body in jaxprs.sub_jaxprs(eqn)), default=0)
        operands = {v for v in eqn.invars if not is_literal(v)}
        most = max(most, inner + sum(n for v, n in alive.items() if v not in operands))
        alive.update({v: size(v) for v in eqn.outvars})
        most = max(most, sum(alive.values()) if not inner else 0)
        alive = {v: n for v, n in alive.items() if last_use.get(v, -1) > i}
    return most


def run_kernel(
    loop: ClosedJaxpr,
    backend: KernelBackend,
    carried: Sequence[Array],
    given: Sequence[Array],
    counts: Array,
    members: Array,
) -> tuple[list[Array], list[Array]]:
    """Run the loop of `scalarize_loop` once for each count, one after the other.

    Args:
      loop: from `scalarize_loop`.
      backend: the compiler.
      carried, given: arrays (elements, members), in the order of the loop's arguments, with whole vectors of
        members.
      counts: int32 (times,).
      members: int32, traced: number of active members; vectors beyond it are skipped.

    Returns:
      The carried arrays in the end, and what the loop reports at the end of each count, (times, members) each.
    """
    n_lanes, (n_times,) = prod(backend.lanes), counts.shape
    n_blocks = carried[0].shape[-1] // n_lanes
    run_loop = jaxprs.as_function(loop)
    n_elements = sum(len(each) for each in carried)
    reported = open_jaxpr(loop)[0].outvars[n_elements:]

    def kernel(block: Any, counts: Any, *refs: Any) -> None:
        ins, outs = refs[: len(carried) + len(given)], refs[len(carried) + len(given) :]
        news, reports = outs[: len(carried)], outs[len(carried) :]
        elements = [ref[i] for ref in ins for i in range(ref.shape[0])]
        is_active = block * n_lanes < counts[0]

        def run_count(i: Any, elements: Sequence[Array]) -> list[Array]:
            outs = run_loop(*elements, *constants, jnp.where(is_active, counts[i + 1], 0))
            for ref, report in zip(reports, outs[n_elements:], strict=True):
                ref[i] = report
            return list(outs[:n_elements])

        elements, constants = elements[:n_elements], elements[n_elements:]
        ends = iter(run_count(0, elements) if n_times == 1 else lax.fori_loop(0, n_times, run_count, elements))
        for ref in news:
            for i in range(ref.shape[0]):
                ref[i] = next(ends)

    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in carried]
    shapes += [jax.ShapeDtypeStruct((n_times, n_blocks * n_lanes), v.aval.dtype) for v in reported]
    counts = jnp.concatenate([jnp.asarray(members, jnp.int32)[None], counts])
    outs = launch_grid(backend, kernel, n_blocks, counts, [*carried, *given], shapes, len(carried))
    return outs[: len(carried)], outs[len(carried) :]
