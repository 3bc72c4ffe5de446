"""Small programs made of random operations on random small arrays, for tests of program transformations.

All numbers are whole and small, so that every operation is exact: a transformed program must give the same
numbers, not nearly the same, and no comparison or index can tip over by a rounding. `smooth` programs are made of
functions with a slope everywhere instead, for gradients and for bits.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

DTYPES = {"float": np.dtype(np.float32), "int": np.dtype(np.int32), "bool": np.dtype(bool)}
LARGEST = 8.0
MAX_SIZE = 48


class Input(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    role: str  # "mapped", "shared" by the members, or "constant" in the program

    def drawn(self, rng: np.random.Generator, members: int, smooth: bool) -> Any:
        shape = (members, *self.shape) if self.role == "mapped" else self.shape
        if self.dtype == bool:
            return rng.integers(0, 2, shape).astype(bool)
        if self.dtype == np.int32:
            return rng.integers(-4, 5, shape).astype(np.int32)
        if smooth:
            return rng.uniform(-1.5, 1.5, shape).astype(np.float32)
        return rng.choice(
            np.array([-3, -2, -1, -0.0, 0, 1, 2, 5, np.inf, np.nan], np.float32), shape, p=[0.12] * 8 + [0.02] * 2
        )


class Step(NamedTuple):
    text: str
    operation: Callable[..., Any]
    operands: tuple[int, ...]


class Program(NamedTuple):
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]  # of which values
    values: int  # the seed of the numbers in its inputs
    smooth: bool

    def drawn(self, members: int) -> list[Any]:
        rng = np.random.default_rng(self.values)
        return [i.drawn(rng, members, self.smooth) for i in self.inputs]

    def function(self) -> Callable[..., Any]:
        """Of the inputs that are not constants, for one member."""
        constants = iter([x for x, i in zip(self.drawn(1), self.inputs, strict=True) if i.role == "constant"])
        known = [next(constants) if i.role == "constant" else None for i in self.inputs]

        def fn(*args: Any) -> Any:
            given = iter(args)
            return run(self.steps, [next(given) if x is None else jnp.asarray(x) for x in known], self.results)

        return fn

    def arguments(self, members: int) -> list[Any]:
        return [
            jnp.asarray(x) for x, i in zip(self.drawn(members), self.inputs, strict=True) if i.role != "constant"
        ]

    @property
    def in_axes(self) -> tuple[int | None, ...]:
        return tuple(0 if i.role == "mapped" else None for i in self.inputs if i.role != "constant")

    def __repr__(self) -> str:
        lines = [f"v{n} = {i.role} {i.dtype}{list(i.shape)}" for n, i in enumerate(self.inputs)]
        lines += [
            f"v{n} = {s.text} {' '.join(f'v{i}' for i in s.operands)}"
            for n, s in enumerate(self.steps, len(self.inputs))
        ]
        return "\n".join(["", *lines, f"-> {self.results}, values={self.values}"])


def run(steps: Sequence[Step], values: Sequence[Any], results: Sequence[int]) -> tuple[Any, ...]:
    values = list(values)
    for step in steps:
        values.append(step.operation(*(values[i] for i in step.operands)))
    return tuple(values[i] for i in results)


class Values:
    """What a program has so far, of which operations are drawn."""

    def __init__(self, draw: Any, avals: Sequence[Any], smooth: bool, depth: int = 0):
        self.draw, self.avals, self.smooth, self.depth = draw, list(avals), smooth, depth
        self.steps: list[Step] = []

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def any(self, kinds: str = "float int bool", where: Callable[[Any], bool] = lambda aval: True) -> int:
        """The number of a value, later ones more often."""
        dtypes = [DTYPES[kind] for kind in kinds.split()]
        fitting = [i for i, aval in enumerate(self.avals) if aval.dtype in dtypes and where(aval)]
        if not fitting:
            raise LookupError
        return fitting[-1 - min(self.number(0, len(fitting) - 1), self.number(0, len(fitting) - 1))]

    def like(self, i: int, where: Callable[[Any], bool] = lambda aval: True) -> int:
        dtype = self.avals[i].dtype
        kind = next(kind for kind, d in DTYPES.items() if d == dtype)
        return self.any(kind, where)

    def axis(self, i: int, where: Callable[[int], bool] = lambda size: True) -> int:
        fitting = [axis for axis, size in enumerate(self.avals[i].shape) if where(size)]
        if not fitting:
            raise LookupError
        return self.of(*fitting)

    def axes(self, i: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(len(self.avals[i].shape)) if self.of(True, False))

    def add(self, text: str, operation: Callable[..., Any], *operands: int) -> None:
        def bounded(*args: Any) -> Any:
            out = operation(*args)
            if out.dtype != np.float32:
                return out
            return jnp.tanh(out) if self.smooth else jnp.clip(out, -LARGEST, LARGEST)

        used = bounded if text.split()[0] in GROWING else operation
        aval = jax.eval_shape(used, *(self.avals[i] for i in operands))
        if aval.size > MAX_SIZE or aval.ndim > 3:
            raise LookupError
        self.avals.append(aval)
        self.steps.append(Step(text, used, operands))

    def inner(self, avals: Sequence[Any]) -> "Values":
        return Values(self.draw, avals, self.smooth, self.depth + 1)

    def filled(self, least: int, most: int) -> "Values":
        kinds = SMOOTH if self.smooth else EXACT
        kinds = [kind for kind in kinds if self.depth < 2 or kind not in CONTROL]
        for _ in range(self.number(least, most)):
            try:
                self.of(*kinds)(self)
            except LookupError:
                continue
        return self

    def last_like(self, aval: Any) -> int:
        return [i for i, a in enumerate(self.avals) if (a.shape, a.dtype) == (aval.shape, aval.dtype)][-1]


GROWING = frozenset("add sub mul square matmul sum prod cumsum cumprod window conv scatter-add grad".split())


def unary(v: Values) -> None:
    i = v.any()
    kind = v.avals[i].dtype.kind
    if v.smooth and kind == "f":
        name = v.of("sin", "tanh", "square", "neg", "sigmoid", "softplus", "exp", "softmax", "norm", "half")
    else:
        name = v.of(
            *{
                "f": "neg abs sign halved relu square whole finite round number clip".split(),
                "i": "neg abs sign not halved remainder float positive ones shift square bytes".split(),
                "b": "not float whole".split(),
            }[kind]
        )
    v.add(name, UNARY[name], i)


UNARY: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "halved": lambda x: x // jnp.asarray(2, x.dtype),
    "relu": jax.nn.relu,
    "square": jnp.square,
    "whole": lambda x: x.astype(np.int32),
    "finite": jnp.isfinite,
    "round": jnp.round,
    "number": lambda x: jnp.nan_to_num(x, posinf=3.0, neginf=-3.0),
    "clip": lambda x: jnp.clip(x, -1, 2),
    "not": lambda x: ~x,
    "remainder": lambda x: x % 3,
    "float": lambda x: jnp.clip(x.astype(np.float32), -LARGEST, LARGEST),
    "positive": lambda x: x > 0,
    "ones": lax.population_count,
    "shift": lambda x: (x << 1) ^ (x >> 1),
    "bytes": lambda x: lax.bitcast_convert_type(x, np.uint8)[..., 0].astype(np.int32),
    "sin": jnp.sin,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "exp": lambda x: jnp.exp(-jnp.square(x)),
    "softmax": lambda x: jax.nn.softmax(jnp.ravel(x)).reshape(x.shape) if x.size else x,
    "norm": lambda x: x * lax.rsqrt(jnp.sum(x * x) + 1),
    "half": lambda x: x / 2,
}


def fits(shape: Sequence[int], other: Any) -> bool:
    try:
        return len(np.broadcast_shapes(shape, other.shape)) <= 3
    except ValueError:
        return False


def binary(v: Values) -> None:
    i = v.any()
    j = v.like(i, partial(fits, v.avals[i].shape))
    kind = v.avals[i].dtype.kind
    names = {
        "f": "add sub mul" if v.smooth else "add sub mul max min lt le eq ne floordiv mod",
        "i": "add sub mul max min lt ge eq ne floordiv mod and or xor rem",
        "b": "and or xor eq",
    }
    name = v.of(*names[kind].split())
    v.add(name, BINARY[name], i, j)


def not_zero(divisor: Any) -> Any:
    """Some versions of XLA abort the process when they fold a division of whole constants by zero."""
    return jnp.where(divisor == 0, jnp.asarray(3, divisor.dtype), divisor)


BINARY: dict[str, Callable[..., Any]] = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "ge": jnp.greater_equal,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "floordiv": lambda x, y: x // not_zero(y),
    "mod": lambda x, y: x % not_zero(y),
    "rem": lambda x, y: lax.rem(*jnp.broadcast_arrays(x, not_zero(y))),
    "and": jnp.bitwise_and,
    "or": jnp.bitwise_or,
    "xor": jnp.bitwise_xor,
}


def where(v: Values) -> None:
    c = v.any("bool")
    i = v.any(where=partial(fits, v.avals[c].shape))
    shape = np.broadcast_shapes(v.avals[c].shape, v.avals[i].shape)
    v.add("where", jnp.where, c, i, v.like(i, partial(fits, shape)))


def reduction(v: Values) -> None:
    i = v.any()
    axes, keep = v.axes(i), v.of(True, False)
    kind, shape = v.avals[i].dtype.kind, v.avals[i].shape
    name = v.of(*("any all" if kind == "b" else "sum" if v.smooth else "sum prod max min").split())
    if name in ("max", "min") and not prod(shape[axis] for axis in axes):
        raise LookupError

    def reduced(x: Any) -> Any:
        x = jnp.clip(x, -1, 2) if name == "prod" else x
        return getattr(jnp, name)(x, axis=axes, keepdims=keep)

    v.add(f"{name} over {axes}", reduced, i)


def which(v: Values) -> None:
    i = v.any("float int bool", lambda aval: aval.size > 0)
    axis = v.of(None, *range(len(v.avals[i].shape)))
    name = v.of("argmax", "argmin")
    v.add(f"{name} along {axis}", partial(getattr(jnp, name), axis=axis), i)


def matmul(v: Values) -> None:
    i = v.any("float int bool")
    j = v.like(i)
    a, b = v.avals[i].shape, v.avals[j].shape
    contract, batch, free_b = [], [], list(range(len(b)))
    for axis, size in enumerate(a):
        pairs = [other for other in free_b if b[other] == size]
        use = v.of("free", "contract", "batch")
        if use != "free" and pairs:
            other = v.of(*pairs)
            free_b.remove(other)
            (contract if use == "contract" else batch).append((axis, other))
    of_a, of_b = ([[pair[n] for pair in pairs] for pairs in (contract, batch)] for n in (0, 1))
    numbers = ((of_a[0], of_b[0]), (of_a[1], of_b[1]))
    v.add(f"matmul {numbers}", lambda x, y: lax.dot_general(x, y, numbers), i, j)


def cut(v: Values) -> None:
    i = v.any()
    index = []
    for size in v.avals[i].shape:
        start = v.number(0, size)
        index.append(slice(start, v.number(start, size), v.of(1, 1, 2, 3)))
    v.add(f"slice {index}", lambda x: x[tuple(index)], i)


def padding(v: Values) -> None:
    i = v.any()
    config = []
    for size in v.avals[i].shape:
        inner = v.number(0, 2)
        full = size + max(size - 1, 0) * inner
        low = v.number(-min(full, 2), 2)
        config.append((low, v.number(max(-full - low, -2), 2), inner))
    by = v.like(i, lambda aval: aval.shape == ()) if not v.smooth and v.of(True, False) else None
    if by is None:
        v.add(f"pad {config}", lambda x: lax.pad(x, jnp.ones((), x.dtype), config), i)
    else:
        v.add(f"pad {config}", lambda x, y: lax.pad(x, y, config), i, by)


def rearrange(v: Values) -> None:
    i = v.any()
    shape = v.avals[i].shape
    name = v.of("transpose", "flatten", "rows", "columns", "flip", "roll", "expand", "squeeze", "copy", "lower")
    axes = v.axes(i)
    order = v.draw(st.permutations(range(len(shape))))
    last = v.of(*[n for n in range(1, 5) if prod(shape) % n == 0])
    operation: dict[str, Callable[..., Any]] = {
        "transpose": lambda x: jnp.transpose(x, order),
        "flatten": jnp.ravel,
        "rows": lambda x: x.reshape(last, prod(shape) // last),
        "columns": lambda x: x.reshape(prod(shape) // last, last).T,
        "flip": lambda x: jnp.flip(x, axes),
        "roll": lambda x: jnp.roll(x, 1, axes) if axes and x.size else x,
        "expand": lambda x: x[..., None] if last > 1 else x[None],
        "squeeze": jnp.squeeze,
        "copy": lambda x: jnp.array(x, copy=True),
        "lower": lambda x: jnp.tril(x) if x.ndim > 1 else x,
    }
    v.add(f"{name} {axes} {order} {last}", operation[name], i)


def repeat(v: Values) -> None:
    i = v.any()
    shape = v.avals[i].shape
    if v.of(True, False):
        n = v.number(0, 3)
        v.add(f"broadcast {n}", lambda x: jnp.broadcast_to(x, (n, *shape)), i)
    else:
        axis = v.axis(i)
        v.add(f"repeat {axis}", lambda x: jnp.repeat(x, 2, axis), i)


def join(v: Values) -> None:
    i = v.any()
    if v.of(True, False):
        j = v.like(i, lambda aval: aval.shape == v.avals[i].shape)
        axis = v.number(0, len(v.avals[i].shape))
        v.add(f"stack {axis}", lambda x, y: jnp.stack([x, y], axis), i, j)
        return
    axis = v.axis(i)

    def others(aval: Any) -> tuple[int, ...]:
        return tuple(size for a, size in enumerate(aval.shape) if a != axis)

    j = v.like(i, lambda aval: aval.ndim == len(v.avals[i].shape) and others(aval) == others(v.avals[i]))
    v.add(f"concatenate {axis}", lambda x, y: jnp.concatenate([x, y], axis), i, j)


def fixed_index(v: Values) -> None:
    i = v.any()
    axis = v.axis(i, lambda size: size > 0)
    size = v.avals[i].shape[axis]
    indices = np.array(v.draw(st.lists(st.integers(-size, size - 1), min_size=0, max_size=3)), np.int32)
    if v.of(True, False) or not len(indices):
        v.add(f"take {indices} along {axis}", lambda x: jnp.take(x, indices, axis), i)
    else:
        v.add(f"take {indices[0]} along {axis}", lambda x: jnp.moveaxis(x, axis, 0)[int(indices[0])], i)


def computed_index(v: Values) -> None:
    i = v.any()
    axis = v.axis(i, lambda size: size > 0)
    j = v.any("int", lambda aval: aval.ndim < 3)
    mode = v.of("fill", "clip", "wrap")
    v.add(f"take {mode} along {axis}", lambda x, k: jnp.take(x, k, axis, mode=mode), i, j)


def window(v: Values) -> None:
    i = v.any(where=lambda aval: aval.ndim > 0)
    shape = v.avals[i].shape
    sizes = tuple(v.number(0, size) for size in shape)
    which = v.any("int", lambda aval: aval.shape == ())
    at = v.number(0, len(shape) - 1)
    fixed = [v.number(-1, 3) for _ in shape]

    def start(k: Any) -> list[Any]:
        return [k if a == at else np.int32(f) for a, f in enumerate(fixed)]

    if v.of(True, False):
        v.add(
            f"dynamic_slice {sizes} {fixed} at {at}", lambda x, k: lax.dynamic_slice(x, start(k), sizes), i, which
        )
        return
    j = v.like(i, lambda a: a.ndim == len(shape) and all(n <= m for n, m in zip(a.shape, shape, strict=True)))
    v.add(
        f"dynamic_update_slice {fixed} at {at}",
        lambda x, y, k: lax.dynamic_update_slice(x, y, start(k)),
        i,
        j,
        which,
    )


def scatter(v: Values) -> None:
    i = v.any("float int", lambda aval: aval.ndim > 0)
    j = v.any("int", lambda aval: aval.ndim < 2)
    name = v.of("set", "add", "max") if v.avals[j].ndim == 0 else v.of("add", "min")
    if v.smooth:
        name = "add"
    v.add(f"scatter-add {name}", lambda x, k: getattr(x.at[k], name)(jnp.asarray(2, x.dtype)), i, j)


def cumulative(v: Values) -> None:
    i = v.any("float int")
    axis, reverse = v.axis(i), v.of(True, False)
    name = v.of(*("cumsum" if v.smooth else "cumsum cumprod cummax cummin").split())

    def along(x: Any) -> Any:
        return getattr(lax, name)(jnp.clip(x, -1, 2) if name == "cumprod" else x, axis, reverse)

    v.add(f"{name} {axis} {reverse}", along, i)


def order(v: Values) -> None:
    i = v.any()
    axis = v.axis(i)
    name = v.of("sort", "argsort", "descending", "pairs", "top")
    if name == "pairs":
        j = v.any(where=lambda aval: aval.shape == v.avals[i].shape)
        keys = v.number(1, 2)
        v.add(f"sort pairs {axis} {keys}", lambda x, y: lax.sort((x, y), axis, num_keys=keys)[1], i, j)
        return
    operation: dict[str, Callable[..., Any]] = {
        "sort": lambda x: jnp.sort(x, axis),
        "argsort": lambda x: jnp.argsort(x, axis),
        "descending": lambda x: jnp.argsort(x, axis, descending=True),
        "top": lambda x: lax.top_k(x.astype(np.int32), min(2, x.shape[-1]))[1],
    }
    v.add(f"{name} {axis}", operation[name], i)


def finite(x: Any) -> Any:
    return jnp.where(jnp.isfinite(x), x, x.dtype.type(1))


def convolution(v: Values) -> None:
    i = v.any("float", lambda aval: aval.ndim == 1 and aval.size > 0)
    j = v.any("float", lambda aval: aval.ndim == 1 and aval.size > 0)
    mode = v.of("full", "same")
    # XLA's own convolutions differ in whether their padding meets what is not finite.
    v.add(f"conv {mode}", lambda x, y: jnp.convolve(finite(x), finite(y), mode), i, j)


def looped(v: Values) -> None:
    """A loop over a pair: any two values, the results of random operations in its body."""
    i, j = v.any(), v.any()
    k = v.any()
    shape = v.avals[k].shape
    kind = v.of("fori", *([] if v.smooth else ["while"]), *(["scan", "map"] if shape else []))
    first = jax.ShapeDtypeStruct((), np.int32)
    if kind in ("scan", "map"):
        first = jax.ShapeDtypeStruct(shape[1:], v.avals[k].dtype)
    body = v.inner([first, v.avals[j], v.avals[i]]).filled(1, 4)
    new, out = body.last_like(v.avals[i]), v.number(0, len(body.avals) - 1)
    steps = body.steps
    text = f"{kind} [{'; '.join(f'{s.text} {s.operands}' for s in steps)}] -> {new} {out}"

    def step(x: Any, const: Any, carry: Any) -> tuple[Any, Any]:
        return run(steps, [x, const, carry], [new, out])  # pyright: ignore[reportReturnType]

    if kind == "fori":
        n = None if v.smooth or v.of(True, False) else v.any("int", lambda aval: aval.shape == ())
        if n is None:
            v.add(text, lambda x, y: lax.fori_loop(0, 3, lambda t, c: step(t, y, c)[0], x), i, j)
        else:
            v.add(text, lambda x, y, n: lax.fori_loop(0, n % 4, lambda t, c: step(t, y, c)[0], x), i, j, n)
    elif kind == "while":

        def going(c: Any) -> Any:
            return (c[0] < 3) & (jnp.sum(c[1].astype(np.int32)) < 5)

        v.add(
            text,
            lambda x, y: lax.while_loop(going, lambda c: (c[0] + 1, step(c[0], y, c[1])[0]), (jnp.int32(0), x))[1],
            i,
            j,
        )
    elif kind == "scan":
        which, reverse = v.of(0, 1), v.of(True, False)
        v.add(
            f"{text} {which} {reverse}",
            lambda x, y, xs: lax.scan(lambda c, t: step(t, y, c), x, xs, reverse=reverse)[which],
            i,
            j,
            k,
        )
    else:
        v.add(f"v{text}", lambda x, y, xs: jax.vmap(lambda t: step(t, y, x)[1])(xs), i, j, k)


def branch(v: Values) -> None:
    i, j = v.any(), v.any()
    bodies = [v.inner([v.avals[j], v.avals[i]]).filled(0, 3) for _ in range(v.number(2, 3))]
    text = " | ".join("; ".join(f"{s.text} {s.operands}" for s in b.steps) for b in bodies)
    lasts = [body.last_like(v.avals[i]) for body in bodies]
    taken = [
        lambda x, y, body=body, last=last: run(body.steps, [y, x], [last])[0]
        for body, last in zip(bodies, lasts, strict=True)
    ]
    index = v.any("int bool", lambda aval: aval.shape == ())
    v.add(f"switch [{text}]", lambda n, x, y: lax.switch(n.astype(np.int32), taken, x, y), index, i, j)


def called(v: Values) -> None:
    i, j = v.any(), v.any()
    body = v.inner([v.avals[i], v.avals[j]]).filled(1, 4)
    out = len(body.avals) - 1
    kind = v.of("jit", "checkpoint", "grad")
    text = "; ".join(f"{s.text} {s.operands}" for s in body.steps)

    def fn(x: Any, y: Any) -> Any:
        return run(body.steps, [x, y], [out])[0]

    if kind == "grad" and v.avals[i].dtype == np.float32 and body.avals[out].dtype == np.float32:
        v.add(f"grad [{text}]", lambda x, y: jax.grad(lambda x: jnp.sum(fn(x, y)))(x), i, j)
    else:
        v.add(f"{kind} [{text}]", jax.checkpoint(fn) if kind == "checkpoint" else jax.jit(fn), i, j)


CONTROL = [looped, branch, called]
ANYWHERE = [unary, unary, binary, binary, where, reduction, matmul, matmul, cut, padding, rearrange, rearrange]
ANYWHERE += [repeat, join, fixed_index, computed_index, window, scatter, cumulative, convolution, *CONTROL]
EXACT = [*ANYWHERE, which, order]
SMOOTH = ANYWHERE


@st.composite
def programs(draw: Any, smooth: bool = False) -> Program:
    shapes = st.lists(st.integers(0, 4), max_size=3).filter(lambda shape: prod(shape) <= MAX_SIZE)
    nonempty = st.lists(st.integers(1, 4), max_size=3).filter(lambda shape: prod(shape) <= MAX_SIZE)
    roles = st.sampled_from(["mapped", "mapped", "mapped", "shared", "constant"])
    inputs = [Input((), DTYPES["int"], "mapped"), Input((), DTYPES["bool"], draw(roles))]
    for kind in ("float", "float", *draw(st.lists(st.sampled_from(list(DTYPES)), max_size=3))):
        shape = draw(shapes if draw(st.booleans()) else nonempty)
        inputs.append(Input(tuple(shape), DTYPES[kind], draw(roles)))
    values = Values(draw, [jax.ShapeDtypeStruct(i.shape, i.dtype) for i in inputs], smooth).filled(3, 10)
    used = {i for step in values.steps for i in step.operands}
    results = tuple(i for i in range(len(inputs), len(values.avals)) if i not in used)
    return Program(tuple(inputs), tuple(values.steps), results, draw(st.integers(0, 2**16)), smooth)
