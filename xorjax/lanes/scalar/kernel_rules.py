"""Rules that replace others in a kernel, whose compiler has only scalars and plain loops.

Kernels are not differentiated, so a function with a custom derivative becomes its body. All branches are computed,
and their results selected; short loops over the elements of an array are unrolled.
"""

from functools import partial
from typing import Any

import numpy as np
from jax import lax

from xorjax.lanes.control_flow import inline_rule, scan_rule
from xorjax.lanes.jaxprs import CHECKPOINTS, Equation, open_jaxpr, scan_counts
from xorjax.lanes.scalar.control_flow import make_cond_rule
from xorjax.lanes.scalar.objects import map_elements, promote_to_objects
from xorjax.lanes.scalar.random import RANDOM_RULES
from xorjax.lanes.scalar.values import Interpreter, Rule, Value

MAX_UNROLLED = 64  # iterations


def _scan(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    n_consts, n_carry = scan_counts(eqn.params)
    length, is_reverse = eqn.params["length"], eqn.params["reverse"]
    is_plain = len(operands) == n_consts + n_carry and len(eqn.outvars) == n_carry
    if is_plain or length > MAX_UNROLLED:
        return scan_rule(scalars, eqn, *operands, unroll=1)
    jaxpr, jaxpr_consts = open_jaxpr(eqn.params["jaxpr"])
    consts, carry = operands[:n_consts], operands[n_consts : n_consts + n_carry]
    xs = [scalars.elements(x) for x in operands[n_consts + n_carry :]]
    rows: list[list[np.ndarray]] = []
    for i in reversed(range(length)) if is_reverse else range(length):
        outs = scalars.evaluate(jaxpr, jaxpr_consts, [*consts, *carry, *(x[i, ...] for x in xs)])
        carry = outs[:n_carry]
        rows.append([scalars.elements(y) for y in outs[n_carry:]])
    if not rows:
        return [*carry, *(np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars[n_carry:])]
    columns = zip(*(rows[::-1] if is_reverse else rows), strict=True)
    return [*carry, *(np.stack(promote_to_objects(*column)) for column in columns)]


def _select_branch(scalars: Interpreter, eqn: Equation, index: Any, *operands: Value) -> list[Value]:
    results = [scalars.evaluate(*open_jaxpr(branch), operands) for branch in eqn.params["branches"]]
    select = partial(scalars.select, index)
    return [map_elements(select, *map(scalars.elements, outs)) for outs in zip(*results, strict=True)]


def _add_any(scalars: Interpreter, eqn: Equation, *operands: Value) -> list[Value]:
    """Add cotangents, as an `add`."""
    return [map_elements(partial(scalars.emit, "add", lax.add), *map(scalars.elements, operands))]


def _one_minus_square(scalars: Interpreter, eqn: Equation, x: Value) -> list[Value]:
    one = eqn.invars[0].aval.dtype.type(1)

    def apply(e: Any) -> Any:
        less, more = scalars.emit("sub", lax.sub, one, e), scalars.emit("add", lax.add, one, e)
        return scalars.emit("mul", lax.mul, less, more)

    return [map_elements(apply, scalars.elements(x))]


KERNEL_RULES: dict[str, Rule] = {
    **RANDOM_RULES,
    **dict.fromkeys((*CHECKPOINTS, "custom_jvp_call", "custom_vjp_call"), inline_rule),
    **dict.fromkeys(("optimization_barrier", "stop_gradient"), lambda scalars, eqn, *operands: operands),
    "add_any": _add_any,
    "cond": make_cond_rule(_select_branch),
    "empty2": lambda scalars, eqn: [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars],  # a loop fills it
    "one_minus_square": _one_minus_square,
    "scan": _scan,
}
