"""Updates of the 2-2-1 network per second ("net-steps/s") by this package and its peers, in one run.

    python tests/benchmarks/peers.py --json peers.json

Every way is warmed up, then all are measured in turn, round after round; the table has medians and ranges.
What is not here (keras, tensorflow, torch, equinox; gcc and AVX-512) is left out, and said so. Not a test.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bench import hardware

import xorjax as xj
from xorjax.ensembles.scheduler import count_threads

MEMBERS = 16_384
X, Y = (np.asarray(part) for part in xj.xor())


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def one_network() -> Callable[[], float]:
    """`jax.jit(trainer.run)`, one network."""
    epochs = 1_000_000
    run = jax.jit(xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.01), epochs=epochs).run)
    key = jax.random.key(0)
    return lambda: epochs / seconds(lambda: jax.block_until_ready(run(key)))


def ensemble(members: int, epochs: int) -> Callable[[], float]:
    """`xj.train_ensemble`, from seeds to results."""
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.01), epochs=epochs)
    return lambda: members * epochs / seconds(lambda: xj.train_ensemble(trainer, range(members)))


def by_hand() -> Callable[[], float]:
    """C with AVX-512 intrinsics on all cores, 16,384 members; compiled here."""
    program = Path(tempfile.mkdtemp()) / "avx512"
    flags = ["-O3", "-march=native", "-pthread"]
    subprocess.run(["gcc", *flags, Path(__file__).with_name("avx512.c"), "-o", program, "-lm"], check=True)
    command = [program, str(MEMBERS), "20000", str(count_threads())]
    return lambda: float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


def equinox_vmap() -> Callable[[], float]:
    """Equinox, `filter_jit(filter_vmap(...))` of a scan, 16,384 members."""
    import equinox as eqx

    epochs = 1_000
    sigmoid = jax.nn.sigmoid

    def train(key):
        network = eqx.nn.MLP(2, 1, 2, 1, activation=sigmoid, final_activation=sigmoid, key=key)
        params, static = eqx.partition(network, eqx.is_array)

        def step(params, _):
            def loss(params):
                return jnp.mean((jax.vmap(eqx.combine(params, static))(X) - Y) ** 2)

            return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params)), None

        return jax.lax.scan(step, params, length=epochs)[0]

    run = eqx.filter_jit(eqx.filter_vmap(train))
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    return lambda: MEMBERS * epochs / seconds(lambda: jax.block_until_ready(run(keys)))


def plain_vmap() -> Callable[[], float]:
    """`jit(vmap(scan(step)))` as anyone writes it, 16,384 members."""
    epochs = 1_000

    def loss(params):
        (w1, b1), (w2, b2) = params
        y_hat = jax.nn.sigmoid(jax.nn.sigmoid(X @ w1 + b1) @ w2 + b2)
        return jnp.mean((y_hat - Y) ** 2)

    def train(key):
        key1, key2 = jax.random.split(key)
        init = jax.nn.initializers.glorot_uniform()
        params = ((init(key1, (2, 2)), jnp.zeros(2)), (init(key2, (2, 1)), jnp.zeros(1)))

        def step(params, _):
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params)), None

        return jax.lax.scan(step, params, length=epochs)[0]

    run = jax.jit(jax.vmap(train))
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    return lambda: MEMBERS * epochs / seconds(lambda: jax.block_until_ready(run(keys)))


def torch_weights():
    import torch  # type: ignore[import-not-found]

    rng = torch.Generator().manual_seed(0)
    shapes = ((MEMBERS, 2, 2), (MEMBERS, 1, 2), (MEMBERS, 2, 1), (MEMBERS, 1, 1))
    return torch, [torch.randn(shape, generator=rng) for shape in shapes], torch.tensor(X), torch.tensor(Y)


def torch_matmul() -> Callable[[], float]:
    """PyTorch, batched matmul and autograd, 16,384 members."""
    torch, params, x, y = torch_weights()
    epochs = 100
    for p in params:
        p.requires_grad_()

    def train():
        for _ in range(epochs):
            w1, b1, w2, b2 = params
            y_hat = torch.sigmoid(torch.sigmoid(x @ w1 + b1) @ w2 + b2)
            grads = torch.autograd.grad(((y_hat - y) ** 2).mean(dim=(1, 2)).sum(), params)
            with torch.no_grad():
                for p, g in zip(params, grads, strict=True):
                    p -= 0.01 * g

    return lambda: MEMBERS * epochs / seconds(train)


def torch_compiled() -> Callable[[], float]:
    """PyTorch, `torch.compile(vmap(grad))`, 16,384 members."""
    torch, params, x, y = torch_weights()
    epochs = 100

    def loss(w1, b1, w2, b2):
        return ((torch.sigmoid(torch.sigmoid(x @ w1 + b1) @ w2 + b2) - y) ** 2).mean()

    gradient = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2, 3)))
    step = torch.compile(lambda ps: tuple(p - 0.01 * g for p, g in zip(ps, gradient(*ps), strict=True)))

    def train():
        state = tuple(params)
        with torch.no_grad():
            for _ in range(epochs):
                state = step(state)

    return lambda: MEMBERS * epochs / seconds(train)


def keras_fit(backend: str, epochs: int) -> Callable[[], float]:
    """Keras's `fit` in a process of its own, since it reads its backend once; the rate leaves out its start."""
    command = [sys.executable, __file__, "--keras-epochs", str(epochs)]
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return lambda: float(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)


