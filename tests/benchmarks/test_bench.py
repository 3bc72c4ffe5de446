"""The benchmark of the engines, on one small cell."""

import json

import bench
import numpy as np
import pytest


@pytest.mark.slow
def test_every_engine_is_measured_and_the_table_shows_the_numbers_of_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "COMPILATIONS", 1)
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    file = tmp_path / "bench.json"
    bench.main(["--network", "2-2-1", "--members", "64", "--rounds", "2", "--json", str(file)])
    report = json.loads(file.read_text())
    engines = [(cell["engine"], cell["depth"]) for cell in report["cells"]]
    assert engines == [("plain", None), ("lanes", "scalar"), ("vmap", None)]
    rates = {cell["engine"]: np.asarray(cell["rates"]) for cell in report["cells"]}
    assert all(len(each) == 2 and each.min() > 0 for each in rates.values())
    (line,) = report["lines"]
    assert line["over_plain"] == np.median(rates["lanes"] / rates["plain"])
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    (row,) = (row for row in rows if row[:2] == ["2-2-1", "64"])
    assert f"{line['rates']['lanes']:.1e}" in row
    assert f"{line['over_plain']:.2f}" in row
