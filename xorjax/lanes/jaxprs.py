"""Jaxprs as the interpreters of `lanes` read them, and all differences between JAX's versions.

`jax.extend` is imported only where it is needed, because it imports Pallas.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.experimental.xla_metadata import set_xla_metadata
from jax.typing import ArrayLike

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr
else:
    ClosedJaxpr = object

Params = dict[str, Any]  # the static parameters of an equation

# The names that calls have had in JAX's versions.
INLINED = ("closed_call", "eval_jaxpr", "jit", "pjit")
CHECKPOINTS = ("checkpoint", "remat", "remat2")
HAS_FUSION_EMITTERS_OPTION = jax.__version_info__ < (0, 11)  # of XLA's compiler for CPUs


# What the interpreters use of JAX's own classes, which have no complete types.


@runtime_checkable
class Aval(Protocol):
    """An abstract value: the shape and dtype of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...  # of NumPy, or of random keys
    @property
    def weak_type(self) -> bool: ...


@runtime_checkable
class Variable(Protocol):
    """A variable or a literal of a jaxpr."""

    @property
    def aval(self) -> Any: ...  # an `Aval`, but for tokens and references


@runtime_checkable
class Context(Protocol):
    """The settings that an equation was traced under."""

    @property
    def manager(self) -> AbstractContextManager[None]: ...


@runtime_checkable
class Equation(Protocol):
    """A primitive, its operands and its results."""

    @property
    def primitive(self) -> Any: ...
    @property
    def params(self) -> Params: ...
    @property
    def invars(self) -> Sequence[Variable]: ...
    @property
    def outvars(self) -> Sequence[Variable]: ...
    @property
    def ctx(self) -> Context: ...
    @property
    def effects(self) -> set[object]: ...


@runtime_checkable
class Jaxpr(Protocol):
    """A program: equations from the inputs to the outputs."""

    @property
    def constvars(self) -> Sequence[Variable]: ...
    @property
    def invars(self) -> Sequence[Variable]: ...
    @property
    def eqns(self) -> Sequence[Equation]: ...
    @property
    def outvars(self) -> Sequence[Variable]: ...


AnyJaxpr = ClosedJaxpr | Jaxpr


# Settings.


def platform() -> str:
    """The platform that JAX runs on by default: "cpu", "gpu" or "tpu"."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is None:
        return jax.default_backend()
    return jax.local_devices(backend=chosen)[0].platform if isinstance(chosen, str) else chosen.platform


def trace_context() -> tuple[Hashable, ...]:
    """Everything that tracing a function depends on beside its arguments; part of the keys of trace caches."""
    arithmetic = "enable_x64", "threefry_partitionable", "default_prng_impl"
    promotion = "numpy_dtype_promotion", "numpy_rank_promotion"
    config = tuple(getattr(jax.config, f"jax_{name}") for name in (*arithmetic, *promotion))
    return (*config, platform(), jax.sharding.get_abstract_mesh())


# Reading.


def open_jaxpr(jaxpr: AnyJaxpr) -> tuple[Jaxpr, Sequence[Any]]:
    """Return a jaxpr and its constants. (Newer versions of JAX have one class for open and closed jaxprs.)"""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())  # pyright: ignore[reportReturnType]


def get_avals(variables: Sequence[Variable]) -> list[Any]:
    """Return the abstract values of variables."""
    return [v.aval for v in variables]


def call_jaxpr(params: Params) -> AnyJaxpr:
    """Return the jaxpr of a call, such as `jit`."""
    return params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]


def sub_jaxprs(eqn: Equation) -> list[AnyJaxpr]:
    """Return the jaxprs in the parameters of an equation."""
    values = [v for value in eqn.params.values() for v in (value if isinstance(value, tuple) else [value])]
    return [v for v in values if hasattr(v, "eqns") or hasattr(v, "jaxpr")]


def primitive_names(jaxpr: AnyJaxpr) -> set[str]:
    """Return the names of all primitives in a jaxpr, at every level."""
    names = set()
    for eqn in open_jaxpr(jaxpr)[0].eqns:
        names.add(eqn.primitive.name)
        names.update(*map(primitive_names, sub_jaxprs(eqn)))
    return names


def scan_counts(params: Params) -> tuple[int, int]:
    """Return how many operands of a scan are constants, and how many are its carry."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def is_literal(v: Variable) -> bool:
    """Return True for a literal (`jax.extend.core.Literal`), False for a variable."""
    return hasattr(v, "val")


