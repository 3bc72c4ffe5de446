"""Weights from and to Keras, in the same layout: kernels (n_in, n_out), layer after layer. Keras is not needed."""

import io
import re
import zipfile
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from xorjax._checks import check_real_array
from xorjax.networks.models import Dense, check_layers


def params_from_keras(weights: Sequence[ArrayLike] | str | PathLike[str]) -> tuple[Dense, ...]:
    """Return the params of `mlp` for the weights of a Keras model that is a chain of `Dense` layers.

    Args:
      weights: the list from `model.get_weights()`, [kernel, bias, kernel, bias, …]; or the path of a file that
        Keras 3 wrote by `model.save("….keras")` or `model.save_weights("….weights.h5")` (h5py reads it).

    Returns:
      A tuple of `Dense`.

    Raises:
      TypeError, ValueError: if they are not finite kernels and biases of consecutive layers, or the file is not a
        Keras file.
      FileNotFoundError: if there is no such file.
      ModuleNotFoundError: if a file is given and h5py is not installed.

    >>> weights = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]  # model.get_weights()
    >>> params_from_keras(weights)[0].kernel.shape
    (2, 3)
    """
    if isinstance(weights, str | PathLike):
        arrays = _read(fspath(weights))
    elif isinstance(weights, Sequence):
        arrays = [check_real_array(f"weights[{i}]", array) for i, array in enumerate(weights)]
    else:
        raise TypeError(f"weights must be a list of arrays or the path of a file, got {weights!r}.")
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
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ValueError(f"weights of layer {i} must be finite.")
        width = kernel.shape[1]
    return tuple(Dense(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in layers)


def params_to_keras(params: Sequence[Dense]) -> list[np.ndarray]:
    """Return the list that Keras's `model.set_weights` takes: kernel, bias, kernel, bias, …

    Args:
      params: a tuple of `Dense`, as `mlp(...).init(key)` returns it.

    Returns:
      NumPy arrays: kernels (n_in, n_out) and biases (n_out,) in turn.

    Raises:
      TypeError, ValueError: if the params are not those of one network of `Dense` layers.

    >>> layer = Dense(np.ones((2, 1)), np.zeros(1))
    >>> [array.shape for array in params_to_keras([layer])]
    [(2, 1), (1,)]
    """
    check_layers(params)
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
            found: list[tuple[int, int, np.ndarray]] = []
            layers: Any = h5["layers"]  # h5py's types don't tell groups from arrays
            layers.visititems(lambda name, item: found.extend(_variable(name, item, h5py.Dataset)))
        return [array for _, _, array in sorted(found, key=lambda variable: variable[:2])]
    except (Exception, MemoryError) as error:  # on a damaged file, the readers of zip and HDF5 fail in many ways
        raise ValueError(f"weights={path!r} is not a .keras or .weights.h5 file of Keras 3: {error}") from error


def _variable(name: str, item: Any, dataset: type) -> list[tuple[int, int, np.ndarray]]:
    """Layer number, index in the layer, and value of one variable of a file; empty if it is no array.

    Keras numbers the layers of a kind in order: dense, dense_1, …, dense_10.
    """
    if not isinstance(item, dataset) or "seed_generator" in name:
        return []
    match = re.fullmatch(r"dense(?:_(\d+))?/vars/(\d+)", name)
    if match is None:
        raise ValueError(f"{name!r} is not a variable of a Dense layer in a row of them")
    return [(int(match[1] or 0), int(match[2]), item[()])]
