"""Several processes at one ensemble, over this machine's loopback: the same members, bits and statistics."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from studies.study_files import contents

import xorjax as xj
from xorjax import statistics as accumulators
from xorjax.ensembles import cluster, ensemble
from xorjax.ensembles.fingerprint import program
from xorjax.ensembles.members import members_of

N = 1_500
SECONDS = 240  # for processes that are to end by themselves
LIMIT = 20  # for those that are to notice that another has died


@cache
def made(epochs=3_000, stop="solved"):
    return xj.trainer(
        xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"], 0.9), epochs=epochs, stop=stop
    )


def members():
    return xj.grid(seeds=range(N // 3), learning_rate=[0.3, 0.5, 1.0])


RATES = {"learning_rate": [0.3, 1.0]}


def statistics_of(mesh=None):
    by = ["learning_rate"]
    found = xj.train_ensemble(
        made(),
        members(),
        mesh=mesh,
        reduce={
            "solved": accumulators.share(by=by),
            "loss": accumulators.moments(by=by),
            "quantiles": accumulators.quantiles([0.1, 0.5, 0.9]),
            "classes": accumulators.classes(xj.xor().y),
        },
    )
    return hashlib.sha256(repr(jax.tree.map(lambda x: np.asarray(x).tolist(), found)).encode()).hexdigest()


def bits(results):
    return b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(results))


def process(coordinator, n, number, task):
    """What one process does; run by `started`."""
    with cluster.joined(coordinator, int(n), int(number)) as mesh:
        if task == "members":
            share = xj.ensembles.members_here(N, mesh)
            results = xj.train_ensemble(made(), members(), mesh=mesh)
            assert len(results.loss) == share.stop - share.start
            leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(results)]
            every = cluster.of_all_processes(leaves, "leaves")
            whole = b"".join(np.concatenate(parts).tobytes() for parts in zip(*every, strict=True))
            print(json.dumps({"digest": hashlib.sha256(whole).hexdigest(), "statistics": statistics_of(mesh)}))
        elif task == "endless":
            print("training", flush=True)
            xj.train_ensemble(made(2**30, "never"), members(), mesh=mesh)
        elif task == "waiting" and int(number) == 1:
            print("training", flush=True)
            time.sleep(SECONDS)
        elif task == f"failing {number}":
            raise ValueError("this one is broken")
        elif task.startswith("study "):
            seen = []
            path = task.removeprefix("study ")
            dataset = xj.run_study(made(), range(300), RATES, store=path, unit=64, mesh=mesh, progress=seen.append)
            done = dataset.outcome == xj.Outcome.SOLVED
            print(json.dumps({"trained": seen[-1].trained, "solved": int(done.sum())}))
        elif task == "other seeds":
            xj.train_ensemble(made(), range(100 + int(number)), {"learning_rate": 1.0}, mesh=mesh)
        elif task == "another trainer":
            xj.train_ensemble(made(3_000 + int(number)), range(100), {"learning_rate": 1.0}, mesh=mesh)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(n, command):
    """`n` processes of a command, which is a function of where process 0 is, and of their number."""
    coordinator = f"127.0.0.1:{free_port()}"
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (Path(xj.__file__).parents[1], Path(__file__).parents[1]))),
    }
    return [
        subprocess.Popen(
            [sys.executable, *command(coordinator, str(number))],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(n)
    ]


def ended(processes, seconds):
    """Exit codes and what was written, once all have ended."""
    deadline = time.monotonic() + seconds
    try:
        outs = [each.communicate(timeout=max(1, deadline - time.monotonic())) for each in processes]
    finally:
        for each in processes:
            each.kill()
    return [(each.returncode, *out) for each, out in zip(processes, outs, strict=True)]


def of_task(task, n):
    return started(n, lambda coordinator, number: [__file__, coordinator, str(n), number, task])


def without_greetings(text):
    """Without what XLA's collectives say of themselves."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("[Gloo]"))


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_train_the_same_members_and_find_the_same_statistics(n):
    results = xj.train_ensemble(made(), members())
    wanted = {"digest": hashlib.sha256(bits(results)).hexdigest(), "statistics": statistics_of()}
    for code, out, err in ended(of_task("members", n), SECONDS):
        assert code == 0, err
        assert json.loads(without_greetings(out)) == wanted


def test_processes_share_a_study(tmp_path):
    dataset = xj.run_study(made(), range(300), RATES, store=tmp_path / "alone.zarr", unit=64)
    solved = int((dataset.outcome == xj.Outcome.SOLVED).sum())
    found = []
    for code, out, err in ended(of_task(f"study {tmp_path / 'shared.zarr'}", 2), SECONDS):
        assert code == 0, err
        found.append(json.loads(without_greetings(out)))
    assert contents(tmp_path / "shared.zarr") == contents(tmp_path / "alone.zarr")
    assert [each["solved"] for each in found] == [solved] * 2  # each sees all of it
    assert sum(each["trained"] for each in found) == 600
    assert all(each["trained"] for each in found)


