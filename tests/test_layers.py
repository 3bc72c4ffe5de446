"""A folder of the package imports only folders below it, so that each can be read without those above."""

import ast
from pathlib import Path

import pytest

import xorjax as xj

PACKAGE = Path(xj.__file__).parent
TOP_TO_BOTTOM = "cli reports studies statistics ensembles training networks lanes".split()
# The name of a folder, and what it may import besides itself.
BELOW = {layer: {*TOP_TO_BOTTOM[place + 1 :], "_checks"} for place, layer in enumerate(TOP_TO_BOTTOM)}
BELOW["lanes"] = set()
# What draws in a terminal, and the layers that may: options are the command's alone, tables also those of reports.
TERMINAL = {"typer": {"cli"}, "rich": {"cli", "reports"}}


def imported_modules(path):
    """Yield every module that a file imports, also inside of functions, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports relatively"
            inner = [f"xorjax.{alias.name}" for alias in node.names]
            names = inner if node.module == "xorjax" else [node.module or ""]
            yield from ((node.lineno, name) for name in names)


@pytest.mark.parametrize("layer", TOP_TO_BOTTOM)
def test_a_layer_imports_only_those_below_it(layer):
    wrong = []
    for path in sorted((PACKAGE / layer).rglob("*.py")):
        for line, module in imported_modules(path):
            library, _, inner = module.partition(".")
            inside = inner.partition(".")[0]
            upward = library == "xorjax" and inside not in {layer, *BELOW[layer]}
            if upward or (layer not in TERMINAL.get(library, {layer})):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_every_folder_is_a_layer():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/*.py")}
    assert folders == set(TOP_TO_BOTTOM)
