"""Backpropagation by hand in float64 NumPy, from the chain rule alone; shares no line with the package."""

import numpy as np


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


ACTIVATIONS = {  # the function, and its derivative at z
    "linear": (lambda z: z, np.ones_like),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "softplus": (lambda z: np.log1p(np.exp(z)), _sigmoid),
    "silu": (lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z)))),
}


def forward(layers, x, hidden, output):
    """Pre-activations and activations of every layer; layers are (kernel, bias)."""
    inputs, zs = [np.asarray(x, np.float64)], []
    for i, (kernel, bias) in enumerate(layers):
        activate, _ = ACTIVATIONS[output if i == len(layers) - 1 else hidden]
        zs.append(inputs[-1] @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64))
        inputs.append(activate(zs[-1]))
    return zs, inputs


def loss_and_gradients(layers, x, y, hidden="sigmoid", output="sigmoid"):
    """Mean squared error over outputs and rows, and its gradient in every kernel and bias."""
    layers = [(np.asarray(kernel, np.float64), np.asarray(bias, np.float64)) for kernel, bias in layers]
    zs, activations = forward(layers, x, hidden, output)
    error = activations[-1] - y
    delta = 2 * error / error.size
    gradients = []
    for i in reversed(range(len(layers))):
        _, derivative = ACTIVATIONS[output if i == len(layers) - 1 else hidden]
        delta = delta * derivative(zs[i])
        gradients.insert(0, (activations[i].T @ delta, delta.sum(axis=0)))
        delta = delta @ layers[i][0].T
    return np.mean(error**2), gradients


def train(layers, x, y, learning_rate, epochs, batches=None, hidden="sigmoid", output="sigmoid"):
    """Plain SGD; `batches(epoch)` gives the rows of each update (all of them, if None)."""
    layers = [(np.asarray(kernel, np.float64), np.asarray(bias, np.float64)) for kernel, bias in layers]
    for epoch in range(epochs):
        for rows in [slice(None)] if batches is None else batches(epoch):
            _, gradients = loss_and_gradients(layers, x[rows], y[rows], hidden, output)
            layers = [
                (kernel - learning_rate * d_kernel, bias - learning_rate * d_bias)
                for (kernel, bias), (d_kernel, d_bias) in zip(layers, gradients, strict=True)
            ]
    return layers
