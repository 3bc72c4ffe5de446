"""A sweep says of each combination what the library says of its members alone, and prints what it says."""

import io
import json
import re
from functools import cache
from itertools import product

import numpy as np
import optax
import pytest
from rich.console import Console
from typer.testing import CliRunner

import xorjax as xj
from xorjax.cli.main import app
from xorjax.reports import summary, tables
from xorjax.reports import sweep as sweeps
from xorjax.statistics import arrays

pytestmark = pytest.mark.lenient
SEEDS, EPOCHS = range(3, 43), 900
RATES, MOMENTA, SIZES = [4.0, 0.5, 1.0], [0.0, 0.9], [2, 3]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "80"})


@cache
def trainer(units):
    return xj.trainer(
        xj.mlp((2, units, 1)),
        xj.xor(),
        lambda h: optax.sgd(h["learning_rate"], h["momentum"]),
        epochs=EPOCHS,
        stop="solved",
    )


def train(units, learning_rate, momentum):
    """Train one combination alone."""
    return xj.train_ensemble(trainer(units), SEEDS, {"learning_rate": learning_rate, "momentum": momentum})


def share(holds):
    p = arrays.proportion(holds)
    return {"members": p.number, "share": p.share, "low": p.low, "high": p.high}


def check_group(group, results):
    """Check that a group of the report says what these results say."""
    losses, solved_epoch = np.sort(results.loss), np.sort(results.solved_epoch[results.solved_epoch >= 0])
    n = len(losses)
    assert group["members"] == n
    assert group["solved"] == share(results.outcome == xj.Outcome.SOLVED)
    assert group["all_right"] == share(results.accuracy == 1)
    assert group["diverged"] == share(results.outcome == xj.Outcome.DIVERGED)
    for q in QUANTILES:
        exact = losses[int(np.ceil(round(q * n, 6))) - 1]
        assert group["loss_quantiles"][f"{q:g}"] == pytest.approx(exact, rel=1 / 256)
    for q in QUANTILES:
        rank = int(np.ceil(round(q * n, 6)))
        expected = float(solved_epoch[rank - 1]) if len(solved_epoch) >= rank else None
        assert group["epochs_to_solve"][f"{q:g}"] == expected


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The command's report of three axes, what it printed, its figure, and the results of each combination."""
    folder = tmp_path_factory.mktemp("sweep")
    args = ["--task", "0110", "--seeds", f"{SEEDS.start}:{SEEDS.stop}", "--epochs", EPOCHS, "--stop", "solved"]
    axes = ["--learning-rate", "4,0.5", "--learning-rate", 1, "--momentum", "0:0.9:2", "--hidden-units", "2,3"]
    files = ["--json", folder / "out.json", "--plot", folder / "map.png"]
    done = run("ensemble", *args, *axes, *files)
    assert done.exit_code == 0, done.output
    alone = {values: train(*values) for values in product(SIZES, RATES, MOMENTA)}
    return json.loads((folder / "out.json").read_text()), done.stdout, folder / "map.png", alone


def test_groups_are_what_the_library_computes_of_each_combination(swept):
    report, _, figure, alone = swept
    assert report["axes"] == {"hidden_units": SIZES, "learning_rate": RATES, "momentum": MOMENTA}
    assert [(g["hidden_units"], g["learning_rate"], g["momentum"]) for g in report["groups"]] == list(alone)
    for group, results in zip(report["groups"], alone.values(), strict=True):
        check_group(group, results)
    assert 0 < sum(group["solved"]["members"] for group in report["groups"]) < len(alone) * len(SEEDS)
    assert report["members"] == len(alone) * len(SEEDS)
    epochs = sum(int(results.epochs.sum()) for results in alone.values())
    assert report["net_steps_per_second"] * report["seconds"] == pytest.approx(epochs, rel=1e-12)
    assert epochs < EPOCHS * report["members"]
    assert report["settings"] == {
        "seeds": [SEEDS.start, SEEDS.stop],
        "task": "0110",
        "network": ["2-2-1", "2-3-1"],
        "optimizer": "sgd",
        "learning_rate": RATES,
        "momentum": MOMENTA,
        "epochs": EPOCHS,
        "batch_size": 4,
        "stop": "solved",
        "held_out": None,
    }
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_an_axis_alone_is_over_all_values_of_the_others(swept):
    report, _, _, alone = swept
    for place, (axis, values) in enumerate(report["axes"].items()):
        assert [group[axis] for group in report["by_axis"][axis]] == values
        for group in report["by_axis"][axis]:
            results = [results for names, results in alone.items() if names[place] == group[axis]]
            together = {
                field: np.concatenate([getattr(each, field) for each in results])
                for field in ("loss", "accuracy", "outcome", "solved_epoch", "epochs")
            }
            check_group(group, results[0]._replace(**together))


