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


NAMESPACES = [
    *("xorjax", "xorjax.ensembles", "xorjax.lanes", "xorjax.statistics", "xorjax.studies", "xorjax.training"),
    *("xorjax.networks.keras", "xorjax.networks.losses", "xorjax.networks.models", "xorjax.networks.tasks"),
    *("xorjax.statistics.arrays", "xorjax.statistics.box_counting", "xorjax.statistics.outcomes"),
    "xorjax.reports.published",
]


def public_names(namespace):
    """Yield name and value of every class and function of a namespace's `__all__`, or else of those it defines."""
    module = importlib.import_module(namespace)
    defined = [
        name
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", None) == namespace and not name.startswith("_")
    ]
    for name in getattr(module, "__all__", defined):
        if callable(thing := getattr(module, name)):  # the docstring of a number is that of its type
            yield name, thing


def entries(section: str, doc: str) -> set[str]:
    """The names that begin the lines of a section of a docstring, or several of them: `trainer, seeds: …`."""
    found = re.search(rf"^{section}:\n((?: .*\n?|\n)*)", doc, re.M)
    lines = re.findall(r"^  (\w+(?:, \w+)*):", found[1], re.M) if found else []
    return {name for line in lines for name in line.split(", ")}


def missing_words(name, thing):
    """Yield what the docstring of a public class or function lacks."""
    doc = inspect.getdoc(thing) or ""
    first, *others = doc.splitlines() or [""]
    if not first.endswith((".", "…")) or first.startswith(f"{name}("):  # as a NamedTuple gives itself
        yield f"{name}: no first line"
    if others and others[0]:
        yield f"{name}: no blank line after the first"
    if isinstance(thing, type):
        fields = getattr(thing, "_fields", ())
        section, wanted = "Attributes", set(fields)
        for attribute, member in vars(thing).items():
            public = not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
            if public and not member.__doc__:
                yield f"{name}.{attribute}: no docstring"
        if not fields:
            return
    else:
        section, wanted = "Args", set(inspect.signature(thing).parameters)
    if wrong := entries(section, doc) ^ wanted:
        yield f"{name}: {section} and the signature differ in {sorted(wrong)}"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_public_name_is_documented(namespace):
    """In one line first, then every argument or field, by its name."""
    assert [words for name, thing in public_names(namespace) for words in missing_words(name, thing)] == []


def test_the_public_names_are_those_of_the_design():
    assert {"Batch", "Model", "mlp", "mse", "summary", "trainer", "train_ensemble", "xor"} <= set(xj.__all__)


@pytest.mark.parametrize("name", ["xorjax", *MODULES])
def test_a_module_has_a_docstring_and_its_examples_run(name, quick_compiler):
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_the_top_level_is_what_the_design_says():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = {line.partition("/")[0] for line in tracked.splitlines()}
    visible = {name for name in names if not name.startswith(".")}
    words = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    assert visible <= {"xorjax", "tests", "examples", "pyproject.toml"} | words


def test_the_package_is_typed():
    assert (Path(xj.__file__).parent / "py.typed").exists()
