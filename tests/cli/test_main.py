"""The command through typer's runner, and as a process of its own, interrupted in mid-run."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading

import jax
import numpy as np
import optax
import pytest
from tqdm.auto import tqdm
from typer.testing import CliRunner

import xorjax as xj
from xorjax.cli.main import app
from xorjax.cli.terminal import describe_outcome

pytestmark = pytest.mark.lenient  # optax's optimizers mix dtypes
COMMAND = [sys.executable, "-m", "xorjax"]


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "120"})


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_train_is_the_tutorial(tmp_path):
    result = run("train", "--seed", 1, "--learning-rate", 1.0, "--epochs", "2e3", "--plot", tmp_path / "loss.png")
    assert result.exit_code == 0, result.output
    alone = jax.jit(xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(1.0), epochs=2000).run)(jax.random.key(1))
    assert " Total params: 9 (36.00 B)" in result.stdout
    outputs = re.findall(r"^([01] [01]) → ([\d.]+) +\(target ([01])\)$", result.stdout, re.M)
    assert [(bits, target) for bits, _, target in outputs] == [
        ("0 0", "0"),
        ("0 1", "1"),
        ("1 0", "1"),
        ("1 1", "0"),
    ]
    np.testing.assert_allclose([float(o) for _, o, _ in outputs], alone.predictions[:, 0], atol=1e-4)
    assert f"solved since epoch {alone.solved_epoch:,}: loss" in result.stdout
    assert "accuracy 1.00 after 2,000 epochs (all patterns right and a loss below 0.01)" in result.stdout
    assert is_png(tmp_path / "loss.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", ["adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lbfgs", "contrib.muon"))]
)
def test_train_with_any_optimizer_and_size(optimizer, quick_compiler):
    rate = ["--optimizer", optimizer, "--learning-rate", 0.05]
    result = run("train", *rate, "--epochs", 60, "--hidden-units", 3, "--batch-size", 3)
    assert result.exit_code == 0, result.output
    assert "after 60 epochs, since " in result.stdout


@pytest.mark.slow
def test_momentum_and_batch_size_are_those_of_the_trainer(quick_compiler):
    result = run(
        "train", "--momentum", 0.9, "--learning-rate", 0.1, "--epochs", 90, "--batch-size", 3, "--seed", 4
    )
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1, 0.9), epochs=90, batch_size=3)
    alone = jax.jit(trainer.run)(jax.random.key(4))
    loss = re.search(r"loss ([\d.e-]+), accuracy", result.stdout)
    assert loss is not None, result.output
    np.testing.assert_allclose(float(loss[1]), alone.loss, rtol=1e-4)


OUTCOMES = {
    "solved since epoch 7: loss 0.001, accuracy 1.00 after 9 epochs (all patterns right and a loss below 0.01)": (
        xj.Outcome.SOLVED,
        0.001,
        1.0,
    ),
    "unsolved: loss 0.0135, accuracy 1.00 after 9 epochs, since the loss is not below 0.01": (
        xj.Outcome.UNSOLVED,
        0.0135,
        1.0,
    ),
    "unsolved: loss 0.2, accuracy 0.50 after 9 epochs, since not all patterns are right and the loss is not below "
    "0.01": (xj.Outcome.UNSOLVED, 0.2, 0.5),
    "diverged: loss nan, accuracy 0.50 after 9 epochs": (xj.Outcome.DIVERGED, np.nan, 0.5),
}


@pytest.mark.parametrize("words", OUTCOMES)
def test_the_last_line_says_why_a_network_is_not_solved(words):
    outcome, loss, accuracy = OUTCOMES[words]
    seven, nine = np.asarray(7), np.asarray(9)
    loss, accuracy = np.asarray(loss, np.float32), np.asarray(accuracy, np.float32)
    result = xj.Result(None, loss, accuracy, np.zeros((4, 1)), np.asarray(outcome), seven, nine)
    assert describe_outcome(result) == words


def test_ensemble_reports_what_the_library_computes(tmp_path):
    files = {"--json": tmp_path / "out.json", "--plot": tmp_path / "ensemble.png"}
    args = ["--seeds", "5:105", "--learning-rate", 1.0, "--epochs", 2000, "--momentum", 0.5]
    result = run("ensemble", *args, *[part for pair in files.items() for part in pair])
    assert result.exit_code == 0, result.output
    report = json.loads(files["--json"].read_text())
    trainer = xj.trainer(
        xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"], h["momentum"]), epochs=2000
    )
    results = xj.train_ensemble(trainer, range(5, 105), {"learning_rate": 1.0, "momentum": 0.5})
    right = int((results.accuracy == 1).sum())
    solved = int((results.outcome == xj.Outcome.SOLVED).sum())
    assert 0 < solved <= right < 100
    assert report["members"] == 100
    assert (report["all_right"]["members"], report["solved"]["members"]) == (right, solved)
    assert report["all_right"]["low"] < right / 100 < report["all_right"]["high"]
    assert report["loss_quantiles"]["0.5"] == pytest.approx(float(np.sort(results.loss)[49]))
    assert sum(c["members"] for c in report["ended_as"]) == 100
    assert report["published"][0]["source"] == "the tutorial"
    assert report["settings"] == {
        "seeds": [5, 105],
        "task": "xor",
        "network": "2-2-1",
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "momentum": 0.5,
        "epochs": 2000,
        "batch_size": 4,
        "stop": "never",
        "held_out": None,
    }
    assert report["versions"]["jax"] == jax.__version__
    for text in (
        "100 members: 2-2-1, sgd, learning rate 1, momentum 0.5, 2,000 epochs",
        f"all patterns right  {right}.0 %",
        "were solved within epochs",
        "at the targets",
        'its reader, "seed 7"',
    ):
        assert text in result.stdout
    assert is_png(files["--plot"])


@pytest.mark.slow
def test_a_report_says_never_where_nothing_is_solved(tmp_path):
    link, target = tmp_path / "link.json", tmp_path / "target.json"  # a link to a file that is not there yet
    link.symlink_to(target)
    result = run("ensemble", "--seeds", 3, "--epochs", 2, "--json", link, "--plot", tmp_path / "a.svg")
    assert result.exit_code == 0, result.output
    assert "never" in result.stdout
    assert link.is_symlink()
    assert json.loads(target.read_text())["epochs_to_solve"] == dict.fromkeys(
        ("0.05", "0.25", "0.5", "0.75", "0.95")
    )


@pytest.mark.slow
def test_members_that_all_diverged_are_reported_too(tmp_path):
    wild = ["--optimizer", "adam", "--learning-rate", 1e38, "--epochs", 20]
    result = run("ensemble", "--seeds", 3, *wild, "--json", tmp_path / "b.json", "--plot", tmp_path / "b.png")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "b.json").read_text())["diverged"]["members"] == 3


def test_info_names_versions_devices_and_engines():
    result = run("info")
    assert result.exit_code == 0
    for name, value in {
        "xorjax": xj.__version__,
        "jax": jax.__version__,
        "engines": "lanes, vmap, interpret",
    }.items():
        assert re.search(rf"^{name} +{re.escape(value)}", result.stdout, re.M)
    assert str(jax.devices()[0]) in result.stdout


def test_it_says_its_version_and_explains_its_words():
    assert run("--version").stdout == f"{xj.__version__}\n"
    words = " ".join(run("--help").stdout.split())
    for word in (
        "member is",
        "solved when",
        "engine is",
        "hyper-parameters (",
        "net-steps/s are",
        "--install-comp",
    ):
        assert word in words


def test_a_shell_completes_commands_and_options():
    words = {"_XORJAX_COMPLETE": "complete_bash", "COMP_WORDS": "xorjax ensemble --learn", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], env=words, prog_name="xorjax")
    assert result.stdout.split() == ["--learning-rate"]


WRONG = {
    "an unknown command": (["trane"], "No such command 'trane'"),
    "an unknown option": (["train", "--epoch", "5"], "No such option: --epoch"),
    "an abbreviation of the field": (
        ["train", "--lr", "5"],
        "No such option: --lr; did you mean --learning-rate?",
    ),
    "no epochs": (["train", "--epochs", "0"], "--epochs=0 must be between 1 and 1073741824"),
    "epochs in words": (["train", "--epochs", "many"], "--epochs='many' must be an integer"),
    "a negative seed": (["train", "--seed", "-1"], "--seed=-1 must be between 0 and 4294967295"),
    "a seed over 2^32 - 1": (["train", "--seed", "4294967296"], "--seed=4294967296 must be between 0 and 42949"),
    "a nan learning rate": (
        ["ensemble", "--learning-rate", "nan"],
        "--learning-rate='nan' must be a finite number",
    ),
    "infinite momentum": (["ensemble", "--momentum", "inf"], "--momentum='inf' must be a finite number"),
    "an infinite rate of one network": (["train", "--learning-rate", "inf"], "--learning-rate=inf must be a fin"),
    "an unknown optimizer": (["train", "--optimizer", "adma"], "--optimizer='adma' must be one of"),
    "an optimizer that needs more": (["train", "--optimizer", "contrib.sophia"], "can't be used here"),
    "momentum for adam": (["train", "--optimizer", "adam", "--momentum", "0.9"], "--momentum: the optimizer adam"),
    "no hidden units": (["train", "--hidden-units", "0"], "--hidden-units=0 must be between 1 and 1024"),
    "a batch of five": (["ensemble", "--batch-size", "5"], "--batch-size=5 must be between 1 and n=4"),
    "a batch over a task": (
        ["ensemble", "--task", "parity:3", "--batch-size", "9"],
        "--batch-size=9 must be between 1 and n=8",
    ),
    "a batch of none": (["ensemble", "--batch-size", "0"], "--batch-size=0 must be between 1 and"),
    "rates in words": (
        ["ensemble", "--learning-rate", "fast"],
        "--learning-rate='fast' must be a finite number of float32, a list of them such as 0.1,0.5, or from:",
    ),
    "a list with a gap": (["ensemble", "--momentum", "0.1,,0.5"], "--momentum='0.1,,0.5' must be a finite number"),
    "a range without a count": (["ensemble", "--momentum", "0:0.9"], "--momentum='0:0.9' must be a finite number"),
    "a range of half a count": (
        ["ensemble", "--momentum", "0:1:2.5"],
        "--momentum='0:1:2.5' must be a finite num",
    ),
    "a range of one": (["ensemble", "--momentum", "0:0.9:1"], "'0:0.9:1' must go from one number to another"),
    "a range to where it began": (["ensemble", "--momentum", "0.9:0.9:3"], "and have a count from 2 to 10000"),
    "a rate beyond float32": (
        ["ensemble", "--learning-rate", "1e39"],
        "='1e39' must be a finite number of float32",
    ),
    "a rate twice": (
        ["ensemble", "--learning-rate", "0.1", "--learning-rate", "0:0.2:3"],
        "--learning-rate=[0.1, 0.0, 0.1, 0.2] must hold each value once, in float32",
    ),
    "two rates that are one": (["ensemble", "--learning-rate", "0.1,0.100000000001"], "must hold each value once"),
    "a size twice": (
        ["ensemble", "--hidden-units", "2,3,2"],
        "--hidden-units=[2, 3, 2] must hold each value once",
    ),
    "a size of none": (["ensemble", "--hidden-units", "2,0"], "--hidden-units=0 must be between 1 and 1024"),
    "sizes in words": (["ensemble", "--hidden-units", "two"], "--hidden-units='two' must be an integer"),
    "momenta for adam": (
        ["ensemble", "--optimizer", "adam", "--momentum", "0:0.9:3"],
        "--momentum: the optimizer adam takes learning_rate, b1, ",
    ),
    "two faults": (["ensemble", "--epochs", "0", "--stop", "now"], "--stop='now' must be one of never, solved"),
    "too many combinations": (
        ["ensemble", "--learning-rate", "0:1:101", "--momentum", "0:0.9:100"],
        "name 10,100 combinations; at most 10,000 are allowed",
    ),
    "several rates for one network": (["train", "--learning-rate", "0.1,0.5"], "'--learning-rate'"),
    "an unknown task": (
        ["ensemble", "--task", "and"],
        "--task='and' must be xor, parity:3, or the outputs of a truth table such as 0110",
    ),
    "parity of too many": (["ensemble", "--task", "parity:9"], "'parity:9' must be parity:N with N from 1 to 8"),
    "parity of none": (["ensemble", "--task", "parity:0"], "'parity:0' must be parity:N with N from 1 to 8"),
    "a table of three": (["ensemble", "--task", "011"], "'011' has 3 digits; a truth table has 2, 4, 8, … 256"),
    "an unknown stop": (["ensemble", "--stop", "solvd"], "--stop='solvd' must be one of never, solved"),
    "seeds in words": (["ensemble", "--seeds", "ten"], "--seeds='ten' must be a count such as 10000, or a range"),
    "no seeds": (["ensemble", "--seeds", "0"], "--seeds='0' must name at least one seed"),
    "a backward range": (["ensemble", "--seeds", "9:5"], "--seeds='9:5' must name at least one seed"),
    "seeds over 2^32": (["ensemble", "--seeds", "4294967297"], "all of them from 0 to 4294967295"),
    "a figure of no kind": (["ensemble", "--plot", "a.gif"], "'--plot': 'a.gif' must end in .png, .pdf or .svg"),
    "a figure nowhere": (["train", "--plot", "no/where/a.png"], "must be a file in an existing folder"),
    "a report nowhere": (
        ["ensemble", "--json", "no/where/a.json"],
        "'--json': 'no/where/a.json' must be a file in",
    ),
    "all held out": (
        ["ensemble", "--validation-split", "1"],
        "--validation-split=1.0 must be a number between 0 and 1.",
    ),
    "a batch larger than what is left": (
        ["ensemble", "--validation-split", "0.25", "--batch-size", "4"],
        "--batch-size=4 must be between 1 and n=3",
    ),
    "a report on a folder": (["ensemble", "--json", "."], "'--json': '.' must be a file"),
    "a network with nothing to explain": (["info", "--optimizer", "adam"], "--optimizer=adam is for --explain"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_end_in_one_line_and_exit_code_2(name):
    args, text = WRONG[name]
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert text in result.stderr
    assert result.stderr.startswith("xorjax: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_process_ends_with_the_report_alone_on_stdout():
    args = ["ensemble", "--seeds", "20", "--epochs", "50"]
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, check=True)
    assert "20 members: 2-2-1, sgd, learning rate 0.01, 50 epochs" in done.stdout
    assert "100%" in done.stderr


@pytest.mark.slow
def test_files_are_kept_where_the_report_cannot_be_shown(tmp_path):
    args = [*COMMAND, "ensemble", "--seeds", "5", "--epochs", "20", "--json", str(tmp_path / "out.json")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(args, capture_output=True, env=ascii_only, check=True)
    assert b"5 members: 2-2-1" in done.stdout
    (tmp_path / "out.json").unlink()
    with open("/dev/full", "w") as full:
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["members"] == 5


WITHOUT = "import sys; sys.modules['typer'] = None; import xorjax.__main__ as m; m.main()"


def test_without_its_extra_the_command_says_which():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "xorjax: the command needs typer: pip install 'xorjax[cli]'\n"


def test_ctrl_c_reports_the_members_that_finished(tmp_path, monkeypatch):
    update = tqdm.update

    def press_ctrl_c(self, n=1):
        update(self, n)
        if self.n > 0.4 * self.total:
            signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    monkeypatch.setattr(tqdm, "update", press_ctrl_c)
    monkeypatch.setattr("xorjax.ensembles.scheduler.REPORT_SECONDS", 0)
    result = run("ensemble", "--seeds", 9_000, "--epochs", 500, "--json", tmp_path / "out.json")
    assert result.exit_code == 130
    counts = re.search(r"interrupted: the report is of the ([\d,]+) of 9,000 members that finished", result.stderr)
    assert counts is not None, result.stderr
    members = int(counts[1].replace(",", ""))
    assert 0 < members < 9_000
    assert json.loads((tmp_path / "out.json").read_text())["members"] == members
    assert f"{members:,} members" in result.stdout


def interrupted(args, when):
    """Runs the command on a terminal, sends SIGINT once its bar matches `when`; its code, stdout and stderr."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and by what it starts, in a background job
    terminal, end_of_command = pty.openpty()
    termios.tcsetwinsize(end_of_command, (24, 120))

    def read() -> str:
        try:
            return os.read(terminal, 4096).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # the command has closed its end
            return ""

    with subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=end_of_command, text=True) as process:
        os.close(end_of_command)
        killer = threading.Timer(240, process.kill)
        killer.start()
        shown = ""
        while not re.search(when, shown):
            text = read()
            assert text, f"the command ended before it showed {when!r}: {shown}"
            shown += text
        process.send_signal(signal.SIGINT)
        stderr = "".join(iter(read, ""))
        stdout, _ = process.communicate()
        killer.cancel()
    os.close(terminal)
    return process.returncode, stdout, stderr


