"""`xorjax examples`, in a clone and from a wheel."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

from xorjax.cli import examples
from xorjax.cli.main import app

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").glob("*.toml")])
NAMES = ", ".join(file.stem for file in FILES)


def run(*args):
    return CliRunner().invoke(app, ["examples", *map(str, args)])


def test_it_lists_what_each_claims_and_where_it_is():
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [file.stem for file in FILES]
    assert [line.strip() for line in lines[1::2]] == [str(file) for file in FILES]
    assert f"xor_million{' ' * 12}The tutorial's network from a million seeds, all 100,000 epochs each." in lines


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_opens_with_a_claim_of_one_line_and_says_how_it_is_run(file):
    claim, blank, *others = examples.described(file).splitlines()
    assert len(claim) < 115
    assert claim[-1] == "."
    assert blank == ""
    assert any(f"examples/{file.name}" in line for line in others)


def test_of_one_it_prints_the_docstring_and_the_path():
    file = ROOT / "examples" / "iris_classes.py"
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert run("iris_classes").stdout == f"{docstring}\n\n{file}\n"
    assert "\n  xorjax study run examples/xor_million.toml\n" in run("xor_million").stdout


def test_a_copy_is_the_file_and_is_never_written_over(tmp_path):
    folder = tmp_path / "of" / "mine"
    copy = folder / "iris_classes.py"
    assert run("iris_classes", "--copy", folder).stdout == f"{copy}\n"
    assert copy.read_bytes() == (ROOT / "examples" / "iris_classes.py").read_bytes()
    copy.write_text("changed")
    result = run("iris_classes", "--copy", folder)
    assert result.exit_code == 2
    assert result.stderr == (
        f"xorjax: Invalid value: --copy={folder}: {copy} is there already, and is not overwritten.\n"
    )
    assert copy.read_text() == "changed"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["iris_clases"], f"NAME='iris_clases' must be one of {NAMES}; did you mean 'iris_classes'?"),
        (["nothing", "--copy", "."], f"NAME='nothing' must be one of {NAMES}."),
        (["--copy", "here"], f"--copy=here wants a name, one of {NAMES}."),
        (["iris_classes", "--copy", __file__], f"'{__file__}' is a file."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_any_it_says_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "FOLDERS", (tmp_path / "a", tmp_path / "b"))
    result = run()
    assert result.exit_code == 1
    assert result.stderr == f"xorjax: no examples are in {tmp_path / 'a'} or {tmp_path / 'b'}.\n"


@pytest.mark.slow
def test_a_wheel_has_the_examples_and_not_their_figures(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        archive.extractall(installed)
    assert tops == {"xorjax", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    there = installed / "xorjax" / "_examples"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        file.name: file.read_bytes() for file in FILES
    }
    command = [sys.executable, "-m", "xorjax", "examples"]
    env = {**os.environ, "PYTHONPATH": str(installed), "PYTHONUTF8": "1"}
    found = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert [line.strip() for line in found.stdout.splitlines()[1::2]] == [str(there / file.name) for file in FILES]
