"""`xorjax study`: run, status, verify, replay, report; and its page in a real browser."""

import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from urllib.parse import urlsplit

import numpy as np
import pandas
import pytest
import xarray
import zarr
from typer.testing import CliRunner

import xorjax as xj
from xorjax.cli.main import app
from xorjax.reports.notable import notable_members

PLAN = """
seeds = 60
epochs = 400
stop = "solved"
shard_size = 32
[axes]
learning_rate = [0.5, 2.0]
momentum = [0.0, 0.9]
"""
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def run(*args):
    return CliRunner().invoke(app, ["study", *map(str, args)], env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "plan.toml").write_text(PLAN)
    result = run("run", folder / "plan.toml", "--store", folder / "a.zarr")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{folder / 'a.zarr'}: 240 of 240 members, ")
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made / "a.zarr", tmp_path / "a.zarr")


def test_a_run_is_the_ensemble_of_its_plan(made):
    dataset = xj.open_study(made / "a.zarr")
    assert dict(dataset.sizes) | {"learning_rate": 2, "momentum": 2, "seed": 60} == dict(dataset.sizes)
    share = float((dataset.outcome == xj.Outcome.SOLVED).mean())
    again = run("run", made / "plan.toml", "--store", made / "a.zarr")
    assert f"{100 * share:.1f} % solved" in again.stdout
    assert "; 0 trained in " in again.stdout
    assert "study: 100%" in again.stderr


def test_options_stand_for_a_file(tmp_path):
    options = [
        "--seeds",
        "5:40",
        "--learning-rate",
        "0.5,2",
        "--momentum",
        "0.9",
        "--epochs",
        "50",
        "--keep",
        "loss",
    ]
    result = run("run", *options, "--store", tmp_path / "a.zarr")
    assert result.exit_code == 0, result.stderr
    dataset = xj.open_study(tmp_path / "a.zarr")
    assert sorted(map(str, dataset.data_vars)) == ["loss", "outcome"]
    np.testing.assert_array_equal(dataset.learning_rate, [0.5, 2.0])
    np.testing.assert_array_equal(dataset.seed, range(5, 40))


def test_status_says_how_far_it_is(made):
    result = run("status", made / "a.zarr")
    assert "240 of 240 members (100.0 %)" in result.stdout
    assert "2 learning_rate × 2 momentum × 60 seed" in result.stdout
    found = json.loads(run("status", made / "a.zarr", "--json").stdout)
    assert (found["committed"], found["workers"]) == (240, {})


def test_verify_trains_a_sample_again(made):
    result = run("verify", made / "a.zarr", "--sample", "30")
    assert result.exit_code == 0, result.stderr
    words = "240 of 240 members read, (29|30) trained again, 0 files damaged, 0 values that differ"
    assert re.search(words, result.stdout)


def test_verify_names_what_is_damaged_and_repairs_it(made, copy):
    chunk = sorted((copy / "loss").glob("c.*"))[0]
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:10] + bytes([sound[10] ^ 4]) + sound[11:])
    result = run("verify", copy)
    assert result.exit_code == 1
    assert f"{chunk} is damaged: " in result.stderr
    assert "1 files damaged" in result.stdout
    result = run("verify", copy, "--repair")
    assert result.exit_code == 0, result.stderr
    assert "shards trained anew: 1" in result.stdout
    assert result.stdout.endswith("0 files damaged, 0 values that differ\n")
    assert chunk.read_bytes() == sound


def test_repair_trains_the_damaged_shards_alone(tmp_path):
    store = tmp_path / "a.zarr"
    options = ["--seeds", "20000", "--epochs", "2", "--keep", "loss", "--store", store]
    assert run("run", *options, "--worker", "1/2").exit_code == 0
    before = json.loads(run("status", store, "--json").stdout)["committed"]
    chunk = store / "loss/c.0"
    chunk.write_bytes(b"damaged")
    result = run("verify", store, "--sample", "0", "--repair")
    assert "shards trained anew: 1" in result.stdout, result.output
    assert json.loads(run("status", store, "--json").stdout)["committed"] == before < 20_000


