"""Weights to and from Keras, whose layout (kernels `(n_in, n_out)`, layer after layer) is ours. Needs no Keras."""

import io
import re
import zipfile
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import jax.numpy as jnp
import numpy as np

from xorjax.models import Dense


def params_from_keras(weights: Sequence[Any] | str | PathLike[str]) -> tuple[Dense, ...]:
    """The params of `mlp` from the weights of a Keras model that is a chain of `Dense` layers.

    Args:
      weights: what `model.get_weights()` gives, [kernel, bias, kernel, bias, …], or the path of a file that
        `model.save("….keras")` or `model.save_weights("….weights.h5")` of Keras 3 made (read with h5py).

    Raises:
      ValueError: if these are not kernels and biases of layers that follow one another, or the file is not
        such a file.
      FileNotFoundError: if there is no such file.
      ModuleNotFoundError: for a file, without h5py.
    """
    arrays = _read(fspath(weights)) if isinstance(weights, str | PathLike) else list(weights)
    arrays = [np.asarray(array) for array in arrays]
    if not arrays or len(arrays) % 2:
        raise ValueError(
            f"weights must be kernel, bias, kernel, bias, … of Dense layers, got {len(arrays)} arrays."
        )
    layers: list[Dense] = [Dense(kernel, bias) for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True)]
    width = layers[0].kernel.shape[0] if layers[0].kernel.ndim else 0
    for i, (kernel, bias) in enumerate(layers):
        if kernel.ndim != 2 or kernel.shape[0] != width or bias.shape != kernel.shape[1:]:
            raise ValueError(
                f"weights of layer {i} must be a kernel ({width}, n_out) and a bias (n_out,), "
                f"got shapes {kernel.shape} and {bias.shape}."
            )
        if not jnp.issubdtype(kernel.dtype, jnp.floating) or not jnp.issubdtype(bias.dtype, jnp.floating):
            raise ValueError(f"weights of layer {i} must be real floats, got {kernel.dtype} and {bias.dtype}.")
        width = kernel.shape[1]
    return tuple(Dense(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in layers)


def params_to_keras(params: Sequence[Dense]) -> list[np.ndarray]:
    """The list that Keras's `model.set_weights` takes: kernel, bias, kernel, bias, …

    Raises:
      TypeError: if the params are not a sequence of `Dense`.
    """
    if not isinstance(params, Sequence) or not all(isinstance(layer, Dense) for layer in params):
        raise TypeError(f"params must be a sequence of Dense(kernel, bias), got {type(params).__name__}.")
    return [np.asarray(leaf) for layer in params for leaf in layer]


def _read(path: str) -> list[np.ndarray]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Keras files are read with h5py: pip install 'xorjax[keras]'.") from error

    with open(path, "rb") as file:
        content = io.BytesIO(file.read())
    try:
        if zipfile.is_zipfile(content):
            with zipfile.ZipFile(content) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as h5:
            layers: Any = h5["layers"]  # h5py's types don't tell groups from arrays
            with_weights = [name for name in layers if len(layers[name].get("vars", ()))]
            variables = [layers[name]["vars"] for name in sorted(with_weights, key=_place_of_layer)]
            return [group[str(i)][()] for group in variables for i in range(len(group))]
    except (KeyError, OSError, zipfile.BadZipFile, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"weights={path!r} is not a .keras or .weights.h5 file of Keras 3: {error}") from error


def _place_of_layer(name: str) -> int:
    """Keras numbers the layers of a kind in their order: dense, dense_1, …, dense_10."""
    match = re.fullmatch(r"dense(?:_(\d+))?", name)
    if match is None:
        raise ValueError(f"layer {name!r} has weights and is not Dense")
    return int(match[1] or 0)
