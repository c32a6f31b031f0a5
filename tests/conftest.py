"""One CPU device, or as many as a test asks for; programs that compile fast and are kept.

Calls of the library are checked against its signatures, the shapes of arrays included.

Tests run with one device, as users do. Those marked ``devices(n)`` get n fake ones, and run last,
since a change of their number forgets all compiled programs.
"""

import os
import signal
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# JAX's default generator takes five times as long to compile, half of the time of these tests.
os.environ.setdefault("JAX_DEFAULT_PRNG_IMPL", "rbg")

if os.environ["JAX_PLATFORMS"] == "cpu":
    # Most of the time of these tests is compilation, and most of that is optimisation.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Shells start background jobs with Ctrl-C ignored, which train.py respects; tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import jaxtyping
import pytest
from hypothesis import settings
from jax.extend.backend import clear_backends

from tests.support.promotion import forbid_promotion

# Before any of them is imported. An int may stand for a float; JAXTYPING_DISABLE=1 checks nothing.
jaxtyping.install_import_hook(
    ["jaxws.core", "jaxws.layers", "jaxws.nnx", "jaxws.dynamics"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

jax.config.update("jax_num_cpu_devices", 1)
forbid_promotion()  # the library's own arithmetic must not lean on it

settings.register_profile("jaxws", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("jaxws")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Moves tests that ask for devices behind all others."""
    items.sort(key=_devices)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """As many devices as the test's mark asks for; skips it where they cannot be made."""
    wanted = _devices(item)
    if jax.default_backend() != "cpu":
        if jax.device_count() < wanted:
            pytest.skip(f"needs {wanted} devices")
    elif jax.config.jax_num_cpu_devices != wanted:
        clear_backends()
        jax.config.update("jax_num_cpu_devices", wanted)


def _devices(item):
    mark = item.get_closest_marker("devices")
    return mark.args[0] if mark else 1


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where tests that only read the digits prepare them once."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The images of small_run.py, which tests only read."""
    from tests.support.small_run import make_folder

    return make_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An empty gs://bucket, and a machine that has nothing of it yet."""
    from tests.support.bucket import served

    with served() as (bucket, url):
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        bucket.machine = tmp_path / "machine"
        # Not by JAXWS_CACHE_DIR: kernels are kept there too, and would be built anew.
        for user in ("records.staging", "data.sources.bucket_copy"):
            monkeypatch.setattr(f"jaxws.{user}.user_cache", lambda: bucket.machine)
        yield bucket


@pytest.fixture
def unchecked_types():
    """What users meet, whose calls nobody checks: the errors of the functions themselves."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def strict_promotion():
    """No rank is promoted implicitly either."""
    with jax.numpy_rank_promotion("raise"):
        yield
