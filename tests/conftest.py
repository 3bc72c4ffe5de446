"""Strict promotion in every test: a dtype or a rank that changes by accident is an error.

What is compiled is kept for the time of a run, for all its processes: tests train the same networks over and over.
"""

import hashlib
import os
import shutil
import tempfile

KEPT = "JAX_COMPILATION_CACHE_DIR"
made_here = None
if KEPT not in os.environ:  # in the process that starts the others, before JAX is imported
    os.environ[KEPT] = made_here = tempfile.mkdtemp(prefix="xorjax-tests-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# Compilation makes the first example of a kind slow; derandomized, so that CI says the same twice.
settings.register_profile("xorjax", deadline=None, derandomize=True)
settings.load_profile("xorjax")


def pytest_addoption(parser):
    group = parser.getgroup("xorjax")
    group.addoption(
        "--slow-sample", type=float, default=1.0, metavar="SHARE", help="share of the slow tests to run"
    )
    group.addoption(
        "--sample-seed", type=int, default=0, metavar="N", help="chooses them, by a hash of N and a name"
    )


def pytest_report_header(config):
    share, seed = config.option.slow_sample, config.option.sample_seed
    return f"of the slow tests a sample: --slow-sample {share} --sample-seed {seed}" if share < 1 else None


def pytest_collection_modifyitems(config, items):
    """Leave out slow tests beyond the share of `--slow-sample`."""
    share, seed = config.option.slow_sample, config.option.sample_seed

    def is_left_out(item):
        digest = hashlib.sha256(f"{seed} {item.nodeid}".encode()).digest()
        return "slow" in item.keywords and int.from_bytes(digest[:4]) >= share * 2**32

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]


def pytest_unconfigure():
    if made_here is not None:
        shutil.rmtree(made_here, ignore_errors=True)


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


@pytest.fixture
def quick_compiler():
    """Half of the time to compile, and slower programs: for what is compared to rounding, once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
