"""How fast the engines are here: updates of all members per second, "net-steps/s".

Every cell of the grid, a network and a number of members, is measured for all engines in turn, round after
round, so that what else the machine does touches all alike. Compilation is timed apart.
"""

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from xorjax.ensembles.chunk import Prepared, compiled_advance, prepared
from xorjax.ensembles.engines import lanes, pallas, vmap
from xorjax.ensembles.engines.choice import KERNELS
from xorjax.ensembles.engines.contract import Engine
from xorjax.ensembles.ensemble import train_ensemble
from xorjax.ensembles.members import members_of
from xorjax.ensembles.scheduler import n_threads, rounded_up, shares
from xorjax.lanes.kernel.backends import ROUTES
from xorjax.networks.models import mlp
from xorjax.networks.tasks import Batch, parity, xor
from xorjax.training.trainer import MAX_EPOCHS, Trainer, trainer

MEMBERS = (1, 64, 1_024, 16_384, 262_144)
ROUNDS = 5
COMPILATIONS = 5
SECONDS = 0.25  # of one measurement, about
CHUNK_SECONDS, EPOCHS = 0.003, 16  # of one chunk, at least
PLAIN = "plain"  # one `jax.jit(jax.vmap(...))` of all members, as anyone writes it
HPARAMS = {"learning_rate": 0.1}


