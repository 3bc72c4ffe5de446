"""Jaxprs as the interpreters of `lanes` read them, and all differences between JAX's versions.

The protocols stand for JAX's own classes, which have no complete types. `jax.extend` is imported only where it is
needed, because it imports Pallas.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.experimental.xla_metadata import set_xla_metadata

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr
else:
    ClosedJaxpr = object

Params = dict[str, Any]  # the static parameters of an equation

# The names that calls have had in JAX's versions.
INLINED = ("closed_call", "eval_jaxpr", "jit", "pjit")
CHECKPOINTS = ("checkpoint", "remat", "remat2")
HAS_FUSION_EMITTERS_OPTION = jax.__version_info__ < (0, 11)  # of XLA's compiler for CPUs


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

    aval: Any  # an `Aval`, but for tokens and references


@runtime_checkable
class Equation(Protocol):
    """A primitive, its operands and its results."""

    primitive: Any
    params: Params
    invars: Sequence[Variable]
    outvars: Sequence[Variable]
    ctx: Any  # `ctx.manager` restores the settings that the equation was traced under
    effects: set[object]


@runtime_checkable
class Jaxpr(Protocol):
    """A program: equations from the inputs to the outputs."""

    constvars: Sequence[Variable]
    invars: Sequence[Variable]
    eqns: Sequence[Equation]
    outvars: Sequence[Variable]


AnyJaxpr = ClosedJaxpr | Jaxpr


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


def iter_equations(jaxpr: AnyJaxpr) -> Iterator[Equation]:
    """Yield the equations of a jaxpr, each after those of its inner jaxprs."""
    for eqn in open_jaxpr(jaxpr)[0].eqns:
        for inner in sub_jaxprs(eqn):
            yield from iter_equations(inner)
        yield eqn


def primitive_names(jaxpr: AnyJaxpr) -> set[str]:
    """Return the names of all primitives in a jaxpr, at every level."""
    return {eqn.primitive.name for eqn in iter_equations(jaxpr)}


def scan_counts(params: Params) -> tuple[int, int]:
    """Return how many operands of a scan are constants, and how many are its carry."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def is_literal(v: Variable) -> bool:
    """Return True for a literal (`jax.extend.core.Literal`), False for a variable."""
    return hasattr(v, "val")


def as_known(x: Any) -> Any:
    """Convert a constant to a NumPy array; return tracers, keys and arrays of objects as they are."""
    are_objects = isinstance(x, np.ndarray) and x.dtype == object
    if isinstance(x, Tracer) or are_objects or jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    return np.asarray(x)


def replace_where(flags: Sequence[bool], news: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """Return `values`, with those whose flag is True replaced by `news`, in order."""
    rest = iter(news)
    return [next(rest) if flag else value for value, flag in zip(values, flags, strict=True)]


def bind_equation(eqn: Equation, arrays: Sequence[Any]) -> Sequence[Any]:
    """Apply the primitive of an equation to arrays, and return the list of its results."""
    params = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = params if isinstance(params, tuple) else ((), params)
    outs = eqn.primitive.bind(*subfuns, *arrays, **params)
    return outs if eqn.primitive.multiple_results else [outs]


def evaluate_jaxpr(
    jaxpr: AnyJaxpr, inputs: Sequence[Any], run: Callable[[Equation, list[Any]], Sequence[Any]]
) -> list[Any]:
    """Return the outputs of a jaxpr, from its constants and arguments; `run` evaluates an equation."""
    jaxpr, _ = open_jaxpr(jaxpr)
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def read(v: Any) -> Any:
        return np.asarray(v.val, v.aval.dtype) if is_literal(v) else values[v]

    for eqn in jaxpr.eqns:
        with eqn.ctx.manager:
            outs = run(eqn, list(map(read, eqn.invars)))
        values.update(zip(eqn.outvars, outs, strict=True))
    return list(map(read, jaxpr.outvars))


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