@pytest.mark.slow
def test_verify_repairs_values_that_differ(made, copy):
    array = zarr.open_array(copy / "loss")
    sound = np.asarray(array)
    array[1, 0, 3] = 9.0
    result = run("verify", copy, "--sample", "240", "--repair")
    assert result.exit_code == 0, result.stderr
    assert "not the same when trained again: loss of seed=3, learning_rate=2, momentum=0" in result.stderr
    assert "1 values that differ" in result.stdout
    np.testing.assert_array_equal(zarr.open_array(copy / "loss"), sound)


@pytest.mark.slow
def test_what_can_not_be_trained_again_here_is_read_all_the_same(copy, tmp_path):
    document = json.loads((copy / "zarr.json").read_text())
    document["attributes"]["xorjax"]["versions"]["jax"] = "0.1"
    (copy / "zarr.json").write_text(json.dumps(document))
    result = run("verify", copy)
    assert result.exit_code == 0
    assert "can't be trained again here, where it differs in:\n- versions.jax: '0.1' in the store" in result.stderr
    assert "240 of 240 members read, 0 trained again, 0 files damaged" in result.stdout
    result = run("report", copy, "--output", tmp_path / "page.html")
    assert result.exit_code == 0
    assert "versions.jax: '0.1'" in result.stderr
    assert len(Page((tmp_path / "page.html").read_text()).images) == 5  # no surfaces, which are trained again
    (copy / "loss/c.0.0.0").write_bytes(b"")
    result = run("verify", copy, "--repair")
    assert result.exit_code == 2
    assert "shards that can't be trained anew here: 0" in result.stderr
    assert (copy / "loss/c.0.0.0").exists()


def test_replay_is_the_member_in_the_store(made, copy):
    at = ["--seed", "7", "--at", "learning_rate=2.0", "--at", "momentum=0.9"]
    result = run("replay", copy, *at)
    assert result.exit_code == 0, result.stderr
    own = xj.open_study(copy).sel(seed=7, learning_rate=2.0, momentum=0.9)
    assert f"1 0 → {float(own.predictions[2, 0]):.8f}   (target 1)" in result.stdout
    assert "the same, bit for bit, in the store" in result.stdout


@pytest.mark.slow
def test_a_replay_that_differs_says_in_what(copy):
    zarr.open_array(copy / "loss")[1, 1, 7] = 0.5
    result = run("replay", copy, "--seed", "7", "--at", "learning_rate=2.0", "--at", "momentum=0.9")
    assert result.exit_code == 1
    assert "not the same in the store: loss" in result.stdout


def test_xarray_writes_netcdf_and_parquet_as_readme_shows(made, tmp_path):
    dataset = xj.open_study(made / "a.zarr")[["loss", "outcome"]]
    dataset.drop_attrs().to_netcdf(tmp_path / "a.nc")
    xarray.testing.assert_equal(xarray.open_dataset(tmp_path / "a.nc"), dataset)
    dataset.to_dataframe().to_parquet(tmp_path / "a.parquet")
    table = pandas.read_parquet(tmp_path / "a.parquet")
    xarray.testing.assert_equal(table.to_xarray().loss, dataset.loss)


class Page(HTMLParser):
    """What a page has: its images, the addresses that it names, its text."""

    def __init__(self, text):
        super().__init__()
        self.images: list[dict] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def page(made):
    result = run("report", made / "a.zarr", "--output", made / "page.html")
    assert result.exit_code == 0, result.stderr
    return made / "page.html"