@pytest.mark.slow
def test_ctrl_c_in_mid_run_reports_the_members_that_finished(tmp_path):
    report = tmp_path / "out.json"
    args = ["ensemble", "--seeds", "10240", "--epochs", "100000", "--json", str(report)]
    code, stdout, stderr = interrupted(args, r"[3-9]\d%")  # ten chunks, so that some are done and some are not
    assert code == 130
    assert "Traceback" not in stdout + stderr
    counts = re.search(r"interrupted: the report is of the ([\d,]+) of 10,240 members that finished", stderr)
    assert counts is not None
    members = int(counts[1].replace(",", ""))
    assert 0 < members < 10_240
    assert json.loads(report.read_text())["members"] == members
    assert f"{members:,} members:" in stdout


@pytest.mark.slow
def test_ctrl_c_in_a_sweep_reports_every_combination_so_far(tmp_path):
    report = tmp_path / "out.json"
    axes = ["--hidden-units", "2,3", "--learning-rate", "0.1,0.5"]
    files = ["--json", str(report), "--plot", str(tmp_path / "map.png")]
    args = ["ensemble", "--seeds", "500", "--epochs", "100000", *axes, *files]
    code, stdout, stderr = interrupted(args, r" 5\d%")  # the first network is done
    assert code == 130
    assert "Traceback" not in stdout + stderr
    assert "interrupted: the report is of the 1,000 of 2,000 members that finished" in stderr
    made = json.loads(report.read_text())
    assert [made["members"], *(group["members"] for group in made["groups"])] == [1000, 500, 500, 0, 0]
    for group in made["groups"][2:]:
        assert group["members"] == 0
        assert group["solved"] == {"members": 0, "share": None, "low": None, "high": None}
        assert group["epochs_to_solve"]["0.5"] is None
    assert re.search(r"^3 +0\.5 +0 +– ", stdout, re.M)
    assert is_png(tmp_path / "map.png")


@pytest.mark.slow
def test_ctrl_c_before_any_member_finished_says_so():
    code, stdout, stderr = interrupted(["ensemble", "--seeds", "10", "--epochs", "1000000000"], r"net-steps/s")
    assert (code, stdout) == (130, "")
    assert stderr.endswith("xorjax: interrupted: before any member finished\n")


@pytest.mark.slow
def test_ctrl_c_in_mid_run_reports_the_network_so_far():
    wide = ["--hidden-units", "300", "--batch-size", "1"]  # each 500th of the run would take minutes
    code, stdout, stderr = interrupted(["train", "--epochs", "1000000000", *wide], r"loss 0\.\d+")
    assert code == 130
    assert "Traceback" not in stdout + stderr
    epochs = re.search(r"accuracy [\d.]+ after ([\d,]+) epochs", stdout)
    assert epochs is not None
    assert 0 < int(epochs[1].replace(",", "")) < 10**9
    assert "xorjax: interrupted: after" in stderr
