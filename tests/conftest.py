"""Strict promotion in every test: a dtype or a rank that changes by accident is an error."""

import jax
import pytest
from hypothesis import settings

# Compilation makes the first example of a kind slow; derandomized, so that CI says the same twice.
settings.register_profile("xorjax", deadline=None, derandomize=True)
settings.load_profile("xorjax")


@pytest.fixture(autouse=True)
def _strict_promotion(request):
    """Off where a test is marked `lenient`: some of optax's optimizers mix dtypes or ranks themselves."""
    if request.node.get_closest_marker("lenient"):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def compilations():
    """Counts compilations: a list that grows by one for each."""
    counted: list[str] = []

    def listener(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            counted.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield counted
    jax.monitoring.clear_event_listeners()
