"""In a notebook: a bar of tqdm below the cell, and results that show themselves."""

import nbclient
import nbformat
import pytest

from xorjax.studies.progress import Progress

STUDY = """
import optax, xorjax as xj
trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=20)
dataset = xj.run_study(trainer, range(50), {"learning_rate": [0.1, 2.0]}, store=STORE, progress=PROGRESS)
"""


@pytest.mark.slow
def test_a_study_shows_a_bar_and_a_result_a_table(tmp_path):
    store = tmp_path / "a.zarr"
    cells = [
        f"STORE, PROGRESS = {str(store)!r}, True" + STUDY,
        "xj.train_ensemble(trainer, range(5), {'learning_rate': 1.0})",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300).execute()
    (bar,), (table,) = (cell.outputs for cell in notebook.cells)  # each one output: no warning, no second bar
    assert bar.output_type == "display_data"
    assert "application/vnd.jupyter.widget-view+json" in bar.data
    widgets = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    shown = " ".join(str(widget["state"].get("value")) for widget in widgets).replace("\u2007", " ")
    for what in ("100%", "epochs/s", "0.0 % solved (0.00 to 3.70 %)"):
        assert what in shown
    assert table.data["text/html"].startswith("<table")
    seen: list[Progress] = []
    exec(STUDY, {"STORE": store, "PROGRESS": seen.append})
    assert (seen[-1].committed, seen[-1].trained) == (100, 0)  # the same study to a program that is no notebook
