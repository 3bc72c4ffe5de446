"""The speed of the engines: updates of one network per second, summed over all members ("net-steps/s").

    python tests/benchmarks/bench.py --json bench.json
    python tests/benchmarks/bench.py --network 2-2-1 --members 1024 --members 16384

For every network and number of members, all engines are measured in turn, round after round, so that other load on
the machine affects all of them alike. Compilation is timed separately. The script uses internals of the engines.
"""

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from jax.stages import Compiled

from xorjax.ensembles.chunk import PlacedMembers, place_members
from xorjax.ensembles.engines import lanes, pallas, vmap
from xorjax.ensembles.engines.choice import KERNEL_BACKENDS
from xorjax.ensembles.engines.contract import Engine
from xorjax.ensembles.ensemble import train_ensemble
from xorjax.ensembles.members import as_members
from xorjax.ensembles.scheduler import count_threads, partition, round_up
from xorjax.networks.models import mlp
from xorjax.networks.tasks import Batch, parity, xor
from xorjax.training.trainer import MAX_EPOCHS, State, Trainer, trainer

MEMBERS = (1, 64, 1_024, 16_384, 262_144)
ROUNDS = 5
COMPILATIONS = 5
SECONDS = 0.25  # of one measurement, about
CHUNK_SECONDS, EPOCHS = 0.003, 16  # of one chunk, at least
PLAIN = "plain"  # one `jax.jit(jax.vmap(...))` of all members, as anyone writes it
HPARAMS = {"learning_rate": 0.1}


class Cell(NamedTuple):
    """The measurements of one engine on one network with one number of members.

    Attributes:
      network: its name in `NETWORKS`.
      members: number of members.
      engine: "plain", "lanes" or "vmap"; on a GPU or TPU "pallas" and "pallas, fast" in place of "vmap".
      depth: the depth that `lanes` chose, see `xj.lanes.explain`; None for other engines.
      epochs: number of epochs of each measurement.
      rates: net-steps per second, one for each round.
      compile_seconds: median time to plan, trace and compile the program that trains a chunk.
      bytes_per_member: device memory while a chunk is trained, as the compiler plans it.
    """

    network: str
    members: int
    engine: str
    depth: str | None
    epochs: int
    rates: list[float]
    compile_seconds: float
    bytes_per_member: float


def _random_rows(inputs: int, rows: int) -> Batch:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (rows, inputs)), rng.integers(0, 2, (rows, 1))
    return Batch(x.astype(np.float32), y.astype(np.float32))


def _network(
    layers: Sequence[int],
    batch: Callable[[], Batch] = xor,
    optimizer: Callable[..., Any] = optax.sgd,
    batch_size: int | None = None,
) -> Callable[[], Trainer]:
    return lambda: trainer(
        mlp(layers), batch(), lambda h: optimizer(h["learning_rate"]), epochs=MAX_EPOCHS, batch_size=batch_size
    )