class Cell(NamedTuple):
    """What was measured of one engine in one place of the grid.

    Attributes:
      network: its name in `NETWORKS`.
      members: how many were trained.
      engine: "plain", "lanes" or "vmap"; on a GPU or TPU "pallas" in place of that, and its other routes and
        precision.
      depth: of `lanes`, see `xj.lanes.explain`.
      epochs: of each measurement.
      rates: net-steps per second, one for each round.
      compile_seconds: to choose how, trace and compile what trains a chunk; a median.
      bytes_per_member: of memory on the device while a chunk is trained, as the compiler plans it.
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


def ways(network: Trainer) -> dict[str, Engine]:
    """The engines that can train a network here, by name, and each way to a kernel."""
    found = {PLAIN: vmap.ENGINE, lanes.ENGINE.name: lanes.ENGINE}
    if jax.default_backend() == "cpu":
        found[vmap.ENGINE.name] = vmap.ENGINE  # whose chunks are for cores
    if jax.default_backend() in KERNELS:
        chosen = KERNELS[jax.default_backend()]
        routes = {"pallas": chosen["float32"], "pallas, fast": chosen["fast"], "mosaic_gpu": ROUTES["mosaic_gpu"]}
        found |= {
            name: pallas.engine(route)
            for name, route in routes.items()
            if route.platform == chosen["float32"].platform and pallas.unfit(network, HPARAMS, route) is None
        }
    return found


def measure(
    networks: Sequence[str] = tuple(NETWORKS), members: Sequence[int] = MEMBERS, rounds: int = ROUNDS
) -> Iterator[list[Cell]]:
    """Measures every network with every number of members; yields the cells of all engines of one such pair."""
    with ThreadPoolExecutor(n_threads()) as pool:
        for network in networks:
            made = NETWORKS[network]()
            compile_seconds = compilation(network)
            compiled: dict[tuple[str, int], Any] = {}
            for n in members:
                works = [_Work(made, name, engine, n, pool, compiled) for name, engine in ways(made).items()]
                epochs = [work.epochs_of_a_measurement() for work in works]
                rates: list[list[float]] = [[] for _ in works]
                for _ in range(rounds):
                    for work, count, found in zip(works, epochs, rates, strict=True):
                        found.append(n * count * UPDATES.get(network, 1) / work.seconds(count))
                depth = lanes.explained(made, HPARAMS).depth
                yield [
                    Cell(
                        network,
                        n,
                        work.name,
                        depth if work.name == lanes.ENGINE.name else None,
                        count,
                        found,
                        compile_seconds[work.name],
                        work.bytes_per_member,
                    )
                    for work, count, found in zip(works, epochs, rates, strict=True)
                ]


def compilation(network: str) -> dict[str, float]:
    """Median seconds of compiling each way anew, in turn."""
    engines = ways(NETWORKS[network]())
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(COMPILATIONS):
        for name, engine in engines.items():
            made = NETWORKS[network]()
            gc.collect()  # what others have left behind is not to be cleared away while this is timed
            begun = time.perf_counter()
            block_size = engine.block_size(made, HPARAMS)
            size = rounded_up(engine.chunk_size, block_size or 1)
            programs = engine.programs(made)
            chosen = time.perf_counter() - begun
            seeds = jax.ShapeDtypeStruct((size,), np.uint32)
            hparams = jax.tree.map(lambda _, size=size: jax.ShapeDtypeStruct((size,), np.float32), HPARAMS)
            states = jax.eval_shape(programs.init, seeds, hparams)
            begun = time.perf_counter()
            compiled_advance(engine, made, states, hparams)
            seconds[name].append(chosen + time.perf_counter() - begun)
    return {name: float(np.median(values)) for name, values in seconds.items()}


class _Work:
    """All members of a cell in the chunks of one engine, ready to be timed."""

    def __init__(self, made: Trainer, name: str, engine: Engine, members: int, pool: Any, compiled: Any):
        block_size = engine.block_size(made, HPARAMS)
        chunk_size = rounded_up(members if name == PLAIN else engine.chunk_size, block_size or 1)
        block_size = block_size or chunk_size
        self.name, self.pool = name, pool
        who = members_of(range(members), HPARAMS)
        self.chunks = [
            prepared(engine, made, who, part, chunk_size, block_size)
            for part in shares(slice(0, members), block_size, chunk_size, n_threads())
        ]
        if (name, chunk_size) not in compiled:
            compiled[name, chunk_size] = compiled_advance(
                engine, made, self.chunks[0].states, self.chunks[0].hparams
            )
        self.advance = compiled[name, chunk_size]
        memory = self.advance.memory_analysis()
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        self.bytes_per_member = (held - memory.alias_size_in_bytes) / chunk_size

    def run(self, epochs: int, chunk: Prepared) -> None:
        jax.block_until_ready(self.advance(chunk.states, chunk.hparams, np.int32(epochs), chunk.counts))

    def seconds(self, epochs: int) -> float:
        begun = time.perf_counter()
        for _ in self.pool.map(partial(self.run, epochs), self.chunks):
            pass
        return time.perf_counter() - begun

    def epochs_of_a_measurement(self) -> int:
        """As many as take `SECONDS`, or longer: what it costs to start a chunk must not count for much."""
        epochs, seconds = EPOCHS, self._seconds_of_a_chunk(EPOCHS)
        while seconds < CHUNK_SECONDS and epochs < MAX_EPOCHS // 2:
            epochs *= 2
            seconds = self._seconds_of_a_chunk(epochs)
        at_once = max(1, min(len(self.chunks), n_threads()))
        wanted = max(SECONDS / len(self.chunks) * at_once, CHUNK_SECONDS)
        return min(MAX_EPOCHS, max(EPOCHS, int(epochs * wanted / seconds)))

    def _seconds_of_a_chunk(self, epochs: int) -> float:
        begun = time.perf_counter()
        self.run(epochs, self.chunks[0])
        return time.perf_counter() - begun


class Stopping(NamedTuple):
    """What stopping saves: the tutorial's network at a rate of 0.5 with momentum 0.9, stopped when solved.

    Attributes:
      members, epochs: how many, and for how long at most.
      within: share solved within 5,000 epochs.
      mean_epochs: until a member stopped or its epochs were over.
      faster: seconds without stopping over seconds with it, one for each round.
    """

    members: int
    epochs: int
    within: float
    mean_epochs: float
    faster: list[float]


def stopping(members: int = 20_000, epochs: int = 100_000, rounds: int = ROUNDS) -> Stopping:
    """Trains the same members with and without stopping, in turn."""

    def made(stop: Literal["never", "solved"]) -> Trainer:
        return trainer(mlp((2, 2, 1)), xor(), optax.sgd(0.5, 0.9), epochs=epochs, stop=stop)

    def seconds(each: Trainer) -> float:
        begun = time.perf_counter()
        train_ensemble(each, range(members))
        return time.perf_counter() - begun

    never, solved = made("never"), made("solved")
    train_ensemble(never, range(64))  # compiles
    results = train_ensemble(solved, range(members))
    within = (results.solved_epoch >= 0) & (results.solved_epoch < 5_000)
    faster = [seconds(never) / seconds(solved) for _ in range(rounds)]
    return Stopping(members, epochs, float(within.mean()), float(results.epochs.mean()), faster)


def summarized(cells: Sequence[Cell]) -> dict[str, Any]:
    """One line of the table: medians by engine; ratios, of what "auto" chooses, are medians of the rounds'."""
    rates = {cell.engine: np.asarray(cell.rates) for cell in cells}
    chosen = "pallas" if "pallas" in rates else lanes.ENGINE.name
    others = [values for name, values in rates.items() if not name.startswith(chosen)]
    fast = rates[chosen]
    return {
        "network": cells[0].network,
        "members": cells[0].members,
        "depth": next(cell.depth for cell in cells if cell.depth),
        "chosen": chosen,
        "rates": {name: float(np.median(values)) for name, values in rates.items()},
        "bytes_per_member": {cell.engine: cell.bytes_per_member for cell in cells},
        "spread": float(max((values.max() - values.min()) / np.median(values) for values in rates.values())),
        "over_plain": float(np.median(fast / rates[PLAIN])),
        "over_the_better": min(float(np.median(fast / other)) for other in others),
        "compile": {cell.engine: cell.compile_seconds for cell in cells},
    }


def hardware() -> str:
    """The processor and its cores, or the accelerator."""
    if jax.default_backend() != "cpu":
        return f"{len(jax.devices())} {jax.devices()[0].device_kind}"
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}"
