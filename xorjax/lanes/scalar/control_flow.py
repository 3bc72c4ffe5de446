"""Rules for control flow at the depth "scalar": those of both interpreters, and branches known while tracing."""

from collections.abc import Callable

import numpy as np

from xorjax.lanes import control_flow
from xorjax.lanes.jaxprs import Equation, open_jaxpr
from xorjax.lanes.scalar.objects import is_known
from xorjax.lanes.scalar.values import Interpreter, Rule, Value

CondRule = Callable[..., list[Value]]


def make_cond_rule(select_branch: CondRule) -> CondRule:
    """Return a rule that evaluates a known branch in place of the `cond`, and leaves others to another rule.

    Args:
      select_branch: a rule for `cond` whose first operand is the index, a scalar that is not known.
    """

    def cond_rule(scalars: Interpreter, eqn: Equation, index: Value, *operands: Value) -> list[Value]:
        (which,) = scalars.elements(index).flat
        if not is_known(which):
            return select_branch(scalars, eqn, which, *operands)
        branches = eqn.params["branches"]
        return scalars.evaluate(*open_jaxpr(branches[np.clip(int(which), 0, len(branches) - 1)]), operands)

    return cond_rule


CONTROL_FLOW: dict[str, Rule] = {**control_flow.CONTROL_FLOW, "cond": make_cond_rule(control_flow.cond_rule)}
