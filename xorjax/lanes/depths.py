"""The program of one member as a function of arrays with the lanes last, at either depth, and as native code."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from xorjax.lanes.arrays.interpreter import LaneInterpreter, get_avals, to_values
from xorjax.lanes.arrays.rules import Mapped
from xorjax.lanes.jaxprs import as_function, cast_to_aval, open_jaxpr
from xorjax.lanes.native import Depth, run_native
from xorjax.lanes.scalar.control_flow import count_leaves, unflatten
from xorjax.lanes.scalar.interpreter import ScalarInterpreter


class MemberProgram(NamedTuple):
    """What one member does, and how it is put into lanes."""

    closed: Any  # jaxpr
    are_mapped: list[bool]  # of its arguments, `traced_consts` first, which of them differ by member
    are_lanes: list[bool]  # and of its results
    depth: Depth
    assume_finite: bool


def find_traced_consts(closed: Any) -> list[Any]:
    """What a jaxpr closes over that is not a constant; the first arguments of a `Program`."""
    return [x for x in open_jaxpr(closed)[1] if isinstance(x, Tracer)]


class _LiftedJaxpr(NamedTuple):
    """A program's jaxpr, with what it closes over among its arguments."""

    jaxpr: Any
    consts: Callable[[Sequence[Any]], list[Any]]  # from the arguments
    n_traced: int
    in_avals: list[Any]  # of all arguments


def _lift_consts(program: MemberProgram) -> _LiftedJaxpr:
    jaxpr, consts = open_jaxpr(program.closed)
    are_traced = [isinstance(x, Tracer) for x in consts]
    traced = [v for v, is_traced in zip(jaxpr.constvars, are_traced, strict=True) if is_traced]

    def given(args: Sequence[Any]) -> list[Any]:
        first = iter(args)
        return [next(first) if is_traced else x for x, is_traced in zip(consts, are_traced, strict=True)]

    return _LiftedJaxpr(jaxpr, given, len(traced), get_avals([*traced, *jaxpr.invars]))


def run_program(program: MemberProgram, n_lanes: int, *leaves: Any) -> list[Any]:
    """The results for these lanes; on a CPU, where it is arithmetic with a loop, by one native function."""
    return run_native(partial(run_lanes, program, n_lanes), program.depth, *leaves)


def run_lanes(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Any) -> list[Any]:
    """The results for these lanes, for a native function to hold or not."""
    return _RUN[program.depth](program, n_lanes, is_native, *leaves)


def _run_scalar(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Any) -> list[Any]:
    """Scalarized, and each scalar then a vector of lanes by the rules of the other depth."""
    jaxpr, consts, n_traced, in_avals = _lift_consts(program)
    out_avals = get_avals(jaxpr.outvars)
    scalars, lanes = ScalarInterpreter(program.assume_finite), LaneInterpreter(n_lanes, is_native)

    def member(elements: Sequence[Any]) -> list[Any]:
        args = unflatten(elements, in_avals)
        return scalars.flatten(scalars.evaluate(jaxpr, consts(args), args[n_traced:]), out_avals)

    values = to_values(leaves, program.are_mapped)
    elements = [e for x, aval in zip(values, in_avals, strict=True) for e in _split_elements(x, aval)]
    types = [
        jax.ShapeDtypeStruct(
            () if count_leaves(aval) == prod(aval.shape) else aval.shape, aval.dtype, weak_type=aval.weak_type
        )
        for aval in in_avals
        for _ in range(count_leaves(aval))
    ]
    outs = iter(lanes.evaluate(*open_jaxpr(jax.make_jaxpr(member)(types)), elements))
    return [
        cast_to_aval(_stack_elements(lanes, [next(outs) for _ in range(count_leaves(aval))], aval, is_lane), aval)
        for aval, is_lane in zip(out_avals, program.are_lanes, strict=True)
    ]


def _split_elements(x: Any, aval: Any) -> list[Any]:
    """A value as what `from_leaves` takes: its elements, or itself if it is large."""
    size, array = prod(aval.shape), x.array if isinstance(x, Mapped) else x
    if count_leaves(aval) != size:
        return [x]
    flat = lax.reshape(array, (size, *array.shape[len(aval.shape) :]))
    rows = [lax.index_in_dim(flat, i, keepdims=False) for i in range(size)]
    return to_values(rows, [isinstance(x, Mapped)] * size)


def _stack_elements(lanes: LaneInterpreter, elements: Sequence[Any], aval: Any, is_lane: bool) -> Any:
    """The array that such elements are, with lanes where `is_lane` says so."""
    if count_leaves(aval) != prod(aval.shape):
        return lanes.to_arrays(elements, [aval], [is_lane])[0]
    shape = (*aval.shape, lanes.n) if is_lane else aval.shape
    if not elements:
        return jnp.zeros(shape, aval.dtype)
    scalar = jax.ShapeDtypeStruct((), aval.dtype)
    arrays = lanes.to_arrays(elements, [scalar] * len(elements), [is_lane] * len(elements))
    return jnp.stack(arrays).reshape(shape)


def _run_array(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Any) -> list[Any]:
    jaxpr, consts, n_traced, _ = _lift_consts(program)
    lanes, values = LaneInterpreter(n_lanes, is_native), to_values(leaves, program.are_mapped)
    outs, avals = lanes.evaluate(jaxpr, consts(values), values[n_traced:]), get_avals(jaxpr.outvars)
    return [
        cast_to_aval(a, aval)
        for a, aval in zip(lanes.to_arrays(outs, avals, program.are_lanes), avals, strict=True)
    ]


def _run_vmap(program: MemberProgram, n_lanes: int, is_native: bool, *leaves: Any) -> list[Any]:
    member = as_function(program.closed)  # closes over what is traced
    n_traced = len(find_traced_consts(program.closed))
    axes = [-1 if is_mapped else None for is_mapped in program.are_mapped[n_traced:]]
    out_axes = [-1 if is_lane else None for is_lane in program.are_lanes]
    return jax.vmap(lambda *xs: list(member(*xs)), axes, out_axes, axis_size=n_lanes)(*leaves[n_traced:])


_RUN: dict[str, Callable[..., list[Any]]] = {
    "scalar": _run_scalar,
    "array": _run_array,
    "vmap": _run_vmap,
}
