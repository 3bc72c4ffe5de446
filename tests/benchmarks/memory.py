"""Peak memory of training the 2-2-1 network for 1,000 epochs, above that of `import jax`, by number of members.

    python tests/benchmarks/memory.py

Each in a process of its own: `train_ensemble`, which keeps all results, and `iter_results`, which hands them on.
Linux only, since it reads the peak from the operating system. Not a test.
"""

import resource
import subprocess
import sys
from collections import deque

MEMBERS = (10_000, 100_000, 1_000_000)


def peak() -> float:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, members: int) -> None:
    import jax  # noqa: F401

    before = peak()
    import optax

    import xorjax as xj

    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.01), epochs=1_000)
    if way == "iter_results":
        deque(xj.ensembles.iter_results(trainer, range(members)), maxlen=0)
    else:
        xj.train_ensemble(trainer, range(members))
    print(peak() - before)


def main() -> None:
    print("| MB above `import jax` |" + "".join(f" {n:,} members |" for n in MEMBERS))
    print("| --- |" + " --- |" * len(MEMBERS))
    for way in ("train_ensemble", "iter_results"):
        runs = [
            subprocess.run(
                [sys.executable, __file__, way, str(n)], check=True, capture_output=True, text=True
            ).stdout
            for n in MEMBERS
        ]
        print(f"| `{way}` |" + "".join(f" {float(run):.0f} |" for run in runs))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        main()
