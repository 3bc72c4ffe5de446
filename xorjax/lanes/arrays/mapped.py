"""Which values of a program differ by member: a value that depends on no mapped input needs no lanes."""

from collections.abc import Callable, Sequence

from xorjax.lanes.jaxprs import (
    CHECKPOINTS,
    INLINED,
    AnyJaxpr,
    Params,
    call_jaxpr,
    is_literal,
    open_jaxpr,
    scan_counts,
)


def find_mapped_results(closed: AnyJaxpr, are_mapped: Sequence[bool]) -> list[bool]:
    """Return which outputs of a jaxpr depend on a mapped input.

    Args:
      closed: the jaxpr.
      are_mapped: which inputs are mapped.
    """
    jaxpr, _ = open_jaxpr(closed)
    mapped = {v for v, is_mapped in zip(jaxpr.invars, are_mapped, strict=True) if is_mapped}
    for eqn in jaxpr.eqns:
        operands = [not is_literal(v) and v in mapped for v in eqn.invars]
        if any(operands):
            find = _RULES.get(eqn.primitive.name)
            results = [True] * len(eqn.outvars) if find is None else find(eqn.params, operands)
            mapped.update(v for v, is_mapped in zip(eqn.outvars, results, strict=True) if is_mapped)
    return [not is_literal(v) and v in mapped for v in jaxpr.outvars]


def find_mapped_of_scan(params: Params, operands: list[bool]) -> list[bool]:
    """Return which results of a scan are mapped: a fixed point, since its carry goes around."""
    n_consts, n_carry = scan_counts(params)
    consts, carry, xs = (
        operands[:n_consts],
        operands[n_consts : n_consts + n_carry],
        operands[n_consts + n_carry :],
    )
    while True:
        results = find_mapped_results(params["jaxpr"], [*consts, *carry, *xs])
        grown = [a or b for a, b in zip(carry, results[:n_carry], strict=True)]
        if grown == carry:
            return [*carry, *results[n_carry:]]
        carry = grown


def find_mapped_of_while(params: Params, operands: list[bool]) -> list[bool]:
    """Return which results of a while loop are mapped: all, if the members leave the loop at different times."""
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts = operands[:n_cond], operands[n_cond : n_cond + n_body]
    carry = operands[n_cond + n_body :]
    while True:
        if find_mapped_results(params["cond_jaxpr"], [*cond_consts, *carry])[0]:
            return [True] * len(carry)
        results = find_mapped_results(params["body_jaxpr"], [*body_consts, *carry])
        grown = [a or b for a, b in zip(carry, results, strict=True)]
        if grown == carry:
            return carry
        carry = grown


def find_mapped_of_cond(params: Params, operands: list[bool]) -> list[bool]:
    """Return which results of a cond are mapped: all, if the members take different branches."""
    index, *rest = operands
    branches = [find_mapped_results(branch, rest) for branch in params["branches"]]
    return [index or any(each) for each in zip(*branches, strict=True)]


def _find_mapped_of_call(params: Params, operands: list[bool]) -> list[bool]:
    return find_mapped_results(call_jaxpr(params), operands)


_RULES: dict[str, Callable[[Params, list[bool]], list[bool]]] = {
    **dict.fromkeys((*INLINED, *CHECKPOINTS), _find_mapped_of_call),
    "cond": find_mapped_of_cond,
    "scan": find_mapped_of_scan,
    "while": find_mapped_of_while,
}
