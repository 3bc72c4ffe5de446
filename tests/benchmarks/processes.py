"""How fast two processes train beside two threads of one, on the same cores: the tutorial's network, no records.

    python tests/benchmarks/processes.py --rounds 5

Each way trains as many members for as many epochs, in turn, once all is compiled; its time is that of its slowest
process. Two processes share the members, and have the cores to themselves, one thread each.
"""

# pyright: reportOptionalMemberAccess=false

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time

MEMBERS, EPOCHS = 40_000, 20_000


def worker(coordinator: str, number: str, rounds: str) -> None:
    """One of two processes: it trains when told to by a line, and says how long it took."""
    from xorjax.ensembles import cluster

    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(number)]})
    with cluster.joined(coordinator, 2, int(number)) as mesh:
        serve(mesh, int(rounds))


def serve(mesh, rounds: int) -> None:
    import optax

    import xorjax as xj

    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1), epochs=EPOCHS)
    xj.train_ensemble(trainer, range(256), mesh=mesh)  # compiles
    print("ready", flush=True)
    for _ in range(rounds):
        sys.stdin.readline()
        begun = time.perf_counter()
        for _ in xj.ensembles.train_blocks(trainer, range(MEMBERS), mesh=mesh):
            pass
        print(time.perf_counter() - begun, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"

    def started(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    ways = {
        "two threads": [started("alone", str(rounds))],
        "two processes": [started("worker", coordinator, number, str(rounds)) for number in "01"],
    }
    for processes in ways.values():
        for each in processes:
            while each.stdout.readline() != "ready\n":  # XLA's collectives greet first
                if each.poll() is not None:
                    raise SystemExit("a process has ended before it was ready")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, processes in ways.items():
            for each in processes:
                each.stdin.write("\n")
                each.stdin.flush()
            seconds = max(float(each.stdout.readline()) for each in processes)
            rates[name].append(MEMBERS * EPOCHS / seconds)
    for name, found in rates.items():
        print(f"{name}: {statistics.median(found):.3g} net-steps/s ({min(found):.3g} to {max(found):.3g})")
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    for processes in ways.values():
        for each in processes:
            each.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:])
    elif sys.argv[1:2] == ["alone"]:
        serve(None, int(sys.argv[2]))
    else:
        main()
