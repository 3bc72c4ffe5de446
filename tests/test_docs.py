"""The reference that pdoc makes from the docstrings has every public name, with its words."""

import inspect
import os
import re
import subprocess
import sys
from types import ModuleType

import pytest

import xorjax as xj
from xorjax.networks import keras, losses, models, tasks

NAMESPACES = [xj, xj.ensembles, xj.lanes, xj.networks, xj.statistics, xj.studies, xj.training]
NAMES = [
    (space.__name__, name)
    for space in NAMESPACES
    for name in space.__all__
    if not isinstance(getattr(space, name), ModuleType)  # a module is a page of its own
]
NAMES += [
    (space.__name__, name)
    for space in (keras, losses, models, tasks)
    for name, value in vars(space).items()
    if inspect.isroutine(value) or inspect.isclass(value)
    if value.__module__ == space.__name__ and not name.startswith("_")
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The pages of README's command by module, written to a folder in place of being served."""
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-m", "pdoc", "xorjax", "--docformat", "google", "-o", str(folder)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 0, run.stderr
    assert "Warn" not in run.stderr, run.stderr
    pages = {path: path.relative_to(folder).with_suffix("") for path in folder.rglob("*.html")}
    return {".".join(name.parts): path.read_text(encoding="utf-8") for path, name in pages.items()}


def test_the_reference_has_every_public_name(reference):
    assert [(space, name) for space, name in NAMES if f'id="{name}"' not in reference[space]] == []


def test_the_reference_shows_arguments_and_the_map(reference):
    page = reference["xorjax"]
    assert re.search(r"<strong>trainer:</strong>.*?<strong>seeds:</strong>", page, re.DOTALL)
    assert "lane_vmap, scalarize, kernels: stand alone" in page
