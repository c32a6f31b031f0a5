"""Programs that XLA has compiled for a run are kept, so that the next start need not wait for them.

JAX has such a cache, which is off unless it is told where to lie. What it keeps for CPUs is machine
code for the processor that compiled it, and nothing in the names of its entries says which one that
was; where machines of several kinds share a home directory, each kind needs a directory of its own.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import filelock
import jax
import jaxlib

from jaxws.system.user_cache import tell_unusable, user_cache

MAX_BYTES = 2 * 1024**3
_CPU_INFO = Path("/proc/cpuinfo")
# Lines of it that say what a processor can do: on x86, and on Arm.
_FEATURES = ("model name", "flags", "CPU implementer", "CPU part", "CPU variant", "Features")
# A run has tens of small programs, which take a second or two to compile together.
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_compilation_cache_max_size": MAX_BYTES,
}


def keep_programs(wanted: bool = True) -> Path | None:
    """Lets JAX keep what it compiles from now on, in all of this process, and read what it kept.

    The directory is ``xla-<key>`` in the user's cache (:func:`jaxws.system.user_cache.user_cache`);
    the key is that of :func:`machine`. A directory that cannot be used is told in one line.

    Args:
      wanted: ``config.compilation_cache``.

    Returns:
      The directory, or None if nothing was changed: it is not wanted or cannot be used, or JAX
      has been told where its cache is already, or to have none.

    Example:
      >>> keep_programs(False)
    """
    told = jax.config.jax_compilation_cache_dir is not None
    if not wanted or told or not jax.config.jax_enable_compilation_cache:
        return None
    try:
        directory = user_cache() / f"xla-{hashlib.sha256(machine().encode()).hexdigest()[:16]}"
        directory.mkdir(parents=True, exist_ok=True)
        _drop_unfinished(directory)
    except (OSError, NotImplementedError) as error:  # a file system may have no locks
        tell_unusable(error)
        return None
    for name, value in _SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    return directory


def machine() -> str:
    """What compiled programs depend on besides what JAX knows of: versions and the processor.

    Returns:
      A description, the same in all processes that can use one another's programs.

    Example:
      >>> jax.__version__ in machine()
      True
    """
    try:
        lines = _CPU_INFO.read_text().split("\n\n", 1)[0].splitlines()  # of the first processor
        processor = [line for line in lines if line.split(":")[0].strip() in _FEATURES]
    except OSError:
        processor = []
    facts = [
        *(jax.__version__, jaxlib.__version__),
        *(platform.system(), platform.machine(), jax.default_backend()),
        f"{os.cpu_count()} cores",  # XLA divides its loops among them
        *(processor or [platform.processor()]),
    ]
    return "\n".join(facts)


def _drop_unfinished(directory: Path) -> None:
    """Drops entries whose writer was killed, or had no room left: JAX would try them for ever.

    JAX writes an entry, then a file with the time of its last use, both while it holds the lock.
    """
    with filelock.FileLock(directory / ".lockfile", timeout=10):
        for entry in directory.glob("*-cache"):
            used = entry.with_name(entry.name.removesuffix("-cache") + "-atime")
            if not used.exists():
                entry.unlink()
