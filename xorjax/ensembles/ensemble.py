"""Many members from one trainer: seeds and hyper-parameters in, results or statistics of them out."""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import jax
import numpy as np
from jax.sharding import Mesh

from xorjax._checks import check_integer, check_real
from xorjax.ensembles.accumulator import Accumulator, combine
from xorjax.ensembles.chunk import compile_chunk, init_chunk, place_members
from xorjax.ensembles.devices import check_mesh
from xorjax.ensembles.members import Members, as_members
from xorjax.ensembles.rounds import iter_rounds
from xorjax.ensembles.scheduler import Progress, plan_chunk, plan_schedule, train_chunks
from xorjax.training.problem import HParams
from xorjax.training.results import Result
from xorjax.training.trainer import Trainer


@overload
def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    reduce: None = None,
    progress: Progress | None = None,
) -> Result: ...


@overload
def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    reduce: Accumulator | Mapping[str, Accumulator],
    progress: Progress | None = None,
) -> Any: ...


def train_ensemble(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    reduce: Accumulator | Mapping[str, Accumulator] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Train one member for each seed, as `trainer.run(jax.random.key(seed), hparams)` does.

    Args:
      trainer: from `xj.trainer(...)`.
      seeds: a range, list or array of integers from 0 to 2^32 − 1; or `Members`, from `xj.grid(...)` or
        `xj.random_search(...)`, which are seeds and hparams at once.
      hparams: a pytree whose leaves are scalars (shared by all) or have a leading axis as long as `seeds`
        (one value for each member). A list of numbers counts as an array.
      engine: "lanes" (`lane_vmap` of the trainer's loop), "vmap" (`jax.vmap` of it, which computes stopped
        members until their chunk ends), "pallas" (a kernel that keeps parameters and optimizer state in
        registers, for GPUs and TPUs), or "auto" to choose from the program and the platform: "pallas" where an
        epoch fits in a kernel, else "lanes". ("interpret" runs that kernel on a CPU, slowly, for tests.)
      precision: "fast" allows a GPU's kernel its approximate exponentials and quotients; it changes nothing
        elsewhere.
      chunk_size: number of members that one thread trains together, on each device, rounded up to whole blocks
        of the engine; None lets it choose. Memory grows with it. The last chunk is filled up with members whose
        results are dropped, so that every chunk runs the same program.
      mesh: of the one axis "member", such as `jax.make_mesh((8,), ("member",))`: the devices to train on; None is
        all of this process. No bit depends on how many there are.
      seconds: time limit of training, compilation not counted; None is no limit. When the time is up, every
        member gets a result, even one that was never trained (about a million in a second). The outcome of a
        member that was neither finished nor solved is UNFINISHED.
      reduce: statistics to gather in place of the members' results: an `Accumulator`, such as
        `xj.statistics.share("solved", by=["learning_rate"])`, or a dictionary of several. No result is then kept.
      progress: called as `progress(done, total)` in this thread: how many of the members have finished. A member
        half trained counts one half; the sum is rounded down.

    Returns:
      A `Result` of NumPy arrays, member axis first, in the order of `seeds`; with `reduce`, its statistics, the
      same bit for bit whatever the chunks.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> results = xj.train_ensemble(trainer, range(3), {"learning_rate": [0.1, 0.5, 0.1]})
    >>> results.loss.shape, results.params[0].kernel.shape
    ((3,), (3, 2, 2))
    >>> alone = xj.train_ensemble(trainer, [1], {"learning_rate": 0.5})
    >>> bool(alone.loss[0] == results.loss[1])  # whatever the company
    True
    """
    members = as_members(seeds, hparams)
    how: dict[str, Any] = {"engine": engine, "precision": precision, "chunk_size": chunk_size, "mesh": mesh}
    blocks = iter_results(trainer, members, **how, seconds=seconds, progress=progress)
    if reduce is not None:
        return _reduce_results(combine(reduce), members, blocks)
    results: Result | None = None
    for part, block in blocks:
        if results is None:
            results = _empty_like(block, len(members))
        for whole, of_part in zip(_per_member(results), _per_member(block), strict=True):
            whole[part] = of_part
    assert results is not None, "seeds are never empty here"
    return results


def _reduce_results(reduce: Accumulator, members: Members, blocks: Iterator[tuple[slice, Result]]) -> Any:
    gathered = reduce.init(members)
    for part, block in blocks:
        gathered = reduce.update(gathered, block, members.indices(part))
    return reduce.finalize(gathered)


def iter_results(
    trainer: Trainer,
    seeds: Sequence[int] | np.ndarray | Members,
    hparams: HParams = None,
    *,
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Generator[tuple[slice, Result]]:
    """Yield the results of `train_ensemble` chunk by chunk, in order.

    For results that need not be kept together in memory, or are wanted before the last is done. Closing the
    iterator, or an interrupt, stops the work within a round.

    Args:
      trainer, seeds, hparams, engine, precision, chunk_size, mesh, seconds, progress: as for `train_ensemble`.

    Yields:
      A slice of the members, and their `Result` in NumPy arrays, member axis first.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed; at once, before any work.
    """
    members = as_members(seeds, hparams)
    schedule = plan_schedule(trainer, members, engine, precision, chunk_size, check_mesh(mesh))
    if seconds is not None and not check_real("seconds", seconds) > 0:
        raise ValueError(f"{seconds=} must be above 0.")
    if progress is not None and not callable(progress):
        raise TypeError(f"{progress=} must be a function of done and total.")
    return train_chunks(
        trainer,
        schedule,
        schedule.split(members),
        len(members),
        progress or (lambda done, total: None),
        math.inf if seconds is None else seconds,
    )


def replay(
    trainer: Trainer,
    seed: int,
    hparams: HParams = None,
    *,
    epochs: Sequence[int],
    engine: str = "auto",
    precision: Literal["float32", "fast"] = "float32",
) -> Result:
    """Train one member of any ensemble again, alone; return it after each of these epochs, bit for bit.

    Args:
      trainer, seed, hparams: those of the member.
      epochs: in ascending order, from 0 (as it started) to `trainer.epochs`.
      engine, precision: those that trained it, in chunks of the size that the engine chose.

    Returns:
      A `Result` of NumPy arrays with a leading axis of these epochs, without history. (A member that stopped stays
      as it was.)

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=5)
    >>> xj.replay(trainer, 17, {"learning_rate": 0.5}, epochs=[0, 2, 5]).epochs
    array([0, 2, 5], dtype=int32)
    """
    own = jax.tree.map(lambda leaf: np.asarray(leaf)[None], hparams, is_leaf=lambda node: isinstance(node, list))
    members = as_members([seed], own)
    chosen, _, size = plan_chunk(trainer, members, engine, precision, None)
    at = [check_integer(f"epochs[{i}]", epoch, 0, trainer.epochs) for i, epoch in enumerate(epochs)]
    if not at or sorted(set(at)) != at:
        raise ValueError(f"{epochs=} must hold at least one epoch, in ascending order.")
    placed = place_members(chosen, members, slice(0, 1), size, size)
    chunk = init_chunk(compile_chunk(chosen, trainer, placed), placed, size)
    results, done = [], 0
    for epoch in at:
        for _ in iter_rounds(trainer._replace(epochs=epoch - done), chunk.run_epochs):
            pass
        results.append(chunk.finish())
        done = epoch
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _empty_like(block: Result, n_members: int) -> Result:
    results = jax.tree.map(lambda a: np.empty((n_members, *a.shape[1:]), a.dtype), block)
    if block.history is None:
        return results
    return results._replace(history=results.history._replace(epoch=block.history.epoch))


def _per_member(results: Result) -> list[np.ndarray]:
    """All arrays but `history.epoch`, which the members share."""
    history = results.history and results.history._replace(epoch=None)
    return jax.tree.leaves(results._replace(history=history))
