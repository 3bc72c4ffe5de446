"""Networks as pairs of pure functions, `init(key) -> params` and `apply(params, x) -> y`.

The rest of the package takes any such pair, so your own model needs no base class. `mlp` makes the fully
connected network of the tutorials.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Shaped

from xorjax._checks import check_choice, check_integer
from xorjax.networks.tasks import AnyArray

Params = Any  # a pytree of arrays
Function = TypeVar("Function", bound=Callable[..., Array])
Activation = Callable[[Array], Array]
Initializer = Callable[..., Array]  # (key, shape, dtype) -> array, as in jax.nn.initializers


class Dense(NamedTuple):
    """Parameters of one fully connected layer, in the layout of Keras: y = activation(x · kernel + bias).

    Attributes:
      kernel: weights, (n_in, n_out).
      bias: (n_out,).
    """

    kernel: Float[AnyArray, "n_in n_out"]
    bias: Float[AnyArray, " n_out"]


class Model(NamedTuple):
    """A network as two pure functions.

    Attributes:
      init: `init(key) -> params`, a pytree of arrays; the key is a typed one, from `jax.random.key`.
      apply: `apply(params, x) -> y`, from inputs (n, n_in) to outputs (n, n_out).

    >>> line = Model(lambda key: {"slope": jnp.ones(())}, lambda params, x: params["slope"] * jnp.asarray(x))
    >>> float(line.apply(line.init(jax.random.key(0)), [[3.0]])[0, 0])
    3.0
    """

    init: Callable[[PRNGKeyArray], Params]
    apply: Callable[[Params, Shaped[ArrayLike, "n n_in"]], Array]


ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "softplus": jax.nn.softplus,
    "soft_sign": jax.nn.soft_sign,
    "softmax": jax.nn.softmax,
}

INITIALIZERS: dict[str, Initializer] = {
    "zeros": initializers.zeros,
    "ones": initializers.ones,
    "glorot_uniform": initializers.glorot_uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "he_uniform": initializers.he_uniform(),
    "he_normal": initializers.he_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "orthogonal": lambda key, shape, dtype: (  # in float32 or wider: half precision has no QR decomposition
        initializers.orthogonal()(key, shape, dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.float32).astype(
            dtype
        )
    ),
}
BIAS_INITIALIZERS = {name: INITIALIZERS[name] for name in ("zeros", "ones")}


def uniform(scale: ArrayLike) -> Initializer:
    """Return an initialiser that draws from U(−scale, scale); `scale` may be a hyper-parameter.

    Args:
      scale: the largest absolute value, a scalar.

    Returns:
      `initializer(key, shape, dtype) -> array`, like those of `jax.nn.initializers`.

    >>> kernel = mlp((2, 100, 1), kernel_init=uniform(0.5)).init(jax.random.key(0))[0].kernel
    >>> 0.4 < float(jnp.max(jnp.abs(kernel))) <= 0.5
    True
    """
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1.0, 1.0) * jnp.asarray(scale, dtype)


def normal(stddev: ArrayLike) -> Initializer:
    """Return an initialiser that draws from N(0, stddev²); `stddev` may be a hyper-parameter.

    Args:
      stddev: the standard deviation, a scalar.

    Returns:
      `initializer(key, shape, dtype) -> array`, like those of `jax.nn.initializers`.

    >>> kernel = mlp((100, 100, 1), kernel_init=normal(0.5)).init(jax.random.key(0))[0].kernel
    >>> round(float(jnp.std(kernel)), 1)
    0.5
    """
    return lambda key, shape, dtype: jax.random.normal(key, shape, dtype) * jnp.asarray(stddev, dtype)


def mlp(
    layer_sizes: Sequence[int],
    hidden: str | Activation = "sigmoid",
    output: str | Activation = "sigmoid",
    kernel_init: str | Initializer = "glorot_uniform",
    bias_init: str | Initializer = "zeros",
    dtype: DTypeLike | None = None,
) -> Model:
    """Return a fully connected network: h ← activation(h · kernel + bias), layer after layer.

    The defaults are the tutorial's: sigmoid in the hidden layers and at the output, kernels drawn by Glorot's
    uniform rule (Glorot and Bengio 2010) and biases of zero, as in Keras's `Dense`, in float32.

    Args:
      layer_sizes: number of inputs, of units in each hidden layer, and of outputs: (2, 2, 1) is the XOR network.
      hidden: activation of the hidden layers, default "sigmoid": a name (a key of `ACTIVATIONS`) or a function of
        an array. "gelu" is the exact one (Keras's default, not JAX's).
      output: activation of the last layer, default "sigmoid"; "linear" for logits.
      kernel_init: initialiser of the kernels, default "glorot_uniform": a name (a key of `INITIALIZERS`) or a
        function of key, shape and dtype, such as those of `jax.nn.initializers`, `uniform(scale)` and
        `normal(stddev)`.
      bias_init: initialiser of the biases, default "zeros": "zeros", "ones", or such a function.
      dtype: float dtype of the parameters, and so of all arithmetic; None is JAX's default (float32, or
        float64 where x64 is enabled).

    Returns:
      A model whose params are a tuple of `Dense`. Inputs are converted to the params' dtype.

    Raises:
      TypeError, ValueError: for layer sizes that are not at least two positive integers, an unknown
        name, or a dtype that is not a real float.

    >>> params = mlp((2, 2, 1)).init(jax.random.key(7))
    >>> jax.tree.map(jnp.shape, params)
    (Dense(kernel=(2, 2), bias=(2,)), Dense(kernel=(2, 1), bias=(1,)))
    """
    if isinstance(layer_sizes, str) or not isinstance(layer_sizes, Sequence) or len(layer_sizes) < 2:
        raise ValueError(f"{layer_sizes=} must be a sequence of at least two sizes, from inputs to outputs.")
    sizes = [check_integer(f"layer_sizes[{i}]", size, 1, 2**24) for i, size in enumerate(layer_sizes)]
    activate_hidden = _find_function("hidden", hidden, ACTIVATIONS)
    activate_output = _find_function("output", output, ACTIVATIONS)
    init_kernel = _find_function("kernel_init", kernel_init, INITIALIZERS)
    init_bias = _find_function("bias_init", bias_init, BIAS_INITIALIZERS)
    if dtype is not None:
        try:
            dtype = jnp.dtype(dtype)
        except TypeError:
            raise TypeError(f"{dtype=} must be a dtype or its name, such as float32.") from None
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"dtype={dtype.name!r} must be a real floating-point type, such as float32.")

    def init(key: PRNGKeyArray) -> tuple[Dense, ...]:
        float_dtype = jnp.result_type(float) if dtype is None else dtype
        if float_dtype.itemsize > 4 and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                f"dtype={float_dtype.name!r} needs 64-bit JAX: jax.config.update('jax_enable_x64', True)."
            )
        layers = []
        for key_layer, n_in, n_out in zip(
            jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True
        ):
            key_kernel, key_bias = jax.random.split(key_layer)
            kernel = init_kernel(key_kernel, (n_in, n_out), float_dtype)
            layers.append(Dense(kernel, init_bias(key_bias, (n_out,), float_dtype)))
        return tuple(layers)

    def apply(params: Sequence[Dense], x: Shaped[ArrayLike, "*rows n_in"]) -> Float[Array, "*rows n_out"]:
        h = jnp.asarray(x, params[0].kernel.dtype)
        if h.shape[-1:] != (sizes[0],):
            raise ValueError(f"x has shape {h.shape}; its last axis must be {sizes[0]}, as in {layer_sizes=}.")
        for layer in params[:-1]:
            h = activate_hidden(_affine(layer, h))
        return activate_output(_affine(params[-1], h))

    return Model(init, apply)


def summary(params: Sequence[Dense]) -> str:
    """Return the table that Keras's `model.summary()` prints: layers, output shapes, numbers of parameters.

    Args:
      params: a tuple of `Dense`, as `mlp(...).init(key)` returns it.

    Returns:
      The table, of several lines.

    Raises:
      TypeError, ValueError: if the params are not those of one `mlp`, for example those of many members.

    >>> print(summary(mlp((2, 2, 1)).init(jax.random.key(0))).splitlines()[-3])
     Total params: 9 (36.00 B)
    """
    check_layers(params)
    rows = [("Layer (type)", "Output Shape", "Param #")]
    for i, layer in enumerate(params):
        name = f"dense_{i}" if i else "dense"
        rows.append((f"{name} (Dense)", f"(None, {layer.bias.shape[-1]})", f"{_size(layer):,}"))
    widths = [
        max(least, *map(len, column)) for least, column in zip((31, 22, 13), zip(*rows, strict=True), strict=True)
    ]

    def line(left: str, middle: str, right: str, cells: Iterable[str]) -> str:
        return left + middle.join(cells) + right

    def cells(row: tuple[str, str, str]) -> list[str]:
        return [f" {row[0]:<{widths[0]}} ", f" {row[1]:<{widths[1]}} ", f" {row[2]:>{widths[2]}} "]

    def rule(left: str, middle: str, right: str, dash: str) -> str:
        return line(left, middle, right, [dash * (width + 2) for width in widths])

    body = f"\n{rule('├', '┼', '┤', '─')}\n".join(line("│", "│", "│", cells(row)) for row in rows[1:])
    total = sum(_size(layer) for layer in params)
    n_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    size = f"{total:,} ({_format_bytes(n_bytes)})"
    head = [rule("┏", "┳", "┓", "━"), line("┃", "┃", "┃", cells(rows[0])), rule("┡", "╇", "┩", "━")]
    foot = [rule("└", "┴", "┘", "─"), f" Total params: {size}", f" Trainable params: {size}"]
    return "\n".join([*head, body, *foot, " Non-trainable params: 0 (0.00 B)"])


def check_layers(params: Params) -> None:
    """Check that params are those of one network of `Dense` layers.

    Args:
      params: a sequence of `Dense`, each with a kernel of two axes and a bias of one.
    """
    if not isinstance(params, Sequence) or not all(isinstance(layer, Dense) for layer in params):
        raise TypeError(f"params must be a sequence of Dense(kernel, bias), got {type(params).__name__}.")
    for i, (kernel, bias) in enumerate(params):
        if (np.ndim(kernel), np.ndim(bias)) != (2, 1):
            raise ValueError(
                f"params[{i}] must have a kernel of two axes and a bias of one axis, as one network has; "
                f"it has shapes {np.shape(kernel)} and {np.shape(bias)}."
            )


def _affine(layer: Dense, h: Array) -> Array:
    product = h @ layer.kernel
    return product + jnp.broadcast_to(layer.bias, product.shape)


def _size(layer: Dense) -> int:
    return int(np.prod(layer.kernel.shape) + np.prod(layer.bias.shape))


def _format_bytes(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"


def _find_function(argument: str, value: str | Function, choices: dict[str, Function]) -> Function:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{argument}={value!r} must be a name or a function.")
    return check_choice(argument, value, choices)
