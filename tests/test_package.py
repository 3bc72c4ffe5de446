"""What importing brings: no extras, no backend; and the examples in docstrings and README."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import xorjax as xj

ROOT = Path(__file__).parent.parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(xj.__path__, "xorjax."))


IMPORT = """
import sys, jax, optax
before = set(sys.modules)
import xorjax as xj
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*new & {"typer", "rich", "matplotlib", "zarr", "xarray", "h5py", "scipy", "keras", "flax", "equinox"})
xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1), epochs=10)  # nor does describing what to train
print("no backend")
jax.devices()
"""


def test_import_brings_no_extra_and_starts_no_backend():
    """On a platform that does not exist, whatever starts a backend fails, as the last line does."""
    env = {**os.environ, "JAX_PLATFORMS": "nowhere"}
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False, env=env)
    assert run.stdout.split("\n") == ["", "no backend", ""]
    assert "nowhere" in run.stderr.splitlines()[-1]


def test_every_public_name_is_there_and_documented():
    for name in xj.__all__:
        doc = getattr(xj, name).__doc__
        assert doc, name
        assert not doc.startswith(f"{name}("), name  # what a NamedTuple gives itself
    assert {"Batch", "Dense", "Model", "mlp", "mse", "summary", "trainer", "train_ensemble", "xor"} <= set(
        xj.__all__
    )


@pytest.mark.parametrize("name", ["xorjax", *MODULES])
def test_docstring_examples_and_first_lines(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_the_top_level_is_what_the_design_says():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = {line.partition("/")[0] for line in tracked.splitlines()}
    visible = {name for name in names if not name.startswith(".")}
    assert visible <= {"xorjax", "tests", "examples", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}


def test_the_snippets_of_the_readme_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a study is kept
    first, *others = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len(first.splitlines()) <= 15
    names = {}
    exec(first.replace("100_000", "2_000").replace("10_000", "40").replace("0.01", "1.0"), names)
    assert 0.3 < float(capsys.readouterr().out) < 1
    for snippet in others:
        exec(snippet, names)
    assert capsys.readouterr().out == "(2, 2)\n"
    plain = jax.jit(jax.vmap(names["run"]))(names["weights"])
    for name, weights in names["trained"].items():
        np.testing.assert_allclose(weights, plain[name], atol=1e-4)


def test_the_package_is_typed():
    assert (Path(xj.__file__).parent / "py.typed").exists()
