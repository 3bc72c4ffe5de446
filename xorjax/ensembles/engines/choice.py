"""The choice of an engine: the one that the user names, or the best one for the program and the platform."""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from xorjax._checks import check_choice
from xorjax.ensembles.engines import lanes, pallas, vmap
from xorjax.ensembles.engines.contract import Engine
from xorjax.lanes.jaxprs import platform as platform_now
from xorjax.lanes.kernel.backends import BACKENDS, KernelBackend
from xorjax.training.problem import HParams
from xorjax.training.trainer import Trainer

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (lanes.ENGINE, vmap.ENGINE, pallas.make_engine(BACKENDS["interpret"]))
}
# The backends of the engine `pallas`, by platform and precision.
KERNEL_BACKENDS: dict[str, dict[str, KernelBackend]] = {
    "gpu": {"float32": BACKENDS["triton"], "fast": BACKENDS["triton, fast"]},
    "tpu": {"float32": BACKENDS["tpu"], "fast": BACKENDS["tpu"]},
}


class Choice(NamedTuple):
    """An engine, and the reason for it in a sentence."""

    engine: Engine
    why: str


def available_engines(platform: str | None = None) -> Mapping[str, Engine]:
    """Return the engines of a platform by name; None is the platform of JAX's default devices."""
    backends = KERNEL_BACKENDS.get(platform or platform_now())
    return {**ENGINES, "pallas": pallas.make_engine(backends["float32"])} if backends else ENGINES


def choose_engine(
    name: str, trainer: Trainer, hparams: HParams, precision: str = "float32", platform: str | None = None
) -> Choice:
    """Return the engine called `name`, or the best one if that is "auto".

    Args:
      name: "auto", "lanes", "vmap", "pallas" or "interpret".
      trainer: trains each member.
      hparams: the hparams of one member, arrays or their shapes.
      precision: "float32", or "fast" for a kernel of approximate exponentials and quotients.
      platform: "cpu", "gpu" or "tpu"; None is that of JAX's default devices.

    Raises:
      ValueError: if there is no such engine here, or its kernel can't hold the training.
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
        backend = KERNEL_BACKENDS[platform][precision] if wanted == "pallas" else BACKENDS["interpret"]
        reason = _unsupported_device(platform) if wanted == "pallas" else None
        reason = reason or pallas.unsupported_reason(trainer, hparams, backend)
        if reason is None:
            needed = pallas.count_registers(trainer, hparams, backend)
            why = f"an epoch fits a kernel: {needed} of {backend.registers} registers"
            return Choice(pallas.make_engine(backend), why)
        if name != "auto":
            raise ValueError(f"engine={name!r} can't train this: {reason}; engine='lanes' can.")
        return Choice(engines["lanes"], f"no kernel, since {reason}")
    if name == "auto":
        explanation = lanes.explain_depth(trainer, hparams)
        return Choice(engines["lanes"], f"at the depth {explanation.depth!r}, {explanation.why}")
    return Choice(engines[name], "as asked")


def _unsupported_device(platform: str) -> str | None:
    """Return why the GPU here can't run kernels, or None: Triton needs NVIDIA's Ampere or later."""
    if platform != "gpu" or platform_now() != "gpu":
        return None
    capability = getattr(jax.local_devices()[0], "compute_capability", "none")
    try:
        fits = float(capability) >= 8
    except ValueError:  # GPUs of other makers have words here
        fits = False
    return None if fits else f"kernels want the compute capability 8.0, and this device has {capability}"
