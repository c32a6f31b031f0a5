"""Eight fake CPU devices, programs that compile fast and are kept, strict promotion."""

import os
import signal
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# JAX's default generator takes five times as long to compile, half of the time of these tests.
os.environ.setdefault("JAX_DEFAULT_PRNG_IMPL", "rbg")

if os.environ["JAX_PLATFORMS"] == "cpu":
    # Most of the time of these tests is compilation, and most of that is optimisation.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Shells start background jobs with Ctrl-C ignored, which train.py respects; tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest
from hypothesis import settings

settings.register_profile("jaxws", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("jaxws")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where tests that only read the digits prepare them once."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The images of small_run.py, which tests only read."""
    from tests.small_run import make_folder

    return make_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def strict_promotion():
    """The library's own arithmetic must not lean on implicit promotion."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
