"""The member axis over the devices of a mesh: every device trains members of its own, with no word to the others.

One program runs on all devices (`jax.shard_map`), so that it is compiled once.
"""

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xorjax.ensembles.engines.contract import Engine, Programs
from xorjax.lanes.jaxprs import platform
from xorjax.training.problem import HParams
from xorjax.training.results import Result
from xorjax.training.trainer import State, Trainer

AXIS = "member"
_SHARDED, _WHOLE = P(AXIS), P()


def check_mesh(mesh: Any) -> Mesh | None:
    """A mesh whose one axis is of members, or None.

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


def devices_here(mesh: Mesh | None) -> tuple[Any, ...]:
    """The devices of this process to train on: those of the mesh; without one, JAX's default device, or all."""
    if mesh is None:
        return tuple(jax.local_devices()) if _chosen_device() is None else (_default_device(),)
    return tuple(mesh.devices.flat)


def _chosen_device() -> Any:
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]


def _default_device() -> Any:
    chosen = _chosen_device()
    if chosen is None or isinstance(chosen, str):  # the name of a platform
        return jax.local_devices(backend=chosen)[0]
    return chosen


def on_devices(engine: Engine, devices: tuple[Any, ...]) -> Engine:
    """An engine that runs each chunk on all of these devices; itself, where they are JAX's default one."""
    if devices == (_default_device(),):
        return engine
    mesh = Mesh(np.array(devices), (AXIS,))
    return engine._replace(
        programs=lambda trainer: _programs(engine, trainer, mesh),
        n_shards=len(devices),
        placed=lambda arrays: jax.device_put(arrays, NamedSharding(mesh, _SHARDED)),
        context=lambda: jax.set_mesh(mesh),  # whichever the caller has set
    )


@lru_cache(maxsize=64)
def _programs(engine: Engine, trainer: Trainer, mesh: Mesh) -> Programs:
    """An engine's functions, each run by all devices on their own members.

    A State has a leading axis of devices, whatever its arrangement within one; `members` is a number for each
    device, and `order` is of the places within one.
    """
    inner = engine.programs(trainer)

    def shared(run: Any, in_specs: Any, out_specs: Any) -> Any:
        # Whether values differ between devices is not checked: it is not known of a kernel's.
        mapped = jax.shard_map(run, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        return jax.jit(mapped)

    def init(seeds: Any, hparams: HParams) -> State:
        return _lifted(inner.init(seeds, hparams))

    def advance(states: State, hparams: HParams, epochs: Any, members: Any) -> Any:
        states, infos = inner.advance(_lowered(states), hparams, epochs, members)
        return _lifted(states), infos

    def observe(states: State, hparams: HParams) -> Any:
        assert inner.observe is not None
        return inner.observe(_lowered(states), hparams)

    def finish(states: State, hparams: HParams) -> Result:
        return inner.finish(_lowered(states), hparams)

    def arrange(states: State, hparams: HParams, order: Any) -> Any:
        assert inner.arrange is not None
        states, hparams = inner.arrange(_lowered(states), hparams, order)
        return _lifted(states), hparams

    return Programs(
        shared(init, (_SHARDED, _SHARDED), _SHARDED),
        shared(advance, (_SHARDED, _SHARDED, _WHOLE, _SHARDED), (_SHARDED, P(None, AXIS))),
        inner.observe and shared(observe, (_SHARDED, _SHARDED), _SHARDED),
        shared(finish, (_SHARDED, _SHARDED), _SHARDED),
        inner.arrange and shared(arrange, (_SHARDED, _SHARDED, _SHARDED), (_SHARDED, _SHARDED)),
    )


def _lifted(states: State) -> State:
    return jax.tree.map(lambda leaf: leaf[None], states)


def _lowered(states: State) -> State:
    return jax.tree.map(lambda leaf: leaf[0], states)