def test_the_report_is_one_page_that_asks_for_nothing(made, page):
    found = Page(page.read_text())
    assert all(address.startswith("data:") for address in found.addresses)
    assert len(found.images) == 6  # two axes, their map, losses, survival, surfaces
    assert all(image["alt"] for image in found.images)
    dataset = xj.open_study(made / "a.zarr")
    share = float((dataset.outcome == xj.Outcome.SOLVED).mean())
    assert f"{100 * share:.1f} %" in found.words
    slowest = int(dataset.solved_epoch.where(dataset.outcome == xj.Outcome.SOLVED).max())
    assert f"{slowest:,}" in found.words


@pytest.mark.slow
def test_the_commands_of_the_report_give_these_members(page):
    commands = re.findall(r"xorjax study replay (\S+ --seed [^<]+)<", page.read_text())
    assert len(commands) > 5
    result = run("replay", *commands[0].split())
    assert result.exit_code == 0, result.stderr
    assert "the same, bit for bit, in the store" in result.stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "plan.toml").write_text("seeds = '7:8'\nepochs = 3\n[axes]\nlearning_rate = [2.0]\n")
    store = folder / "we ird & $(id).zarr"
    assert run("run", folder / "plan.toml", "--store", store).exit_code == 0
    assert run("report", store, "--output", folder / "page.html").exit_code == 0
    return store, (folder / "page.html").read_text()


@pytest.mark.slow
def test_a_shell_reads_the_commands_of_the_report_as_they_are_meant(tiny):
    store, text = tiny
    (words, *_) = (shlex.split(html.unescape(each)) for each in re.findall("<code>(.*?)</code>", text))
    assert words == ["xorjax", "study", "replay", str(store), "--seed", "7", "--at", "learning_rate=2.0"]
    assert run(*words[2:]).exit_code == 0


@pytest.mark.slow
def test_the_report_of_one_member_speaks_of_one_and_of_its_loss(tiny):
    store, text = tiny
    words = Page(text).words
    assert "1 network\n" in words
    assert "1member" in words
    assert "1 value: 2" in words
    assert "1: 7" in words
    assert not re.search(r"\b1 ?(networks|members|values)", words)
    loss = float(xj.open_study(store).loss.item())
    (quantiles,) = re.findall(r"(\d\S*?)median loss \(5 % to 95 %: (\S+) to (\S+?)\)", words)
    np.testing.assert_allclose([float(each) for each in quantiles], loss, rtol=1 / 100)


def test_a_member_that_stands_out_in_two_ways_is_told_once():
    results = xj.Result(
        params=None,
        loss=np.array([0.1, 0.2, np.nan]),
        accuracy=np.ones(3),
        predictions=np.ones((3, 4, 1)),
        outcome=np.array([xj.Outcome.SOLVED, xj.Outcome.SOLVED, xj.Outcome.DIVERGED]),
        solved_epoch=np.array([9, 5, -1]),
        epochs=np.array([9, 9, 9]),
    )
    standouts = notable_members()
    found = standouts.finalize(standouts.update({}, results, {"seed": np.arange(3)}))
    assert [(member.indices["seed"], member.description) for member in found] == [
        (0, "solved last, solved first, greatest loss, least loss"),
        (1, "solved last, solved first, greatest loss, least loss"),
        (2, "diverged"),
    ]


@pytest.mark.slow
def test_a_browser_opens_the_report(page, tmp_path):
    if BROWSER is None:
        assert "XORJAX_BROWSER" not in os.environ, "a browser is wanted here, and there is none"
        pytest.skip("no Chromium is installed")
    probe = (
        "<script>addEventListener('load', () => { const all = [...document.images]; document.title = "
        "'looked: ' + all.filter(i => i.complete && i.naturalWidth > 300).length + ' of ' + all.length + ', ' + "
        "(document.documentElement.scrollWidth <= innerWidth); })</script></body>"
    )
    looked_at, empty = tmp_path / "page.html", tmp_path / "empty.html"
    looked_at.write_text(page.read_text().replace("</body>", probe))
    empty.write_text("<!doctype html><title>nothing</title>")
    (dom, said, asked), (_, _, by_itself) = (browsed(path, tmp_path) for path in (looked_at, empty))
    assert "<title>looked: 6 of 6, true</title>" in dom
    assert "CONSOLE" not in said
    assert asked - by_itself <= {""}  # files and data have no host


