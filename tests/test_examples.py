"""Every example runs, at a tiny size, and prints what its docstring shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = {
    "xor_from_scratch": (["--seeds", "20", "--epochs", "50"], r"20 networks, 50 epochs: 0\.0 % classify all four"),
    "tutorial_revisited": (
        ["--seeds", "50", "--epochs", "2000", "--swept-seeds", "30"],
        r"its reader, as posted +0\.144 +100\.00 % .* 2 +of +2,000 epochs +[6-9]\d\.\d% .*\d %  all at ½",
    ),
    "initial_conditions": (
        ["--seeds", "20", "--epochs", "400", "--size", "16", "--slice-epochs", "100"],
        r"0\.50 +0\.0 +100\.0% .* 3\.25 +0\.4 [\d.% ]+ [4-9]\d\.\d%\n.*η 13, two zooms +box dimension [01]\.\d\d",
    ),
    "trainability_boundary": (
        ["--size", "8", "--steps", "40"],
        r"[3-8]\d\.\d% of 64 networks converge; \d.*fitted to all sizes +[01]\.\d\d ",
    ),
    "diabetes_ensemble": (
        ["--seeds", "20", "--epochs", "20"],
        r"54\.15   54\.15 .*\n20 epochs +0\.[45]\d +0\.[34]\d .* [34]\d\.\d % +(8[5-9]|9[0-4])\.\d %\n",
    ),
    "iris_classes": (
        ["--seeds", "20", "--epochs", "50", "--widths", "2"],
        r"hidden units .*\n +2 ( +[\d.]+ ± [\d.]+ %){3}",
    ),
    "optimizers": (
        ["--seeds", "20", "--epochs", "500", "--rates", "8", "--only", "sgd"],
        r"sgd +[5-9]\d–[ \d]+ % +\d+ +10\n.*Left out:\nlbfgs: ",
    ),
    "all_boolean_functions": (
        ["--inputs", "2", "--seeds", "20", "--epochs", "1000"],
        r"separable: published 14, here 14\n.*NPN classes: published 4, here 4\n +a ⊕ b \(2\) .*"
        r"\n +all separable \(14\) +9\d\.\d–100\.0 ",
    ),
    "hidden_units": (  # at two hidden units a fifth learns, and a half has no output on the wrong side
        ["--seeds", "200", "--epochs", "2000", "--hidden", "2"],
        r" 2  17\.6 49\.1 (?: +[12]?\d(?:/[12]?\d){3} (?:[3-6]\d/?){4}){4}\n.*"
        r"\n 2   247 .* [23]\d\d/[34]\d\d +[6-9]\d %",
    ),
    "parity": (  # the published 24 epochs lie between the readings of the source
        ["--seeds", "0.05", "--bits", "2"],
        r"\n2  30 +2\d/3\d/[56]\d [789]\d/[67]\d/[56]\d +[12]\d/2\d/[34]\d .*\n2      24      [12]\d ",
    ),
    "flax_or_equinox_model": (["--seeds", "5", "--epochs", "300"], r"flax: 5 seeds of 2-8-1, 100\.0 % solve XOR"),
    "flax_or_equinox_model --library equinox": (
        ["--seeds", "5", "--epochs", "300"],
        r"equinox: 5 .* 100\.0 % solve",
    ),
}


WITHOUT_FIGURE = ("xor_from_scratch", "iris_classes", "flax_or_equinox_model")
QUICK = "xor_from_scratch"
COMMANDS = [command if command == QUICK else pytest.param(command, marks=pytest.mark.slow) for command in TINY]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_runs(command, tmp_path):
    name, *options = command.split()
    arguments, printed = TINY[command]
    if name not in WITHOUT_FIGURE:
        options += ["--out", str(tmp_path)]
    script = [sys.executable, str(EXAMPLES / f"{name}.py"), *options, *arguments]
    quick = {
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }  # in half the time to compile; only rounding differs
    run = subprocess.run(script, capture_output=True, text=True, check=False, env=quick)
    assert run.returncode == 0, run.stderr
    assert re.search(printed, run.stdout, re.DOTALL), run.stdout
    if name not in WITHOUT_FIGURE:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((tmp_path / f"{name}.json").read_text())


def test_no_example_is_left_out():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {command.split()[0] for command in TINY}


@pytest.mark.slow
def test_the_notebook_runs():
    notebook = nbformat.read(EXAMPLES / "xor_revisited.ipynb", as_version=4)
    assert "10_000" in notebook.cells[1].source  # the parameter
    notebook.cells[1].source = "SEEDS = 40"
    nbclient.NotebookClient(notebook, timeout=300).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.name for output in outputs if output.output_type == "stream" and output.name != "stdout"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    alone, among = re.findall(r"alone and among all: (\S+) (\S+)", "".join(o.get("text", "") for o in outputs))[0]
    assert alone == among
