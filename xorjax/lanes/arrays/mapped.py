"""Which values of a program differ by member: a value that depends on no mapped input needs no lanes."""

from collections.abc import Callable, Sequence
from itertools import compress

from xorjax.lanes import jaxprs
from xorjax.lanes.jaxprs import AnyJaxpr, Equation, Params, is_literal, open_jaxpr


def find_mapped_results(closed: AnyJaxpr, are_mapped: Sequence[bool]) -> list[bool]:
    """Return which outputs of a jaxpr are mapped, from which inputs are."""
    jaxpr, _ = open_jaxpr(closed)
    mapped = set(compress(jaxpr.invars, are_mapped))
    for eqn in jaxpr.eqns:
        results = find_mapped_outputs(eqn, [not is_literal(v) and v in mapped for v in eqn.invars])
        mapped.update(compress(eqn.outvars, results))
    return [not is_literal(v) and v in mapped for v in jaxpr.outvars]


def find_mapped_outputs(eqn: Equation, operands: list[bool]) -> list[bool]:
    """Return which results of an equation are mapped, from which operands are."""
    if not any(operands) or eqn.primitive.name not in _RULES:
        return [any(operands)] * len(eqn.outvars)
    return _RULES[eqn.primitive.name](eqn.params, operands)


def _find_mapped_of_scan(params: Params, operands: list[bool]) -> list[bool]:
    """Return which results of a scan are mapped."""
    n_consts, n_carry = jaxprs.scan_counts(params)
    n_fixed = n_consts + n_carry

    def find(carry: list[bool]) -> list[bool]:
        return find_mapped_results(params["jaxpr"], [*operands[:n_consts], *carry, *operands[n_fixed:]])

    return _find_fixed_point(find, operands[n_consts:n_fixed])


def _find_mapped_of_while(params: Params, operands: list[bool]) -> list[bool]:
    """Return which results of a while loop are mapped: all, if the members leave the loop at different times."""
    n_cond = params["cond_nconsts"]
    n_consts = n_cond + params["body_nconsts"]

    def find(carry: list[bool]) -> list[bool]:
        if find_mapped_results(params["cond_jaxpr"], [*operands[:n_cond], *carry])[0]:
            return [True] * len(carry)
        return find_mapped_results(params["body_jaxpr"], [*operands[n_cond:n_consts], *carry])

    return _find_fixed_point(find, operands[n_consts:])


def _find_fixed_point(find: Callable[[list[bool]], list[bool]], carry: list[bool]) -> list[bool]:
    """Return which results of a loop are mapped after any number of iterations: its carry, and what it stacks."""
    while True:
        results = find(carry)
        grown = [a or b for a, b in zip(carry, results, strict=False)]
        if grown == carry:
            return [*carry, *results[len(carry) :]]
        carry = grown


def _find_mapped_of_cond(params: Params, operands: list[bool]) -> list[bool]:
    """Return which results of a cond are mapped: all, if the members take different branches."""
    index, *rest = operands
    branches = [find_mapped_results(branch, rest) for branch in params["branches"]]
    return [index or any(each) for each in zip(*branches, strict=True)]


_RULES: dict[str, Callable[[Params, list[bool]], list[bool]]] = {
    **dict.fromkeys(
        (*jaxprs.INLINED, *jaxprs.CHECKPOINTS),
        lambda params, operands: find_mapped_results(jaxprs.call_jaxpr(params), operands),
    ),
    "cond": _find_mapped_of_cond,
    "scan": _find_mapped_of_scan,
    "while": _find_mapped_of_while,
}
