"""The program of one member as a function of arrays with the lanes last, at each depth."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer

from xorjax.lanes.arrays.interpreter import LaneInterpreter
from xorjax.lanes.arrays.values import Mapped, Value, to_array, to_values
from xorjax.lanes.jaxprs import Aval, ClosedJaxpr, Jaxpr, as_function, cast_to_aval, get_avals, open_jaxpr
from xorjax.lanes.native import Depth, run_native
from xorjax.lanes.scalar.interpreter import ScalarInterpreter
from xorjax.lanes.scalar.values import Leaf, count_leaves, unflatten


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


class _LiftedJaxpr(NamedTuple):
    """A jaxpr with the tracers that it closes over as its first arguments."""

    jaxpr: Jaxpr
    get_consts: Callable[[Sequence[Value]], list[Value]]  # from all arguments
    n_traced: int
    in_avals: list[Aval]  # of all arguments


def _lift_consts(program: MemberProgram) -> _LiftedJaxpr:
    jaxpr, consts = open_jaxpr(program.closed)
    are_traced = [isinstance(x, Tracer) for x in consts]
    traced = [v for v, is_traced in zip(jaxpr.constvars, are_traced, strict=True) if is_traced]

    def get_consts(args: Sequence[Value]) -> list[Value]:
        first = iter(args)
        return [next(first) if is_traced else x for x, is_traced in zip(consts, are_traced, strict=True)]

    return _LiftedJaxpr(jaxpr, get_consts, len(traced), get_avals([*traced, *jaxpr.invars]))


def run_program(program: MemberProgram, n_lanes: int, *leaves: Array) -> list[Array]:
    """Run a program for all lanes; on a CPU, a loop of arithmetic becomes one native function.

    Args:
      program: the program of one member.
      n_lanes: the number of lanes.
      leaves: its arguments; those that are mapped have the lanes as their last axis.

    Returns:
      Its results; those that differ by member have the lanes as their last axis.
    """
    return run_native(partial(run_lanes, program, n_lanes), program.depth, *leaves)


def run_lanes(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Array) -> list[Array]:
    """Run a program for all lanes, as `run_program`, inside a native function or not."""
    return _RUN[program.depth](program, n_lanes, is_native, *leaves)


def _run_scalar(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Array) -> list[Array]:
    """Scalarize the program; the array interpreter then makes each scalar a vector of lanes."""
    jaxpr, get_consts, n_traced, in_avals = _lift_consts(program)
    out_avals = get_avals(jaxpr.outvars)
    scalars, lanes = ScalarInterpreter(program.assume_finite), LaneInterpreter(n_lanes, is_native)

    def member(elements: Sequence[Leaf]) -> list[Leaf]:
        args = unflatten(elements, in_avals)
        return scalars.flatten(scalars.evaluate(jaxpr, get_consts(args), args[n_traced:]), out_avals)

    values = to_values(leaves, program.are_mapped)
    elements = [e for x, aval in zip(values, in_avals, strict=True) for e in _split_elements(x, aval)]
    types = [
        jax.ShapeDtypeStruct(() if _is_split(aval) else aval.shape, aval.dtype, weak_type=aval.weak_type)
        for aval in in_avals
        for _ in range(count_leaves(aval))
    ]
    outs = iter(lanes.evaluate(*open_jaxpr(jax.make_jaxpr(member)(types)), elements))
    return [
        cast_to_aval(_stack_elements(lanes, [next(outs) for _ in range(count_leaves(aval))], aval, is_lane), aval)
        for aval, is_lane in zip(out_avals, program.are_lanes, strict=True)
    ]


def _is_split(aval: Aval) -> bool:
    return count_leaves(aval) == prod(aval.shape)


def _split_elements(x: Value, aval: Aval) -> list[Value]:
    """Return the leaves of a value: its elements, or itself if it is large."""
    if not _is_split(aval):
        return [x]
    size, array = prod(aval.shape), to_array(x)
    flat = lax.reshape(array, (size, *array.shape[len(aval.shape) :]))
    rows = [lax.index_in_dim(flat, i, keepdims=False) for i in range(size)]
    return to_values(rows, [isinstance(x, Mapped)] * size)


def _stack_elements(lanes: LaneInterpreter, elements: Sequence[Value], aval: Aval, is_lane: bool) -> Array:
    """Return the array of leaves, with lanes if `is_lane`."""
    if not _is_split(aval):
        return lanes.to_arrays(elements, [aval], [is_lane])[0]
    shape = (*aval.shape, lanes.n) if is_lane else aval.shape
    if not elements:
        return jnp.zeros(shape, aval.dtype)
    scalar = jax.ShapeDtypeStruct((), aval.dtype)
    arrays = lanes.to_arrays(elements, [scalar] * len(elements), [is_lane] * len(elements))
    return jnp.stack(arrays).reshape(shape)


def _run_array(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Array) -> list[Array]:
    jaxpr, get_consts, n_traced, _ = _lift_consts(program)
    lanes, values = LaneInterpreter(n_lanes, is_native), to_values(leaves, program.are_mapped)
    outs, avals = lanes.evaluate(jaxpr, get_consts(values), values[n_traced:]), get_avals(jaxpr.outvars)
    arrays = lanes.to_arrays(outs, avals, program.are_lanes)
    return [cast_to_aval(a, aval) for a, aval in zip(arrays, avals, strict=True)]


def _run_vmap(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Array) -> list[Array]:
    member = as_function(program.closed)  # closes over tracers
    n_traced = len(find_traced_consts(program.closed))
    axes = [-1 if is_mapped else None for is_mapped in program.are_mapped[n_traced:]]
    out_axes = [-1 if is_lane else None for is_lane in program.are_lanes]
    return jax.vmap(lambda *xs: list(member(*xs)), axes, out_axes, axis_size=n_lanes)(*leaves[n_traced:])


@runtime_checkable
class _Run(Protocol):
    def __call__(
        self, program: MemberProgram, n_lanes: int, is_native: bool, /, *leaves: Array
    ) -> list[Array]: ...


_RUN: dict[Depth, _Run] = {"scalar": _run_scalar, "array": _run_array, "vmap": _run_vmap}
