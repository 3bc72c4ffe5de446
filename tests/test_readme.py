"""README's blocks run in order, in one folder and one session, by copy and paste."""

import ast
import code
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# What is smaller here than in README, and all that differs.
SMALLER = {
    "python": {"100_000": "200", "10_000": "40", "5_000": "200", "1_000": "100"},
    "toml": {"10_000": "40", "20_000": "2_000"},
    "sh": {
        "ensemble": "ensemble --epochs 300",
        "xorjax train": "xorjax train --epochs 300",
        "--seeds 1000": "--seeds 2",
    },
}
NOT_RUN = re.compile(r"git clone .*|pip install -e '\.\[\w+\]' && (pytest)?")


class Prompt(code.InteractiveConsole):
    """Python's own prompt, which raises what goes wrong in place of printing it."""

    def showtraceback(self) -> None:
        raise

    def showsyntaxerror(self, filename: str | None = None, **kwargs: object) -> None:
        raise


def run_shell(block: str) -> None:
    for line in block.splitlines():
        command = shlex.split(NOT_RUN.sub("", line), comments=True)
        if command:
            assert command[0] == "xorjax"
            sys.argv = command
            with pytest.raises(SystemExit) as end:
                runpy.run_module("xorjax", run_name="__main__", alter_sys=False)
            assert end.value.code in (0, None), line


def test_the_blocks_run_in_order_by_copy_and_paste(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["xorjax"])
    prompt = Prompt()
    for (language, block), before in zip(BLOCKS, re.split(r"^```\w+\n", README, flags=re.MULTILINE), strict=False):
        for full, smaller in SMALLER.get(language, {}).items():
            block = block.replace(full, smaller)
        if language == "python":
            more = False
            for line in block.splitlines():
                more = prompt.push(line)
            assert not more, block  # the prompt waits for no more
        elif language == "toml":
            (name,) = re.findall(r"Save this as `(\S+)`:\s*\Z", before)
            Path(name).write_text(block, encoding="utf-8")
        elif language == "sh":
            run_shell(block)
    names = prompt.locals
    assert names["results"].predictions.shape == (40, 4, 1)
    assert names["found"].share.shape == (2, 2)
    plain = jax.jit(jax.vmap(names["run"]))(names["w"])
    for name, weights in names["trained"].items():
        np.testing.assert_allclose(weights, plain[name], atol=1e-4)
    assert len(json.loads(Path("report.json").read_text())) > 1
    written = ["map.html", "map.png", "map.zarr", "rates.nc", "rates.parquet", "rates.zarr", "seed_7.png"]
    assert [name for name in written if not Path(name).exists()] == []
    printed = capsys.readouterr().out
    assert "Trainable params: 9" in printed
    assert "all patterns right" in printed


def test_the_page_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 200
    first = next(block for language, block in BLOCKS if language == "python")
    assert len(first.splitlines()) <= 15
    folder = Path(__file__).parent.parent
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert [link for link in links if not (folder / link).exists()] == []
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^## (.+)", README, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_the_python_blocks_are_whole_programs():
    for language, block in BLOCKS:
        if language == "python":
            ast.parse(block)
