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
    "diabetes_regression": (
        ["--seeds", "20", "--epochs", "20"],
        r"111 patients held out; .* less than [\d.]+% of them",
    ),
    "iris_classes": (
        ["--seeds", "20", "--epochs", "50", "--widths", "2"],
        r"hidden units .*\n +2 ( +[\d.]+ ± [\d.]+ %){3}",
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
