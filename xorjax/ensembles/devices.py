"""The member axis over the devices of a mesh: every device trains its own members, independent of the others.

One program runs on all devices (`jax.shard_map`), so that it is compiled once.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Wrapped

from xorjax.ensembles.engines.contract import ChunkFunctions, Engine
from xorjax.lanes.jaxprs import platform
from xorjax.training.problem import HParams
from xorjax.training.records import Record
from xorjax.training.results import Result
from xorjax.training.trainer import State, Trainer
from xorjax.training.updates import EpochMetrics

Device = Any  # jax.Device, which type checkers take for a variable
Tree = TypeVar("Tree")
AXIS = "member"
_SHARDED, _WHOLE = P(AXIS), P()


def check_mesh(mesh: object) -> Mesh | None:
    """Return the mesh, if its one axis is of members; None stays None.

    Raises:
      TypeError, ValueError: if it is something else, or has a device of another process.
    """
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{mesh=} must be a jax.sharding.Mesh, such as jax.make_mesh((n,), ({AXIS!r},)).")
    if mesh.axis_names != (AXIS,):
        raise ValueError(
            f"mesh has the axes {mesh.axis_names}; its one axis must be {AXIS!r}, as in "
            f"jax.make_mesh(({mesh.size},), ({AXIS!r},))."
        )
    devices = list(mesh.devices.flat)
    if len(set(devices)) < len(devices):
        raise ValueError(f"{mesh=} must have each device once.")
    if (kinds := {device.platform for device in devices}) != {platform()}:
        raise ValueError(
            f"{mesh=} has devices of {' and '.join(sorted(kinds))}, and JAX runs on {platform()}; "
            f"jax.default_device or JAX_PLATFORMS changes that."
        )
    if others := sorted({device.process_index for device in devices} - {jax.process_index()}):
        raise ValueError(
            f"{mesh=} has devices of the processes {others}; all must be of this process, number "
            f"{jax.process_index()}: jax.local_devices()."
        )
    return mesh


def list_devices(mesh: Mesh | None) -> tuple[Device, ...]:
    """Return the devices of a mesh; without one, the device that JAX is told to use, or all of this process."""
    if mesh is None:
        return tuple(jax.local_devices()) if _chosen_device() is None else (_default_device(),)
    return tuple(mesh.devices.flat)


def _chosen_device() -> Device | str | None:
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]


def _default_device() -> Device:
    chosen = _chosen_device()
    if chosen is None or isinstance(chosen, str):  # the name of a platform
        return jax.local_devices(backend=chosen)[0]
    return chosen


def spread_engine(engine: Engine, devices: tuple[Device, ...]) -> Engine:
    """Return an engine that runs each chunk on all of these devices; itself, if they are JAX's default device."""
    if devices == (_default_device(),):
        return engine
    mesh = Mesh(np.array(devices), (AXIS,))
    return engine._replace(
        functions=lambda trainer: _spread_functions(engine, trainer, mesh),
        n_shards=len(devices),
        sharding=NamedSharding(mesh, _SHARDED),
        context=lambda: jax.set_mesh(mesh),  # whichever mesh the caller has set
    )


@lru_cache(maxsize=64)
def _spread_functions(engine: Engine, trainer: Trainer, mesh: Mesh) -> ChunkFunctions:
    """Return an engine's functions, each run by all devices on their own members.

    A State has a leading axis of devices, whatever its layout within one; `members` has a number for each device,
    and `order` is of the lanes within one.
    """
    inner = engine.functions(trainer)

    def spread(run: Callable[..., Tree], in_specs: tuple[P, ...], out_specs: P | tuple[P, ...]) -> Wrapped:
        # Whether values differ between devices can't be checked: of a kernel's results it is not known.
        mapped = jax.shard_map(run, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        return jax.jit(mapped)

    def init(seeds: Array, hparams: HParams) -> State:
        return _add_axis(inner.init(seeds, hparams))

    def run_epochs(
        states: State, hparams: HParams, epochs: Array, members: Array
    ) -> tuple[State, EpochMetrics | None]:
        states, metrics = inner.run_epochs(_drop_axis(states), hparams, epochs, members)
        return _add_axis(states), metrics

    def observe(states: State, hparams: HParams) -> Record:
        assert inner.observe is not None
        return inner.observe(_drop_axis(states), hparams)

    def finish(states: State, hparams: HParams) -> Result:
        return inner.finish(_drop_axis(states), hparams)

    def permute(states: State, hparams: HParams, order: Array) -> tuple[State, HParams]:
        assert inner.permute is not None
        states, hparams = inner.permute(_drop_axis(states), hparams, order)
        return _add_axis(states), hparams

    return ChunkFunctions(
        spread(init, (_SHARDED, _SHARDED), _SHARDED),
        spread(run_epochs, (_SHARDED, _SHARDED, _WHOLE, _SHARDED), (_SHARDED, P(None, AXIS))),
        inner.observe and spread(observe, (_SHARDED, _SHARDED), _SHARDED),
        spread(finish, (_SHARDED, _SHARDED), _SHARDED),
        inner.permute and spread(permute, (_SHARDED, _SHARDED, _SHARDED), (_SHARDED, _SHARDED)),
    )


def _add_axis(states: State) -> State:
    return jax.tree.map(lambda leaf: leaf[None], states)


def _drop_axis(states: State) -> State:
    return jax.tree.map(lambda leaf: leaf[0], states)
