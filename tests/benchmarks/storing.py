"""What storing costs: the same members by `train_ensemble` and by `run_study`, by turns.

    python tests/benchmarks/storing.py [--epochs 20000] [--rounds 6]

Wall times of one machine vary by more than storing costs; so it also says for how long threads did not train, and
the thread that commits did work, which is what storing adds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from statistics import median

import optax

import xorjax as xj
from xorjax.ensembles import scheduler

MEMBERS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=6)
    asked = parser.parse_args()
    made = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=asked.epochs)

    def plain() -> None:
        xj.train_ensemble(made, range(MEMBERS), {"learning_rate": 0.02})

    def study() -> None:
        with tempfile.TemporaryDirectory() as folder:
            xj.run_study(made, range(MEMBERS), {"learning_rate": 0.02}, store=f"{folder}/a.zarr")

    plain()  # compiled
    study()
    walls, idle = [], []
    for number in range(asked.rounds):
        order = (plain, study) if number % 2 else (study, plain)
        found = {run.__name__: timed(run) for run in order}
        walls.append(found["study"][0] / found["plain"][0] - 1)
        idle.append((found["study"][1] - found["plain"][1]) / found["plain"][0])
        print(f"plain {found['plain'][0]:.2f} s, study {found['study'][0]:.2f} s: {100 * walls[-1]:+.1f} %")
    for what, shares in (
        ("wall time", walls),
        ("time that threads did not train, and the committing thread", idle),
    ):
        low, high = 100 * min(shares), 100 * max(shares)
        print(f"{what}: {100 * median(shares):+.1f} % ({low:+.1f} to {high:+.1f} %)")


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and those for which the average thread did not train or this one worked."""
    busy, train_chunk = [], scheduler.train_chunk

    def noted(*args):
        begun = time.perf_counter()
        try:
            return train_chunk(*args)
        finally:
            busy.append(time.perf_counter() - begun)

    scheduler.train_chunk = noted
    begun, own = time.perf_counter(), time.thread_time()
    run()
    seconds, own = time.perf_counter() - begun, time.thread_time() - own
    scheduler.train_chunk = train_chunk
    threads = scheduler.count_threads()
    return seconds, seconds - (sum(busy) - own) / threads


if __name__ == "__main__":
    main()