@pytest.mark.parametrize(
    ("task", "n", "victim"),
    [
        ("endless", 3, 1),
        pytest.param("endless", 2, 0, marks=pytest.mark.slow),
        pytest.param("waiting", 2, 1, marks=pytest.mark.slow),
    ],
)
def test_the_others_of_one_that_is_killed_end_with_an_error(task, n, victim):
    processes = of_task(task, n)
    while "training" not in processes[victim].stdout.readline():
        assert processes[victim].poll() is None, processes[victim].stderr.read()
    time.sleep(1)
    processes[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    for number, (code, _, err) in enumerate(ended(processes, LIMIT)):
        if number == victim:
            assert code == -signal.SIGKILL
        else:
            assert code != 0
            # JAX itself ends those whose coordinator dies, and may be the first to say so.
            told = f"xorjax: process {victim} died or left; process {number} ends too."
            assert told in err or (victim == 0 and "another task died" in err)
    assert time.monotonic() - killed < LIMIT


@pytest.mark.parametrize("failing", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_the_others_of_one_that_fails_end_with_an_error(failing):
    found = ended(of_task(f"failing {failing}", 2), LIMIT)
    (code, _, said), (other_code, _, told) = found[failing], found[1 - failing]
    assert (code, other_code) == (1, cluster.OTHER_DIED), (said, told)
    assert f"process {failing} died or left; process {1 - failing} ends too" in told
    assert "ValueError: this one is broken" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "message"),
    [("other seeds", "members: <Members: 101 seed> "), ("another trainer", "trainer: 3001 epochs ")],
)
def test_processes_that_make_different_calls(task, message):
    for code, _, err in ended(of_task(task, 2), LIMIT):
        assert code == 1, err
        assert f"ValueError: {message}" in err
        assert "in process 0; all must make the same call." in err


OPTIONS = ["--seeds", "300", "--epochs", "2000", "--learning-rate", "0.5,2"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS, pytest.param([*OPTIONS[:-1], "1"], marks=pytest.mark.slow)])
def test_the_command_reports_what_one_process_would(options, tmp_path):
    def command(*others):
        return ["-m", "xorjax", "ensemble", *options, *others]

    alone = tmp_path / "alone.json"
    subprocess.run([sys.executable, *command("--json", str(alone))], check=True, capture_output=True)
    job = started(
        2,
        lambda coordinator, number: command(
            *("--distributed", "--coordinator", coordinator, "--num-processes", "2", "--process-id", number),
            *("--json", str(tmp_path / f"{number}.json")),
        ),
    )
    (first, report, err), (second, nothing, _) = ended(job, SECONDS)
    assert (first, second) == (0, 0), err
    assert "learning" in report
    assert without_greetings(nothing) == ""
    assert [path.name for path in tmp_path.iterdir() if path != alone] == ["0.json"]
    both, one = (json.loads(path.read_text()) for path in (tmp_path / "0.json", alone))
    for timed in ("seconds", "net_steps_per_second", "members_per_second"):
        both.pop(timed, None)
        one.pop(timed, None)
    assert both == one


@pytest.mark.slow
def test_the_study_command_in_a_job(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text("seeds = 300\nepochs = 2000\nunit = 64\n[axes]\nlearning_rate = [0.5, 2.0]\n")
    given = ["-m", "xorjax", "study", "run", str(plan), "--store", str(tmp_path / "a.zarr")]

    def command(coordinator, number):
        job = ["--distributed", "--coordinator", coordinator, "--num-processes", "2", "--process-id", number]
        return [*given, *job]

    (first, report, err), (second, nothing, nothing_too) = ended(started(2, command), SECONDS)
    assert (first, second) == (0, 0), err
    assert "300 of 300 members of its share" in report
    assert without_greetings(nothing) == without_greetings(nothing_too) == ""
    again = subprocess.run([sys.executable, *given], check=True, capture_output=True, text=True)
    assert "600 of 600 members" in again.stdout
    assert "; 0 trained" in again.stdout


def as_processes(monkeypatch, *tasks):
    """Runs each in a thread that takes itself for a process of its own; what they return or raise."""
    here, barrier = threading.local(), threading.Barrier(len(tasks))
    shared: dict[int, np.ndarray] = {}

    def gathered(words):
        barrier.wait(10)
        shared[here.number] = words
        barrier.wait(10)
        return np.stack([shared[number] for number in range(len(tasks))])

    monkeypatch.setattr(jax, "process_index", lambda: here.number)
    monkeypatch.setattr(jax, "process_count", lambda: len(tasks))
    monkeypatch.setattr(cluster, "_of_all", gathered)

    def run(number):
        here.number = number
        try:
            return tasks[number]()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, range(len(tasks))))


