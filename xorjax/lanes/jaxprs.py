"""What the interpreters of `scalarize` and `lane_vmap` know of jaxprs, and how JAX's versions differ in them.

`jax.extend` is imported when it is needed, since it imports Pallas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.xla_metadata import set_xla_metadata

Equation = Any  # jax.extend.core.JaxprEqn, for whose abstract values checkers know no shape

# The names that calls have had, by version of JAX.
INLINED = ("closed_call", "eval_jaxpr", "jit", "pjit")
CHECKPOINTS = ("checkpoint", "remat", "remat2")


def platform() -> str:
    """Of the device that JAX runs on where nothing else is said: "cpu", "gpu" or "tpu"."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is None:
        return jax.default_backend()
    return jax.local_devices(backend=chosen)[0].platform if isinstance(chosen, str) else chosen.platform


def trace_context() -> tuple[Any, ...]:
    """What tracing a function depends on beside its arguments; for the keys of what is kept of a trace."""
    of_arithmetic = "enable_x64", "threefry_partitionable", "default_prng_impl"
    of_promotion = "numpy_dtype_promotion", "numpy_rank_promotion"
    of_config = tuple(getattr(jax.config, f"jax_{name}") for name in (*of_arithmetic, *of_promotion))
    return (*of_config, platform(), jax.sharding.get_abstract_mesh())


def call_jaxpr(params: dict[str, Any]) -> Any:
    """The jaxpr that such a call is of."""
    return params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]


def open_jaxpr(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants; newer versions of JAX have one class for open and closed ones."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are its carry."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def bind_equation(eqn: Equation, arrays: Sequence[Any]) -> Sequence[Any]:
    """The results of an equation on these arrays."""
    params = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = params if isinstance(params, tuple) else ((), params)
    outs = eqn.primitive.bind(*subfuns, *arrays, **params)
    return outs if eqn.primitive.multiple_results else [outs]


def cast_to_aval(x: Any, aval: Any) -> Any:
    """`x` in a dtype and weak type that it has but for what folding changed."""
    same = isinstance(x, jax.Array) and jax.typeof(x).weak_type == aval.weak_type
    if same or jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return x
    from jax.extend.core.primitives import convert_element_type_p

    return convert_element_type_p.bind(x, new_dtype=aval.dtype, weak_type=aval.weak_type, sharding=None)


def as_function(closed: Any) -> Callable[..., list[Any]]:
    """The function that a closed jaxpr is."""
    from jax.extend.core import jaxpr_as_fun

    return jaxpr_as_fun(closed)


def is_literal(v: Any) -> bool:
    """Whether this is a number in a jaxpr (a `jax.extend.core.Literal`), and no variable."""
    return hasattr(v, "val")


def literal_value(v: Any) -> np.ndarray:
    """The value of such a number."""
    return np.asarray(v.val, v.aval.dtype)


def as_known(x: Any) -> Any:
    """A constant as NumPy has it, if it is one."""
    if isinstance(x, Tracer) or (isinstance(x, np.ndarray) and x.dtype == object):
        return x
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    return np.asarray(x)


def primitive_names(closed: Any) -> set[str]:
    """The names of the primitives in a jaxpr, and in those within."""
    names = set()
    for eqn in open_jaxpr(closed)[0].eqns:
        names.add(eqn.primitive.name)
        names.update(*map(primitive_names, sub_jaxprs(eqn)))
    return names


def sub_jaxprs(eqn: Equation) -> list[Any]:
    """The jaxprs within an equation."""
    values = [v for value in eqn.params.values() for v in (value if isinstance(value, tuple) else [value])]
    return [v for v in values if hasattr(v, "eqns") or hasattr(v, "jaxpr")]


def outlined_call(fn: Callable[..., Any], *args: Any, native: bool = False) -> Any:
    """`fn(*args)` as a call that XLA keeps one, so that neither side is compiled with the other in view.

    On a CPU, `native` makes one function of it. Such a function must have more than one result, since XLA:CPU may
    take it for a part of an operation that threads are to share.
    """

    def body(*args: Any) -> Any:
        with set_xla_metadata(inlineable="true", xla_cpu_small_call="false"):  # for what is called within
            return fn(*args)

    with set_xla_metadata(inlineable="false", xla_cpu_small_call=str(native).lower()):
        return jax.jit(body)(*args)


# Derivatives of an equation that has its own: of the operands that can have one.


def _find_real(eqn: Equation) -> list[bool]:
    return [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.invars]


def real_tangents(eqn: Equation, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    return list(primals), [t for t, is_real in zip(tangents, _find_real(eqn), strict=True) if is_real]


def equation_jvp(eqn: Equation, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Results and their tangents, from the primals and the tangents of the real ones among them."""
    are_real = _find_real(eqn)

    def of_real(*reals: Any) -> Any:
        rest = iter(reals)
        return bind_equation(
            eqn, [next(rest) if is_real else x for x, is_real in zip(primals, are_real, strict=True)]
        )

    return jax.jvp(of_real, [x for x, is_real in zip(primals, are_real, strict=True) if is_real], tangents)


def real_cotangents(eqn: Equation, pullback: Any, cotangents: Sequence[Any]) -> list[Any]:
    slopes = pullback(cotangents)
    return [slope for slope, is_real in zip(slopes, _find_real(eqn), strict=True) if is_real]


def fill_nones(eqn: Equation, slopes: Sequence[Any]) -> tuple[Any, ...]:
    """Cotangents of all operands from those of the real ones."""
    rest = iter(slopes)
    return tuple(next(rest) if is_real else None for is_real in _find_real(eqn))
