"""One summary of an ensemble, streamed: it says what the arrays of its results say."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import optax
import pytest

import xorjax as xj
from xorjax.reports import notable, summary, tables
from xorjax.reports.published import TUTORIAL_RUNS
from xorjax.statistics import arrays, outcomes

XOR = xj.xor()


@pytest.fixture(scope="module")
def results():
    trainer = xj.trainer(xj.mlp((2, 2, 1)), XOR, optax.sgd(5.0), epochs=300)
    return xj.train_ensemble(trainer, range(200))


def gather(accumulator, results, cuts=(0, 7, 130, 200)):
    members = xj.grid(seeds=range(len(results.loss)))
    gathered = accumulator.init(members)
    for a, b in pairwise(cuts):
        block = results._replace(
            **{name: getattr(results, name)[a:b] for name in results._fields if name in summary.FIELDS}
        )
        gathered = accumulator.update(gathered, block, members.indices(slice(a, b)))
    return accumulator.finalize(gathered)


def test_a_summary_is_that_of_the_arrays(results):
    found = gather(summary.report_statistics({(): summary.FIELDS}, XOR), results)
    report = summary.summarize(found, {}, range(200))
    losses = results.loss.astype(float)
    assert report["members"] == 200
    for name, holds in (("solved", results.outcome == xj.Outcome.SOLVED), ("all_right", results.accuracy == 1)):
        p = arrays.proportion(holds)
        assert report[name] == {"members": p.number, "share": p.share, "low": p.low, "high": p.high}
    at = summary.QUANTILES
    assert list(report["loss_quantiles"].values()) == arrays.quantiles(losses, at).tolist()
    epochs = arrays.epochs_to_solve(results.solved_epoch, at)
    assert list(report["epochs_to_solve"].values()) == [each if each < np.inf else None for each in epochs]
    classes = outcomes.count_outcomes(results.predictions, XOR.y)
    assert [(c["name"], c["members"]) for c in report["ended_as"]] == [(c.name, c.number) for c in classes]
    assert [run["better_than"] for run in report["published"]] == [
        arrays.share_better(run.loss, losses) for run in TUTORIAL_RUNS
    ]
    assert report["best"] == {"seed": int(losses.argmin()), "loss": losses.min()}
    assert report["loss_quantile_error"] == 0
    assert found.epochs == 200 * 300
    assert found.losses.counts.sum() == 200
    np.testing.assert_array_equal(found.predictions, results.predictions)
    json.dumps(report, allow_nan=False)


def test_more_members_than_are_stored_have_quantiles_with_a_stated_error(results, monkeypatch):
    monkeypatch.setattr(summary, "EXACT_MEMBERS", 199)
    report = summary.summarize(gather(summary.report_statistics({(): summary.FIELDS}), results), {})
    assert report["loss_quantile_error"] == 1 / 256
    exact = arrays.quantiles(results.loss, summary.QUANTILES)
    np.testing.assert_allclose(list(report["loss_quantiles"].values()), exact, rtol=1 / 256)


def test_notable_members_are_the_extremes(results):
    members = gather(notable.notable_members(), results)
    said = {member.indices["seed"]: member.description for member in members}
    assert len(said) == len(members)  # each once
    assert "least loss" in said[int(results.loss.argmin())]
    assert "greatest loss" in said[int(results.loss.argmax())]
    assert "solved last" in said[int(results.solved_epoch.argmax())]


def test_a_typical_member_ends_as_its_class_says(results):
    ended_as = outcomes.classify_outcomes(results.predictions, XOR.y)
    members = gather(notable.typical_members(XOR.y), results)
    assert {name: outcomes.CLASSES[ended_as[m.indices["seed"]]] for name, m in members.items()} == {
        name: name for name in members
    }
    assert len(members) == len(np.unique(ended_as))


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([1, 1, 1], ["33.4 %", "33.3 %", "33.3 %"]),
        ([2, 1], ["66.7 %", "33.3 %"]),
        ([7], ["100.0 %"]),
        ([9983, 9, 8], ["99.8 %", "0.1 %", "0.1 %"]),
    ],
)
def test_shares_of_a_whole_add_to_a_hundred_percent(numbers, texts):
    assert tables.split_percent(numbers) == texts
    assert sum(round(10 * float(text[:-2])) for text in texts) == 1000


@pytest.mark.parametrize(("best", "is_edge"), [(1.0, True), (2.0, False), (4.0, True)])
def test_a_best_at_the_edge_of_a_sweep_is_marked(best, is_edge):
    groups = [
        {
            "members": 5,
            "learning_rate": rate,
            "solved": {"share": float(rate == best)},
            "all_right": {"share": 1.0},
            "epochs_to_solve": {"0.5": None},
            "loss_quantiles": {"0.5": 0.1},
        }
        for rate in (2.0, 4.0, 1.0)
    ]
    text = tables.describe_best({"axes": {"learning_rate": [2.0, 4.0, 1.0]}, "groups": groups})
    assert text.startswith(f"most solved: learning rate {best:g}")
    assert ("at the edge of the sweep" in text) == is_edge


@pytest.mark.slow
def test_the_command_needs_no_more_memory_for_ten_times_the_members():
    def peak_megabytes(seeds):
        code = (
            "import resource, sys\n"
            "from typer.testing import CliRunner\n"
            "from xorjax.cli.main import app\n"
            f"done = CliRunner().invoke(app, ['ensemble', '--seeds', '{seeds}', '--epochs', '1'])\n"
            "assert done.exit_code == 0, done.output\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(done.stdout)

    assert peak_megabytes(2_000_000) < peak_megabytes(200_000) + 60
