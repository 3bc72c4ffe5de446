"""What `scalarize` does otherwise for a kernel, whose compiler knows scalars and plain loops, and nothing else.

Nothing is differentiated any more, so functions with derivatives of their own are what they compute. Branches are
all computed, for a choice between their results; loops over the elements of an array are written out.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jax import lax

from xorjax.lanes.jaxprs import CHECKPOINTS, Equation, open_jaxpr, scan_counts
from xorjax.lanes.scalar.control_flow import inline_rule, scan_rule
from xorjax.lanes.scalar.elementwise import is_known, object_array, promote_to_objects
from xorjax.lanes.scalar.random import RANDOM_RULES

MAX_UNROLLED = 64  # times that a loop's body is written out


def _scan(scalars: Any, eqn: Equation, *operands: Any) -> Any:
    n_consts, n_carry = scan_counts(eqn.params)
    length, reverse = eqn.params["length"], eqn.params["reverse"]
    is_plain = len(operands) == n_consts + n_carry and len(eqn.outvars) == n_carry
    if is_plain or length > MAX_UNROLLED:
        return scan_rule(scalars, eqn, *operands)
    jaxpr, jaxpr_consts = open_jaxpr(eqn.params["jaxpr"])
    consts, carry = operands[:n_consts], operands[n_consts : n_consts + n_carry]
    xs = [scalars.elements(x) for x in operands[n_consts + n_carry :]]
    rows: list[list[np.ndarray]] = []
    for i in reversed(range(length)) if reverse else range(length):
        outs = scalars.evaluate(jaxpr, jaxpr_consts, [*consts, *carry, *(x[i, ...] for x in xs)])
        carry = outs[:n_carry]
        rows.append([scalars.elements(y) for y in outs[n_carry:]])
    stacked = [
        np.stack(promote_to_objects(*column)) for column in zip(*(rows[::-1] if reverse else rows), strict=True)
    ]
    empty = [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars[n_carry:]]
    return [*carry, *(stacked if rows else empty)]


def _cond(scalars: Any, eqn: Equation, index: Any, *operands: Any) -> list[Any]:
    branches = [open_jaxpr(branch) for branch in eqn.params["branches"]]
    (index,) = scalars.elements(index).flat
    if is_known(index):
        return scalars.evaluate(*branches[int(np.clip(index, 0, len(branches) - 1))], operands)
    results = [scalars.evaluate(*branch, operands) for branch in branches]
    choose = partial(scalars.select, index)
    return [_map_elements(choose, *map(scalars.elements, outs)) for outs in zip(*results, strict=True)]


def _add(scalars: Any, eqn: Equation, *operands: Any) -> list[np.ndarray]:
    """What transposition writes for a sum."""
    return [_map_elements(partial(scalars.emit, "add", lax.add), *map(scalars.elements, operands))]


def _one_minus_square(scalars: Any, eqn: Equation, x: Any) -> list[np.ndarray]:
    one = eqn.invars[0].aval.dtype.type(1)

    def written(e: Any) -> Any:
        less, more = scalars.emit("sub", lax.sub, one, e), scalars.emit("add", lax.add, one, e)
        return scalars.emit("mul", lax.mul, less, more)

    return [_map_elements(written, scalars.elements(x))]


def _empty(scalars: Any, eqn: Equation) -> list[np.ndarray]:
    return [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]


def _pass_through(scalars: Any, eqn: Equation, *operands: Any) -> list[Any]:
    return list(operands)


def _map_elements(operation: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """An operation on the elements of arrays of one shape."""
    elements = zip(*(x.flat for x in promote_to_objects(*arrays)), strict=True)
    return object_array([operation(*each) for each in elements], arrays[0].shape)


KERNEL_RULES: dict[str, Callable[..., Any]] = {
    **RANDOM_RULES,
    **dict.fromkeys((*CHECKPOINTS, "custom_jvp_call", "custom_vjp_call"), inline_rule),
    "add_any": _add,
    "cond": _cond,
    "empty2": _empty,  # which a loop fills
    "one_minus_square": _one_minus_square,
    "optimization_barrier": _pass_through,
    "scan": _scan,
    "stop_gradient": _pass_through,
}
