"""What importing brings: no extras, no backend; and the examples in docstrings and README."""

import doctest
import importlib
import inspect
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
from xorjax import statistics as accumulators
from xorjax.reports import published
from xorjax.statistics import arrays as statistics
from xorjax.statistics import box_counting, outcomes

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


PUBLIC = {
    "xorjax": xj.__all__,
    "xorjax.statistics": accumulators.__all__,
    **{
        module.__name__: [
            name
            for name, thing in vars(module).items()
            if getattr(thing, "__module__", None) == module.__name__ and not name.startswith("_")
        ]
        for module in (box_counting, outcomes, published, statistics)
    },
}
EVERY_PUBLIC_NAME = [(module, name) for module, names in PUBLIC.items() for name in names]


def entries(section: str, doc: str) -> set[str]:
    """The names that begin the lines of a section of a docstring, or several of them: `trainer, seeds: …`."""
    found = re.search(rf"^{section}:\n((?: .*\n?|\n)*)", doc, re.M)
    lines = re.findall(r"^  (\w+(?:, \w+)*):", found[1], re.M) if found else []
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize(("module", "name"), EVERY_PUBLIC_NAME)
def test_every_public_name_is_documented(module, name):
    """In one line first, then every argument or field, by its name."""
    thing = getattr(importlib.import_module(module), name)
    if not callable(thing):  # a number: a docstring would be that of its type
        return
    assert thing.__doc__
    doc = inspect.getdoc(thing) or ""
    assert not doc.startswith(f"{name}(")  # what a NamedTuple gives itself
    first, *others = doc.splitlines()
    assert first.endswith((".", "…"))
    assert not others or not others[0]
    if isinstance(thing, type):
        if fields := getattr(thing, "_fields", ()):
            assert entries("Attributes", doc) == set(fields)
        for of_class, member in vars(thing).items():
            if not of_class.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert member.__doc__, of_class
    elif parameters := list(inspect.signature(thing).parameters):
        assert entries("Args", doc) == set(parameters)


def test_the_public_names_are_those_of_the_design():
    assert {"Batch", "Model", "mlp", "mse", "summary", "trainer", "train_ensemble", "xor"} <= set(xj.__all__)


@pytest.mark.parametrize("name", ["xorjax", *MODULES])
def test_docstring_examples_and_first_lines(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_the_top_level_is_what_the_design_says():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = {line.partition("/")[0] for line in tracked.splitlines()}
    visible = {name for name in names if not name.startswith(".")}
    words = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    assert visible <= {"xorjax", "tests", "examples", "pyproject.toml"} | words


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