def test_a_table_has_a_line_for_each_combination_and_fits(swept):
    report, printed, *_ = swept
    assert "480 members: 2 hidden sizes × 3 learning rates × 2 momenta" in printed
    for group in report["groups"]:
        values = rf"^{group['hidden_units']} +{group['learning_rate']:g} +{group['momentum']:g} +40 +"
        solved = group["solved"]
        shares = rf"{100 * solved['share']:.1f} % +{100 * solved['low']:.1f}–{100 * solved['high']:.1f} %"
        assert re.search(values + shares, printed, re.M)
    table = printed[printed.index("hidden ") :]
    assert max(map(len, table.splitlines())) <= 100
    assert "…" not in table


def printed(report):
    console = Console(file=io.StringIO(), width=80)
    tables.print_report(console, report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.slow
def test_of_many_combinations_each_axis_and_the_best_are_printed(tmp_path):
    momenta = ["--momentum", "0:0.9:16"]
    args = ["ensemble", "--seeds", 8, "--epochs", 300, "--batch-size", 2, "--learning-rate", "1,8", *momenta]
    done = run(*args, "--json", tmp_path / "out.json", "--plot", tmp_path / "map.svg")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert len(report["groups"]) == 32
    assert report["net_steps_per_second"] * report["seconds"] == pytest.approx(32 * 8 * 300 * 2)
    assert report["settings"]["batch_size"] == 2
    assert done.stdout.endswith(printed(report)[-200:])
    by_rate, by_momentum, best = done.stdout.split("to solve\n")[1:]
    for axis, table in {"learning_rate": by_rate, "momentum": by_momentum}.items():
        counts = [(group[axis], group["members"]) for group in report["by_axis"][axis]]
        assert [n for _, n in counts] == [8 * 32 // len(counts)] * len(counts)
        for value, n in counts:
            assert re.search(rf"^{value:g} +{n} ", table, re.M)
    assert "the 10 best of 32 combinations; --json FILE has all of them" in done.stdout
    shown = [float(line.split()[3]) for line in best.splitlines()[:10]]
    shares = sorted((100 * group["solved"]["share"] for group in report["groups"]), reverse=True)
    np.testing.assert_allclose(shown, shares[:10], atol=0.051)


def test_what_was_gathered_before_the_end_is_a_whole_report_of_it():
    trainers = {units: trainer(units) for units in SIZES}
    sweep = sweeps.sweep(trainers, range(5), {"learning_rate": [0.5, 1.0, 4.0], "momentum": [0.9]})
    by = ("hidden_units", "learning_rate")
    statistics = summary.report_statistics(dict.fromkeys([(), by[:1], by[1:], by], summary.FIELDS))
    (of_one, one), (of_both, _) = sweeps.gather(sweep, statistics, lambda done, total: None)
    assert (of_one, of_both) == (15, 30)
    found = statistics.finalize(one)
    np.testing.assert_array_equal(found.groups[by].solved.total, [[5, 5, 5], [0, 0, 0]])
    np.testing.assert_array_equal(found.groups[by[:1]].solved.total, [15, 0])
    np.testing.assert_array_equal(found.groups[by[1:]].solved.total, [5, 5, 5])
    assert np.isnan(found.groups[by].solved.share[1]).all()
    assert found.epochs == xj.train_ensemble(trainer(2), sweep.members).epochs.sum()
    report = summary.summarize(found, sweep.axes, sweep.seeds)
    assert [group["loss_quantiles"]["0.5"] is None for group in report["groups"]] == [False] * 3 + [True] * 3
    json.dumps(report, allow_nan=False)


LABELS = {
    "as given": ([0.1, 0.5, 10], ["0.1", "0.5", "10"]),
    "three digits": ([1 / 3, 2 / 3], ["0.333", "0.667"]),
    "as many as tell them apart": ([1.0, 1.0001], ["1", "1.0001"]),
    "not one for what is nearly one": ([0.99, 0.9999, 0.5], ["0.99", "0.9999", "0.5"]),
    "integers": ([2, 1000, 1024], ["2", "1000", "1024"]),
    "a single one": ([2 / 3], ["0.667"]),
}


@pytest.mark.parametrize("name", LABELS)
def test_values_are_short_and_told_apart(name):
    values, expected = LABELS[name]
    assert sweeps.shorten_values(values) == expected


def test_a_single_value_is_no_axis():
    sweep = sweeps.sweep({2: trainer(2)}, range(7), {"learning_rate": [0.1], "momentum": [0.0, 0.9]})
    assert (sweep.members.axes, sweep.members.shape) == (("seed", "momentum"), (7, 2))
    assert dict(sweep.axes) == {"momentum": [0.0, 0.9]}
    np.testing.assert_array_equal(sweep.members[:2][1]["learning_rate"], [0.1, 0.1])


@pytest.mark.slow
def test_single_values_of_another_task_give_the_report_of_one_ensemble(tmp_path):
    args = ["--task", "parity:3", "--hidden-units", 3, "--learning-rate", 2, "--momentum", 0.9, "--batch-size", 8]
    files = ["--json", tmp_path / "out.json", "--plot", tmp_path / "out.png"]
    done = run("ensemble", "--seeds", 40, "--epochs", EPOCHS, "--stop", "solved", *args, *files)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out.json").read_text())
    alone = xj.trainer(xj.mlp((3, 3, 1)), xj.parity(3), optax.sgd(2.0, 0.9), epochs=EPOCHS, stop="solved")
    results = xj.train_ensemble(alone, range(40))
    assert report["solved"] == share(results.outcome == xj.Outcome.SOLVED)
    assert report["published"] == []
    assert (report["settings"]["task"], report["settings"]["stop"]) == ("parity:3", "solved")
    assert report["net_steps_per_second"] * report["seconds"] == pytest.approx(int(results.epochs.sum()))
    assert sum(c["members"] for c in report["ended_as"]) == 40
    assert "40 members: 3-3-1 on parity:3, sgd, learning rate 2, momentum 0.9, until solved, at most 900" in (
        done.stdout
    )
    assert "01101001" in done.stdout
    assert "published" not in done.stdout
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_patterns_held_out_are_reported_apart(tmp_path):
    """Of one ensemble, and of each group of a sweep."""
    file = tmp_path / "out.json"
    args = [
        "ensemble",
        "--task",
        "parity:3",
        "--seeds",
        30,
        "--epochs",
        300,
        "--optimizer",
        "adam",
        "--json",
        file,
    ]
    held_out = ["--validation-split", 0.25, "--hidden-units", 4]
    done = run(*args, *held_out, "--learning-rate", 0.1)
    assert done.exit_code == 0, done.output
    one = json.loads(file.read_text())
    train, validation = xj.tasks.split(xj.parity(3), 0.25)
    trainer = xj.trainer(
        xj.mlp((3, 4, 1)), train, lambda h: optax.adam(h["learning_rate"]), epochs=300, validation=validation
    )
    results = xj.train_ensemble(trainer, range(30), {"learning_rate": 0.1})
    accuracies = np.asarray(results.validation_accuracy)
    patterns = ["".join(str(int(bit)) for bit in row) for row in validation.x]
    assert one["settings"]["held_out"] == patterns
    assert one["held_out"]["accuracy"] == pytest.approx(accuracies.mean())
    assert one["held_out"]["all_right"] == share(accuracies == 1)
    assert one["held_out"]["loss_quantiles"]["0.5"] == pytest.approx(
        np.sort(np.asarray(results.validation_loss))[14], rel=1e-5
    )
    assert re.search(r"^all trained on right +\d", done.stdout, re.M)
    assert re.search(r"^all held out right +\d", done.stdout, re.M)
    assert f"held out: {', '.join(patterns)}" in done.stdout
    assert "solved: all trained on right and a loss below 0.01" in done.stdout

    done = run(*args, *held_out, "--learning-rate", "0.01,0.1")
    assert done.exit_code == 0, done.output
    groups = json.loads(file.read_text())["groups"]
    assert groups[1]["held_out"]["accuracy"] == pytest.approx(accuracies.mean())
    assert f"{100 * accuracies.mean():.1f} %" in done.stdout
