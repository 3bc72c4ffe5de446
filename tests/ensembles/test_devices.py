"""Members over the devices of a mesh: the same bits on any number of them, and every member once."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import xorjax as xj
from xorjax import statistics
from xorjax.ensembles import devices as sharding

N = 700
RATES = {"learning_rate": np.linspace(0.1, 2.0, N).astype(np.float32)}


def trainer(epochs=60, **options):
    return xj.trainer(
        xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"], 0.9), epochs=epochs, **options
    )


CASES = {
    "stopping": (trainer(epochs=2_000, stop="solved"), "lanes"),
    "records of mini-batches": (trainer(batch_size=3, record_every=7, record=["predictions"]), "lanes"),
    "vmap": (trainer(), "vmap"),
    "kernel": (trainer(epochs=9), "interpret"),
}
NUMBERS = {"stopping": (2, 8), "records of mini-batches": (8,), "vmap": (2,), "kernel": (8,)}


def digest(name, mesh=None):
    """The bits of all results, in short."""
    made, engine = CASES[name]
    results = xj.train_ensemble(made, range(N), RATES, engine=engine, mesh=mesh)
    bits = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(results))
    return hashlib.sha256(bits).hexdigest()


def main() -> None:
    """What `test_bits_do_not_depend_on_the_devices` asks of a process with eight devices."""
    found = {}
    for name, numbers in NUMBERS.items():
        for n in numbers:
            mesh = jax.make_mesh((n,), ("member",), devices=jax.devices()[:n])
            found[f"{name}, {n} devices"] = digest(name, mesh)
    found["stopping, all devices"] = digest("stopping")
    last = jax.make_mesh((1,), ("member",), devices=jax.devices()[-1:])
    found["stopping, the last device"] = digest("stopping", last)
    with jax.set_mesh(jax.make_mesh((4,), ("other",), devices=jax.devices()[:4])):
        found["stopping, in another mesh"] = digest("stopping")
    with jax.default_device(jax.devices()[3]):
        found["stopping, a default device"] = digest("stopping")
    reduced = xj.train_ensemble(CASES["stopping"][0], range(N), RATES, reduce=statistics.moments())
    print(json.dumps({"devices": len(jax.devices()), "digests": found, "mean": float(reduced.mean)}))


@pytest.mark.slow
def test_bits_do_not_depend_on_the_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(Path(xj.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    of_eight = json.loads(run.stdout)
    assert of_eight["devices"] == 8
    one = jax.make_mesh((1,), ("member",), devices=jax.devices()[:1])
    alone = {name: digest(name, one) for name in CASES}
    assert of_eight["digests"] == {key: alone[key.partition(",")[0]] for key in of_eight["digests"]}
    assert len(of_eight["digests"]) == 9
    found = xj.train_ensemble(CASES["stopping"][0], range(N), RATES, reduce=statistics.moments())
    assert of_eight["mean"] == float(found.mean)


def test_a_mesh_of_another_process(monkeypatch):
    mesh = Mesh(np.array(jax.devices()[:1]), ("member",))
    monkeypatch.setattr(jax, "process_index", lambda: 5)
    with pytest.raises(ValueError, match=r"devices of the processes \[0\]; all must be of this process, number 5"):
        sharding.check_mesh(mesh)


def test_a_mesh_of_another_platform(monkeypatch):
    mesh = Mesh(np.array(jax.devices()[:1]), ("member",))
    monkeypatch.setattr(sharding, "platform", lambda: "gpu")
    with pytest.raises(ValueError, match="has devices of cpu, and JAX runs on gpu"):
        sharding.check_mesh(mesh)


if __name__ == "__main__":
    main()