def literal_value(v: Any) -> np.ndarray:
    """Return the value of a literal."""
    return np.asarray(v.val, v.aval.dtype)


def as_known(x: Any) -> Any:
    """Convert a constant to a NumPy array; return tracers, keys and arrays of objects as they are."""
    if isinstance(x, Tracer) or (isinstance(x, np.ndarray) and x.dtype == object):
        return x
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    return np.asarray(x)


# Running.


def bind_equation(eqn: Equation, arrays: Sequence[Any]) -> Sequence[Any]:
    """Apply the primitive of an equation to arrays, and return the list of its results."""
    params = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = params if isinstance(params, tuple) else ((), params)
    outs = eqn.primitive.bind(*subfuns, *arrays, **params)
    return outs if eqn.primitive.multiple_results else [outs]


def as_function(closed: ClosedJaxpr) -> Callable[..., list[Array]]:
    """Return a closed jaxpr as a function of arrays."""
    from jax.extend.core import jaxpr_as_fun

    return jaxpr_as_fun(closed)


def cast_to_aval(x: Any, aval: Any) -> Any:
    """Give `x` the dtype and the weak type of `aval`, which constant folding may have changed."""
    same = isinstance(x, jax.Array) and jax.typeof(x).weak_type == aval.weak_type
    if same or jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return x
    from jax.extend.core.primitives import convert_element_type_p

    return convert_element_type_p.bind(x, new_dtype=aval.dtype, weak_type=aval.weak_type, sharding=None)


def outlined_call(fn: Callable[..., Any], *args: Any, native: bool = False) -> Any:
    """Call `fn(*args)` in a function that XLA does not inline, so that both sides are compiled separately.

    Args:
      fn: a function of pytrees of arrays.
      args: its arguments.
      native: whether XLA:CPU compiles the whole call to one native function. Such a function must have more than
        one result; with one, XLA:CPU may split it among threads as a part of another operation.
    """

    def body(*args: Any) -> Any:
        with set_xla_metadata(inlineable="true", xla_cpu_small_call="false"):  # for calls within
            return fn(*args)

    with set_xla_metadata(inlineable="false", xla_cpu_small_call=str(native).lower()):
        return jax.jit(body)(*args)


# The derivative of an equation that has a rule of its own. Only floating-point operands have tangents.


def _are_floats(eqn: Equation) -> list[bool]:
    return [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.invars]


def real_tangents(eqn: Equation, primals: Sequence[ArrayLike], tangents: Sequence[ArrayLike]) -> tuple[Any, Any]:
    """Return the primals, and the tangents of the floating-point operands."""
    return list(primals), [t for t, is_float in zip(tangents, _are_floats(eqn), strict=True) if is_float]


def equation_jvp(eqn: Equation, primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Any, Any]:
    """Return the results and their tangents, from all primals and the tangents of the floating-point ones."""
    are_floats = _are_floats(eqn)

    def apply(*floats: Array) -> Sequence[Array]:
        rest = iter(floats)
        operands = [next(rest) if is_float else x for x, is_float in zip(primals, are_floats, strict=True)]
        return bind_equation(eqn, operands)

    return jax.jvp(apply, [x for x, is_float in zip(primals, are_floats, strict=True) if is_float], tangents)


def real_cotangents(eqn: Equation, pullback: Callable[..., Any], cotangents: Sequence[Array]) -> list[Array]:
    """Return the cotangents of the floating-point operands, from those of the results."""
    slopes = pullback(cotangents)
    return [slope for slope, is_float in zip(slopes, _are_floats(eqn), strict=True) if is_float]


def fill_nones(eqn: Equation, slopes: Sequence[Array]) -> tuple[Array | None, ...]:
    """Return cotangents of all operands: those of the floating-point ones, and None for the others."""
    rest = iter(slopes)
    return tuple(next(rest) if is_float else None for is_float in _are_floats(eqn))
