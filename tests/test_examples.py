"""Every example runs, at a tiny size, and prints what its docstring shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = {
    "xor_from_scratch": (["--seeds", "20", "--epochs", "50"], r"20 networks, 50 epochs: 0\.0 % classify all four"),
    "tutorial_revisited": (
        ["--seeds", "50", "--epochs", "100"],
        r'The reader\'s "seed 7" lies below the lowest of 50',
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
    "flax_or_equinox_model": (["--seeds", "5", "--epochs", "300"], r"flax: 5 seeds of 2-8-1, 100\.0 % solve XOR"),
    "flax_or_equinox_model --library equinox": (
        ["--seeds", "5", "--epochs", "300"],
        r"equinox: 5 .* 100\.0 % solve",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", TINY)
def test_the_example_runs(command):
    name, *options = command.split()
    arguments, printed = TINY[command]
    script = [sys.executable, str(EXAMPLES / f"{name}.py"), *options, *arguments]
    run = subprocess.run(script, capture_output=True, text=True, check=True)
    assert re.search(printed, run.stdout, re.DOTALL)


def test_no_example_is_left_out():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {command.split()[0] for command in TINY}