NETWORKS: dict[str, Callable[[], Trainer]] = {
    "2-2-1": _network((2, 2, 1)),
    "2-2-1, momentum": _network((2, 2, 1), optimizer=partial(optax.sgd, momentum=0.9)),
    "2-2-1, Adam": _network((2, 2, 1), optimizer=optax.adam),
    "2-4-1": _network((2, 4, 1)),
    "2-8-1": _network((2, 8, 1)),
    "2-16-1": _network((2, 16, 1)),
    "4-8-1": _network((4, 8, 1), lambda: parity(4)),
    "10-16-1": _network((10, 16, 1), lambda: _random_rows(10, 32)),
    "10-32-1": _network((10, 32, 1), lambda: _random_rows(10, 32)),
    "16-64-1": _network((16, 64, 1), lambda: _random_rows(16, 32)),
    **{f"2-2-1, batches of {rows}": _network((2, 2, 1), batch_size=rows) for rows in (1, 2, 3)},  # shuffled
}
UPDATES = {f"2-2-1, batches of {rows}": -(-4 // rows) for rows in (1, 2, 3)}  # in an epoch, where more than one


def find_engines(network: Trainer) -> dict[str, Engine]:
    """Return the engines that can train a network on this machine, by name; the kernel once for each precision."""
    engines = {PLAIN: vmap.ENGINE, lanes.ENGINE.name: lanes.ENGINE}
    if jax.default_backend() == "cpu":
        engines[vmap.ENGINE.name] = vmap.ENGINE  # in chunks that share the cores
    if jax.default_backend() in KERNEL_BACKENDS:
        backends = KERNEL_BACKENDS[jax.default_backend()]
        engines |= {
            name: pallas.make_engine(backends[precision])
            for name, precision in {"pallas": "float32", "pallas, fast": "fast"}.items()
            if pallas.unsupported_reason(network, HPARAMS, backends[precision]) is None
        }
    return engines


def measure(
    networks: Sequence[str] = tuple(NETWORKS), members: Sequence[int] = MEMBERS, rounds: int = ROUNDS
) -> Iterator[list[Cell]]:
    """Measure every network with every number of members; yield the cells of all engines for each such pair."""
    with ThreadPoolExecutor(count_threads()) as pool:
        for name in networks:
            network = NETWORKS[name]()
            compile_seconds = time_compilation(name)
            depth = lanes.explain_depth(network, HPARAMS).depth
            programs: dict[tuple[str, int], Any] = {}
            for n in members:
                workloads = [
                    Workload(network, engine_name, engine, n, pool, programs)
                    for engine_name, engine in find_engines(network).items()
                ]
                epochs = [workload.choose_epochs() for workload in workloads]
                rates: list[list[float]] = [[] for _ in workloads]
                for _ in range(rounds):
                    for workload, count, of_engine in zip(workloads, epochs, rates, strict=True):
                        of_engine.append(n * count * UPDATES.get(name, 1) / workload.time_epochs(count))
                yield [
                    Cell(
                        name,
                        n,
                        workload.name,
                        depth if workload.name == lanes.ENGINE.name else None,
                        count,
                        of_engine,
                        compile_seconds[workload.name],
                        workload.bytes_per_member,
                    )
                    for workload, count, of_engine in zip(workloads, epochs, rates, strict=True)
                ]


def time_compilation(name: str) -> dict[str, float]:
    """Return the median seconds of compiling a network for each engine, measured in turn."""
    engines = find_engines(NETWORKS[name]())
    seconds: dict[str, list[float]] = {engine_name: [] for engine_name in engines}
    for _ in range(COMPILATIONS):
        for engine_name, engine in engines.items():
            network = NETWORKS[name]()
            gc.collect()  # so that garbage of earlier measurements is not collected during this one
            begin = time.perf_counter()
            block_size = engine.choose_block_size(network, HPARAMS)
            size = round_up(engine.chunk_size, block_size or 1)
            functions = engine.functions(network)
            planning = time.perf_counter() - begin
            seeds = jax.ShapeDtypeStruct((size,), np.uint32)
            hparams = jax.tree.map(lambda _, size=size: jax.ShapeDtypeStruct((size,), np.float32), HPARAMS)
            states = jax.eval_shape(functions.init, seeds, hparams)
            begin = time.perf_counter()
            compile_training(engine, network, states, hparams)
            seconds[engine_name].append(planning + time.perf_counter() - begin)
    return {engine_name: float(np.median(values)) for engine_name, values in seconds.items()}


class InitialChunk(NamedTuple):
    """A chunk before its first epoch."""

    states: State
    placed: PlacedMembers


def compile_training(engine: Engine, network: Trainer, states: State, hparams: Any) -> Compiled:
    """Compile what trains a chunk."""
    zeros = np.int32(0), np.zeros(engine.n_shards, np.int32)
    lowered = engine.functions(network).run_epochs.lower(states, hparams, *zeros)
    return lowered.compile(engine.run_options())


class Workload:
    """All members of a cell, in the chunks of one engine, ready to be timed."""

    def __init__(
        self,
        network: Trainer,
        name: str,
        engine: Engine,
        members: int,
        pool: ThreadPoolExecutor,
        programs: dict[tuple[str, int], Any],
    ):
        block_size = engine.choose_block_size(network, HPARAMS)
        chunk_size = round_up(members if name == PLAIN else engine.chunk_size, block_size or 1)
        block_size = block_size or chunk_size
        self.name, self.pool = name, pool
        population = as_members(range(members), HPARAMS)
        self.chunks = [
            InitialChunk(engine.functions(network).init(placed.seeds, placed.hparams), placed)
            for member_range in partition(members, block_size, chunk_size, count_threads())
            for placed in [place_members(engine, population, member_range, chunk_size, block_size)]
        ]
        if (name, chunk_size) not in programs:
            states, placed = self.chunks[0]
            programs[name, chunk_size] = compile_training(engine, network, states, placed.hparams)
        self.run_epochs = programs[name, chunk_size]
        memory = self.run_epochs.memory_analysis()
        total = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        self.bytes_per_member = (total - memory.alias_size_in_bytes) / chunk_size

    def run_chunk(self, epochs: int, chunk: InitialChunk) -> None:
        states, placed = chunk
        jax.block_until_ready(self.run_epochs(states, placed.hparams, np.int32(epochs), placed.counts))

    def time_epochs(self, epochs: int) -> float:
        """Return the seconds that all members take for this number of epochs."""
        begin = time.perf_counter()
        for _ in self.pool.map(partial(self.run_chunk, epochs), self.chunks):
            pass
        return time.perf_counter() - begin

    def choose_epochs(self) -> int:
        """Return a number of epochs that takes `SECONDS` or longer, so that starting a chunk costs little."""
        epochs, seconds = EPOCHS, self._time_chunk(EPOCHS)
        while seconds < CHUNK_SECONDS and epochs < MAX_EPOCHS // 2:
            epochs *= 2
            seconds = self._time_chunk(epochs)
        parallel = max(1, min(len(self.chunks), count_threads()))
        wanted = max(SECONDS / len(self.chunks) * parallel, CHUNK_SECONDS)
        return min(MAX_EPOCHS, max(EPOCHS, int(epochs * wanted / seconds)))

    def _time_chunk(self, epochs: int) -> float:
        begin = time.perf_counter()
        self.run_chunk(epochs, self.chunks[0])
        return time.perf_counter() - begin


class Stopping(NamedTuple):
    """The time that stopping saves: the tutorial's network at rate 0.5 and momentum 0.9, stopped when solved.

    Attributes:
      members: number of members.
      epochs: most epochs of a member.
      within: share of members solved within 5,000 epochs.
      mean_epochs: mean epochs that a member trains.
      faster: seconds without stopping over seconds with it, one for each round.
    """

    members: int
    epochs: int
    within: float
    mean_epochs: float
    faster: list[float]


def measure_stopping(members: int = 20_000, epochs: int = 100_000, rounds: int = ROUNDS) -> Stopping:
    """Train the same members with and without stopping, in turn."""

    def make_trainer(stop: Literal["never", "solved"]) -> Trainer:
        return trainer(mlp((2, 2, 1)), xor(), optax.sgd(0.5, 0.9), epochs=epochs, stop=stop)

    def time_training(network: Trainer) -> float:
        begin = time.perf_counter()
        train_ensemble(network, range(members))
        return time.perf_counter() - begin

    never, solved = make_trainer("never"), make_trainer("solved")
    train_ensemble(never, range(64))  # compiles
    results = train_ensemble(solved, range(members))
    within = (results.solved_epoch >= 0) & (results.solved_epoch < 5_000)
    faster = [time_training(never) / time_training(solved) for _ in range(rounds)]
    return Stopping(members, epochs, float(within.mean()), float(results.epochs.mean()), faster)


def summarize(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return one line of the table: medians by engine; ratios of the default engine are medians over rounds."""
    rates = {cell.engine: np.asarray(cell.rates) for cell in cells}
    default = "pallas" if "pallas" in rates else lanes.ENGINE.name
    others = [values for name, values in rates.items() if not name.startswith(default)]
    return {
        "network": cells[0].network,
        "members": cells[0].members,
        "depth": next(cell.depth for cell in cells if cell.depth),
        "chosen": default,
        "rates": {name: float(np.median(values)) for name, values in rates.items()},
        "bytes_per_member": {cell.engine: cell.bytes_per_member for cell in cells},
        "spread": float(max((values.max() - values.min()) / np.median(values) for values in rates.values())),
        "over_plain": float(np.median(rates[default] / rates[PLAIN])),
        "over_the_better": min(float(np.median(rates[default] / other)) for other in others),
        "compile": {cell.engine: cell.compile_seconds for cell in cells},
    }


def hardware() -> str:
    """Return the name of the processor with its number of cores, or of the accelerator."""
    if jax.default_backend() != "cpu":
        return f"{len(jax.devices())} {jax.devices()[0].device_kind}"
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}"


def print_report(report: dict[str, Any]) -> None:
    """Print medians, and ratios of the default engine to plain vmap and to the best other engine."""
    lines, default = report["lines"], {line["chosen"] for line in report["lines"]}
    engines = sorted({name for line in lines for name in line["rates"]}, key=lambda name: (name in default, name))
    print(f"net-steps/s on {report['hardware']}; medians of {report['rounds']} rounds\n")
    rows = [["network", "members", *engines, "depth", "/plain", "/best", "spread", "bytes a member"]]
    for line in lines:
        rates = (f"{line['rates'][name]:.1e}" if name in line["rates"] else "–" for name in engines)
        ratios = (f"{line[name]:.2f}" for name in ("over_plain", "over_the_better"))
        memory = f"{line['bytes_per_member'][line['chosen']]:.0f}"
        spread = f"{100 * line['spread']:.0f} %"
        rows.append([line["network"], f"{line['members']:,}", *rates, line["depth"], *ratios, spread, memory])
    print_table(rows)
    rows = [["seconds to compile", *engines, "/plain"]]
    for network, line in {line["network"]: line for line in lines}.items():
        seconds = line["compile"]
        cells = (f"{seconds[name]:.2f}" if name in seconds else "–" for name in engines)
        rows.append([network, *cells, f"{seconds[line['chosen']] / seconds[PLAIN]:.2f}"])
    print_table(rows)
    if (saved := report["stopping"]) is not None:
        faster = saved["faster"]
        print(
            f"Stopping when solved: {np.median(faster):.2f} times faster "
            f"({min(faster):.2f} to {max(faster):.2f}). "
            f"{saved['members']:,} members of 2-2-1 at rate 0.5, momentum 0.9, {saved['epochs']:,} epochs at "
            f"most; {100 * saved['within']:.1f} % are solved within 5,000, and the mean member trains "
            f"{saved['mean_epochs']:,.0f}."
        )


def print_table(rows: list[list[str]]) -> None:
    """Print rows of text in columns, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        aligned = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([f"{first:<{widths[0]}}", *aligned]))
    print()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="repeatable; all, and stopping")
    parser.add_argument("--members", action="append", type=int, help="repeatable; 1 to 262,144")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="measurements of each engine")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    cells = []
    for line in measure(args.network or list(NETWORKS), args.members or MEMBERS, args.rounds):
        cells.append(line)
        print(f"measured: {line[0].network}, {line[0].members:,} members", file=sys.stderr)
    report = {
        "hardware": hardware(),
        "versions": {name: version(name) for name in ("xorjax", "jax", "jaxlib")},
        "rounds": args.rounds,
        "lines": [summarize(line) for line in cells],
        "cells": [cell._asdict() for line in cells for cell in line],
        "stopping": None if args.network else measure_stopping(rounds=args.rounds)._asdict(),
    }
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report)


if __name__ == "__main__":
    main()
