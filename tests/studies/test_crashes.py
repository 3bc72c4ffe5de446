"""Processes at a study that are killed at any moment: what they leave goes on, and comes out the same.

XORJAX_KILLS=100 kills as many times, which takes some minutes.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optax
import pytest
from studies.study_files import contents

import xorjax as xj
from xorjax.studies.claims import Claims, list_claims

KILLS = int(os.environ.get("XORJAX_KILLS", "6"))
SEEDS, AXES = range(96), {"learning_rate": [0.5, 2.0]}


def study(store, **options):
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=300)
    return xj.run_study(trainer, SEEDS, AXES, store=store, **{"shard_size": 4, "chunk_size": 256, **options})


def main(folder, kills, seed):
    """Forks processes that work at a study, one or two at once, and kills one; until so many have been killed.

    What is imported before a fork is imported once: a process is at work within a second.
    """
    xj.run_study  # noqa: B018  (imports what studies want)
    draw, killed, ended, number = random.Random(seed), 0, 0, 0
    while killed < kills:
        store = Path(folder) / f"{number}.zarr"
        workers = [forked(store) for _ in range(draw.choice([1, 1, 2]))]
        time.sleep(draw.uniform(0.0, 4.0))
        os.kill(workers[0], signal.SIGKILL)
        codes = [os.waitpid(worker, 0)[1] for worker in workers]
        killed += codes[0] == signal.SIGKILL
        assert all(code == 0 for code in codes[1:]), "the other worker failed"
        if 0 in codes:
            ended += 1
            number += 1
    time.sleep(1.5)  # until the claims of the dead are over
    for each in range(number + 1):  # the last is finished; what the dead left in the others is removed
        assert os.waitpid(forked(Path(folder) / f"{each}.zarr"), 0)[1] == 0
    print(f"{killed} killed, {number + 1} studies")


def forked(store):
    process = os.fork()
    if not process:
        code = 1
        try:
            study(store, lease_seconds=1.0)
            code = 0
        finally:
            os._exit(code)
    return process


def run_python(*args):
    paths = Path(xj.__file__).parents[1], Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, check=False, env=environment
    )


def test_killed_in_the_middle_it_goes_on_and_is_the_same(tmp_path):
    code = (
        "import os, sys; from studies.test_crashes import study\n"
        "study(sys.argv[1], shard_size=32, progress=lambda at: at.trained and os.kill(os.getpid(), 9))"
    )
    killed = run_python("-c", code, tmp_path / "a.zarr")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((tmp_path / "a.zarr/claims").glob("[0-9]*"))  # of the dead process
    seen = []
    study(tmp_path / "a.zarr", shard_size=32, progress=seen.append)
    assert 0 < seen[0].committed < 192
    assert seen[-1].trained == 192 - seen[0].committed
    study(tmp_path / "whole.zarr", shard_size=32)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "whole.zarr")
    assert list_claims(tmp_path / "a.zarr") == {}


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_and_is_the_same(tmp_path):
    whole = tmp_path / "whole.zarr"
    study(whole)
    done = run_python(__file__, tmp_path, KILLS, 0)
    assert done.returncode == 0, done.stderr
    found = sorted(tmp_path.glob("[0-9]*.zarr"))
    assert done.stdout.startswith(f"{KILLS} killed, {len(found)} studies")
    reference = contents(whole)
    for store in found:
        assert contents(store) == reference
        assert not np.isnan(xj.open_study(store).outcome).any()
        assert list_claims(store) == {}


def test_claims_are_of_one_process_and_taken_over_when_it_dies(tmp_path):
    one, other = Claims(tmp_path, 0.5), Claims(tmp_path, 0.5)
    assert one.take("0.1")
    assert not other.take("0.1")
    assert one.holds("0.1")
    assert not other.holds("0.1")
    assert list(list_claims(tmp_path, 0.5)) == ["0.1"]
    with one.keep_alive():  # renewed, it is not taken over
        time.sleep(1.2)
        assert not other.take("0.1")
    assert other.take("0.1")  # given back at the end
    time.sleep(0.8)  # not renewed
    assert one.take("0.1")
    assert not other.holds("0.1")
    other.release("0.1")  # what is another's by now
    assert one.holds("0.1")


def test_the_claim_of_a_dead_process_of_this_host_is_taken_at_once(tmp_path):
    claims = Claims(tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    for name, process in (("0", gone.pid), ("1", os.getpid())):
        (tmp_path / f"claims/{name}").write_text(f"{os.uname().nodename} {process} abc")
    assert list(list_claims(tmp_path)) == ["1"]
    assert claims.take("0")
    assert not claims.take("1")


def test_a_stale_claim_is_taken_by_one_of_many(tmp_path):
    Claims(tmp_path, 0.2).take("0")
    time.sleep(0.5)
    many = [Claims(tmp_path, 30.0) for _ in range(8)]
    os.utime(tmp_path / "claims/0", (0, 0))
    assert [each.take("0") for each in many].count(True) == 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