def run_keras(epochs: int) -> None:
    import keras  # type: ignore[import-not-found]

    model = keras.Sequential([keras.Input((2,))])
    model.add(keras.layers.Dense(2, activation="sigmoid"))
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    model.compile(keras.optimizers.SGD(0.01), "mean_squared_error", metrics=["accuracy"])
    model.fit(X, Y, batch_size=4, epochs=5, verbose=0)
    print(epochs / seconds(lambda: model.fit(X, Y, batch_size=4, epochs=epochs, verbose=0)))


WAYS: dict[str, tuple[Callable[[], Callable[[], float]], tuple[str, ...]]] = {  # how, and what it needs
    "Keras `fit`, TensorFlow backend, one network": (lambda: keras_fit("tensorflow", 40), ("keras", "tensorflow")),
    "Keras `fit`, JAX backend, one network": (lambda: keras_fit("jax", 1000), ("keras",)),
    "PyTorch, batched matmul, 16,384 members": (torch_matmul, ("torch",)),
    "PyTorch, `torch.compile(vmap(grad))`, 16,384 members": (torch_compiled, ("torch",)),
    "JAX, plain `jit(vmap(scan(step)))`, 16,384 members": (plain_vmap, ()),
    "Equinox, `filter_jit(filter_vmap(...))`, 16,384 members": (equinox_vmap, ("equinox",)),
    "C with AVX-512 intrinsics by hand, 16,384 members": (by_hand, ("gcc", "avx512")),
    "xorjax, `jax.jit(trainer.run)`, one network": (one_network, ()),
    "xorjax, `train_ensemble`, one network": (lambda: ensemble(1, 1_000_000), ()),
    "xorjax, `train_ensemble`, 16,384 members": (lambda: ensemble(MEMBERS, 50_000), ()),
}


def import_seconds() -> dict[str, float]:
    """Median seconds, of seven processes each, of importing jax and optax, and of xorjax after them."""
    code = (
        "import time; t = time.perf_counter(); import jax, optax; u = time.perf_counter(); import xorjax;"
        "print(u - t, time.perf_counter() - u)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)
    ]
    both = zip(*([float(part) for part in run.stdout.split()] for run in runs), strict=True)
    return dict(zip(("jax and optax", "xorjax after them"), map(statistics.median, both), strict=True))


def is_here(what: str) -> bool:
    if what == "gcc":
        return shutil.which("gcc") is not None
    if what == "avx512":
        cpu = Path("/proc/cpuinfo")
        return cpu.exists() and "avx512f" in cpu.read_text()
    return importlib.util.find_spec(what) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keras-epochs", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keras_epochs:
        run_keras(args.keras_epochs)
        return

    trials: dict[str, Callable[[], float]] = {}
    rates: dict[str, list[float]] = {}
    for name, (make, needs) in WAYS.items():
        missing = [what for what in needs if not is_here(what)]
        if missing:
            print(f"left out: {name} ({', '.join(missing)} not here)", file=sys.stderr)
            continue
        trials[name] = make()
        trials[name]()  # compiles
        rates[name] = []
    for _ in range(args.rounds):
        for name, trial in trials.items():
            rates[name].append(trial())

    made = {
        "hardware": hardware(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "import_seconds": import_seconds(),
        "rounds": args.rounds,
        "net_steps_per_second": rates,
    }
    print(f"{made['hardware']}, Python {made['python']}, JAX {made['jax']}; median and range of {args.rounds}\n")
    print("| way | net-steps/s | range |\n| --- | --- | --- |")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.2g} | {min(values):.2g} to {max(values):.2g} |")
    print("\nimport:", ", ".join(f"{name} {value:.3f} s" for name, value in made["import_seconds"].items()))
    if args.json:
        args.json.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
