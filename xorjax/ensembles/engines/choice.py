"""Which engine runs a trainer: the one that is asked for, or the best one for the program and the platform."""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from xorjax._checks import check_choice
from xorjax.ensembles.engines import lanes, pallas, vmap
from xorjax.ensembles.engines.contract import Engine
from xorjax.lanes.jaxprs import platform as platform_now
from xorjax.lanes.kernel.backends import ROUTES
from xorjax.training.problem import HParams
from xorjax.training.trainer import Trainer

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (lanes.ENGINE, vmap.ENGINE, pallas.engine(ROUTES["interpret"]))
}
# The routes of a platform's engine `pallas`, by precision.
KERNEL_BACKENDS = {
    "gpu": {"float32": ROUTES["triton"], "fast": ROUTES["triton, fast"]},
    "tpu": {"float32": ROUTES["tpu"], "fast": ROUTES["tpu"]},
}


class Choice(NamedTuple):
    """An engine, and why it is this one."""

    engine: Engine
    why: str


def available_engines(platform: str | None = None) -> Mapping[str, Engine]:
    """The engines of a platform by name, the one for JAX's default devices if none is named."""
    routes = KERNEL_BACKENDS.get(platform or platform_now())
    return {**ENGINES, "pallas": pallas.engine(routes["float32"])} if routes else ENGINES


def choose_engine(
    name: str, trainer: Trainer, hparams: HParams, precision: str = "float32", platform: str | None = None
) -> Choice:
    """The engine called `name`, or the best one if that is "auto".

    Args:
      name: "auto", "lanes", "vmap", "pallas" or "interpret".
      trainer, hparams: what is trained; the hparams of one member, arrays or their shapes.
      precision: "float32", or "fast" for a kernel of approximate exponentials and quotients.
      platform: "cpu", "gpu" or "tpu"; None is that of JAX's default devices.

    Raises:
      ValueError: if there is no such engine here, or its kernel can't hold what is to be trained.
    """
    platform = platform or platform_now()
    engines = available_engines(platform)
    if name == "pallas" and name not in engines:
        raise ValueError(
            f"engine={name!r} is for GPUs and TPUs, and JAX runs on {platform} here; available are auto, "
            f"{', '.join(engines)}."
        )
    check_choice("precision", precision, KERNEL_BACKENDS["gpu"])
    check_choice("engine", name, {"auto": None, **engines})
    wanted = "pallas" if name == "auto" and "pallas" in engines else name
    if wanted in ("pallas", "interpret"):
        route = KERNEL_BACKENDS[platform][precision] if wanted == "pallas" else ROUTES["interpret"]
        reason = _too_old(platform) if wanted == "pallas" else None
        reason = reason or pallas.unfit(trainer, hparams, route)
        if reason is None:
            needed = pallas.registers_needed(trainer, hparams, route)
            return Choice(pallas.engine(route), f"an epoch fits a kernel: {needed} of {route.registers} registers")
        if name != "auto":
            raise ValueError(f"engine={name!r} can't train this: {reason}; engine='lanes' can.")
        return Choice(engines["lanes"], f"no kernel, since {reason}")
    if name == "auto":
        found = lanes.explained(trainer, hparams)
        return Choice(engines["lanes"], f"at the depth {found.depth!r}, {found.why}")
    return Choice(engines[name], "as asked")


def _too_old(platform: str) -> str | None:
    """Why kernels can't run on the GPU that is here, or None: Triton wants NVIDIA's Ampere or later."""
    if platform != "gpu" or platform_now() != "gpu":
        return None
    capability = getattr(jax.local_devices()[0], "compute_capability", "none")
    try:
        fits = float(capability) >= 8
    except ValueError:  # other makers' are words
        fits = False
    return None if fits else f"kernels want the compute capability 8.0, and this device has {capability}"
