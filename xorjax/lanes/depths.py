"""The program of one member as a function of arrays with the lanes last, at each depth."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.core import Tracer

from xorjax.lanes.arrays.interpreter import LaneInterpreter
from xorjax.lanes.arrays.values import Mapped
from xorjax.lanes.control_flow import lane_avals
from xorjax.lanes.jaxprs import ClosedJaxpr, as_function, cast_to_aval, get_avals, open_jaxpr, replace_where
from xorjax.lanes.native import Depth
from xorjax.lanes.scalar.interpreter import ScalarInterpreter


class MemberProgram(NamedTuple):
    """The program of one member, and how to run it in lanes.

    Attributes:
      closed: its jaxpr.
      are_mapped: which arguments differ by member; the arguments begin with those of `find_traced_consts`.
      are_lanes: which results differ by member.
      depth: the depth to run it at.
      assume_finite: as for `scalarize`.
    """

    closed: ClosedJaxpr
    are_mapped: list[bool]
    are_lanes: list[bool]
    depth: Depth
    assume_finite: bool


def find_traced_consts(closed: ClosedJaxpr) -> list[Tracer]:
    """Return the tracers that a jaxpr closes over, which become the first arguments of a `MemberProgram`."""
    return [x for x in open_jaxpr(closed)[1] if isinstance(x, Tracer)]


def _split_consts(closed: ClosedJaxpr, args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the constants and the arguments of a jaxpr, from those of its `MemberProgram`."""
    consts = open_jaxpr(closed)[1]
    are_traced = [isinstance(x, Tracer) for x in consts]
    n_traced = sum(are_traced)
    return replace_where(are_traced, args[:n_traced], consts), list(args[n_traced:])


def run_lanes(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Array) -> list[Array]:
    """Run a program for all lanes.

    Args:
      program: the program of one member.
      n_lanes: the number of lanes.
      is_native: whether the result becomes a native function, see `run_native`.
      leaves: the arguments; mapped ones have the lanes last, as have the results that differ by member.
    """
    if program.depth == "vmap":
        return _run_vmap(program, n_lanes, leaves)
    if program.depth == "scalar":
        program = _scalarize_program(program)  # whose scalars the array interpreter makes vectors of lanes
    jaxpr, lanes = open_jaxpr(program.closed)[0], LaneInterpreter(n_lanes, is_native)
    values = [Mapped(x) if is_mapped else x for x, is_mapped in zip(leaves, program.are_mapped, strict=True)]
    outs = lanes.evaluate(jaxpr, *_split_consts(program.closed, values))
    avals = lane_avals(jaxpr.outvars, program.are_lanes)
    return [cast_to_aval(a, aval) for a, aval in zip(lanes.flatten(outs, avals), avals, strict=True)]


def _scalarize_program(program: MemberProgram) -> MemberProgram:
    jaxpr, consts = open_jaxpr(program.closed)
    traced = [v for v, x in zip(jaxpr.constvars, consts, strict=True) if isinstance(x, Tracer)]
    avals = get_avals([*traced, *jaxpr.invars])
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in avals]
    scalars = ScalarInterpreter(program.assume_finite)
    member = jax.make_jaxpr(lambda *args: scalars.apply_jaxpr(jaxpr, *_split_consts(program.closed, args)))
    return program._replace(closed=member(*shapes))


def _run_vmap(program: MemberProgram, n_lanes: int, leaves: Sequence[Array]) -> list[Array]:
    member = as_function(program.closed)  # closes over tracers
    n_traced = len(find_traced_consts(program.closed))
    axes = [-1 if is_mapped else None for is_mapped in program.are_mapped[n_traced:]]
    out_axes = [-1 if is_lane else None for is_lane in program.are_lanes]
    return jax.vmap(lambda *xs: list(member(*xs)), axes, out_axes, axis_size=n_lanes)(*leaves[n_traced:])