def test_what_processes_bring_is_the_same_thing(monkeypatch):
    def bring(thing, what):
        return lambda: cluster.of_all_processes(thing, what)

    assert as_processes(monkeypatch, bring(1, "a"), bring([2], "a")) == [[1, [2]], [1, [2]]]
    for error in as_processes(monkeypatch, bring(1, "a"), bring(1, "b")):
        assert isinstance(error, ValueError)
        assert str(error) == "process 1 brings b, and process 0 a; all must make the same calls."


def test_processes_that_gather_different_statistics(monkeypatch):
    def gather(reduce):
        nothing = reduce.init(members())
        return lambda: ensemble._merged(nothing, nothing, reduce)

    for one, other in [
        (accumulators.share(), accumulators.moments()),
        (accumulators.share(), accumulators.times()),
    ]:
        for error in as_processes(monkeypatch, gather(one), gather(other)):
            assert isinstance(error, ValueError)
            assert "all must make the same calls" in str(error)


def test_a_stranger_does_not_keep_processes_from_joining(monkeypatch):
    lines = [cluster._Line(), cluster._Line()]
    create = socket.create_server

    def with_strangers(*args, **options):
        server = create(*args, **options)
        port = server.getsockname()[1]
        strangers.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(2))
        strangers[1].sendall(b"GET / HTTP/1.1 and so on, for longer than a token")
        return server

    strangers: list[socket.socket] = []
    monkeypatch.setattr(socket, "create_server", with_strangers)
    monkeypatch.setattr(cluster, "STRANGER_SECONDS", 0.2)
    at = "127.0.0.1:1"
    assert as_processes(monkeypatch, *(partial(line.connect, at) for line in lines)) == [None, None]
    for line in lines:
        line.say_farewell()
    for line in lines:
        line.close()
    for stranger in strangers:
        stranger.close()


def test_processes_that_cannot_reach_each_other(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(socket, "create_connection", mock.Mock(side_effect=ConnectionRefusedError("refused")))
    at = "127.0.0.1:1"
    first, second = as_processes(monkeypatch, *(partial(cluster._Line().connect, at) for _ in range(2)))
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert str(first).startswith("processes [1] can't reach process 0 at port ")
    assert str(second).startswith("process 1 can't reach process 0 at port ")
    assert "(127.0.0.1: refused); ports between the machines of a job must be open." in str(second)


def test_trainers_that_differ_within_a_function_are_told_apart():
    model = xj.mlp((2, 2, 1))

    def digest(values, seed):
        array, key = jnp.array(values), jax.random.key(seed)
        scaled = jax.jit(lambda x: x * array + jax.random.normal(key, (1, 2)))
        of_it = xj.Model(model.init, lambda params, x: model.apply(params, scaled(x)))
        return program(xj.trainer(of_it, xj.xor(), optax.sgd(0.1), epochs=3), xj.grid(seeds=[0])).digest

    assert digest([[1.0, 2.0]], 0) == digest([[1.0, 2.0]], 0)
    assert len({digest([[1.0, 2.0]], 0), digest([[1.0, 3.0]], 0), digest([[1.0, 2.0]], 1)}) == 3


def test_the_same_members_are_described_alike():
    of_range, listed, in_few_bits = (
        members_of(seeds, {"rate": 0.5}).described()
        for seeds in (range(10), list(range(10)), np.arange(10, dtype=np.uint8))
    )
    assert of_range == listed == in_few_bits
    assert of_range != members_of(range(10), {"rate": 0.6}).described()


WRONG = {
    "a coordinator alone": (("127.0.0.1:1", None, None), ValueError, "num_processes=None must be given too"),
    "no port": (("localhost", 2, 0), ValueError, "coordinator='localhost' must be 'host:port'"),
    "a port of words": (("localhost:http", 2, 0), ValueError, "must be 'host:port'"),
    "no processes": (("127.0.0.1:1", 0, 0), ValueError, "num_processes=0 must be between 1 and"),
    "a process too many": (
        ("127.0.0.1:1", 2, 2),
        ValueError,
        "process_id=2 must be between 0 and num_processes - 1=1",
    ),
    "half a process": (("127.0.0.1:1", 2, 0.5), TypeError, "process_id=0.5 must be an integer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_jobs(name):
    given, kind, message = WRONG[name]
    with pytest.raises(kind, match=message), cluster.joined(*given):
        raise AssertionError("joined")


if __name__ == "__main__":
    process(*sys.argv[1:])