def browsed(path, folder):
    """What Chromium makes of a page, what it says, and the hosts that it asks."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            str(BROWSER),
            *"--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync".split(),
            *"--disable-background-networking --disable-component-update --enable-logging=stderr".split(),
            *"--window-size=1100,900 --virtual-time-budget=5000 --dump-dom".split(),
            f"--user-data-dir={folder / path.stem}",
            f"--log-net-log={log}",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    urls = re.findall(r'"url":"([^"]*)"', log.read_text())
    return done.stdout, done.stderr, {urlsplit(url).netloc for url in urls}


WRONG = {
    "no store": (["run"], "--store, or store in the file, must say where"),
    "a file and options": (["run", "PLAN", "--epochs", "3"], "--epochs and the file "),
    "a file that is not there": (["run", "no.toml", "--store", "a"], "no.toml"),
    "an unknown optimizer": (["run", "--optimizer", "sdg", "--store", "a"], "did you mean 'sgd'?"),
    "a worker of none": (["run", "--store", "STORE", "--seeds", "3", "--worker", "0/3"], "worker[0]=0 must be"),
    "another study": (["run", "--store", "MADE", "--seeds", "300"], "holds another study, which differs in"),
    "the status of no name": (["status", ""], "'' must be a folder"),
    "the status of nothing": (["status", "no.zarr"], "'no.zarr' holds no study"),
    "a report of nothing": (["report", "no.zarr"], "'no.zarr' holds no study"),
    "a member that is none": (
        ["replay", "MADE", "--seed", "300"],
        "learning_rate is not given; it must be one of 0.5, 2.0",
    ),
    "an axis that is none": (
        ["replay", "MADE", "--seed", "3", "--at", "learning_rate=0.5", "--at", "momentum=0.9", "--at", "b=1"],
        "b must be among the axes: learning_rate, momentum",
    ),
    "a seed that is none": (
        ["replay", "MADE", "--seed", "300", "--at", "learning_rate=0.5", "--at", "momentum=0.9"],
        "seed=300 is not in the study",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_end_with_a_word_and_exit_code_2(name, made, tmp_path, monkeypatch):
    args, what = WRONG[name]
    monkeypatch.chdir(tmp_path)
    names = {"PLAN": made / "plan.toml", "MADE": made / "a.zarr", "STORE": tmp_path / "b.zarr"}
    result = run(*(names.get(arg, arg) for arg in args))
    assert result.exit_code in (1, 2)
    assert what in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "b.zarr").exists()


def test_another_study_is_refused_with_its_values_and_on_demand_its_program(made):
    other = ["run", "--seeds", 60, "--epochs", 300, "--store", made / "a.zarr"]
    short, long = run(*other), run(*other, "--verbose")
    assert short.exit_code == long.exit_code == 2
    for result in (short, long):
        assert "\n- plan.epochs: 400 in the store, 300 asked for\n" in result.stderr
    assert short.stderr.endswith("--verbose shows how the programs differ.\n")
    assert re.search(r"^\+.*\b300\b", long.stderr, re.M)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_committed_and_says_how_to_go_on(tmp_path):
    plan = "seeds = 100_000\nepochs = 2_000\nshard_size = 1024\n"
    (tmp_path / "plan.toml").write_text(plan)
    command = [sys.executable, "-m", "xorjax", "study", "run", "plan.toml", "--store", "a.zarr"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and by what it starts, in a background job
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "a.zarr/outcome").glob("c.*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    found = re.search(r"interrupted: ([\d,]+) of 100,000 members are committed in a.zarr; the same command", err)
    assert found, err
    committed = int(found[1].replace(",", ""))
    status = json.loads(run("status", tmp_path / "a.zarr", "--json").stdout)
    assert status["committed"] == committed > 0
    assert status["workers"] == {}
