"""Compiles the C++ kernels once per processor, compiler and jaxlib, into a cache of the user's."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib.version

from jaxws.system.user_cache import user_cache

SOURCES = Path(__file__).parent
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
_TIMEOUT_S = 300


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Loads the compiled kernels, compiling them first if nobody has.

    The library is kept in :func:`jaxws.system.user_cache.user_cache`. The compiler is ``$CXX``, or
    the first of c++, g++ and clang++ on the path; ``JAXWS_NATIVE=0`` turns the kernels off.

    Returns:
      The library, or None where it is turned off or cannot be built; why is logged, once.

    Example:
      >>> library = load_library()
      >>> library is None or hasattr(library, "jaxws_forward")
      True
    """
    if os.environ.get("JAXWS_NATIVE", "1") == "0":
        return None
    try:
        return ctypes.CDLL(str(_build()))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        logging.getLogger("jaxws").warning(
            "the C++ kernels for CPUs cannot be used, and slower ones by XLA take their place"
            " (JAXWS_NATIVE=0 silences this): %s",
            detail.strip().splitlines()[0] if detail.strip() else type(error).__name__,
        )
        return None


def _build() -> Path:
    compiler = _compiler()
    target, macros = _native_target(compiler)
    key = hashlib.sha256(f"{jaxlib.version.__version__} {_FLAGS} {target}\n{macros}".encode())
    for source in sorted(SOURCES.glob("*.h")) + sorted(SOURCES.glob("*.cc")):
        key.update(source.read_bytes())
    cache = user_cache()
    library = cache / f"kernels-{key.hexdigest()[:16]}.so"
    if library.exists():
        return library
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{error}; set JAXWS_CACHE_DIR to a directory") from error
    # Compiled under another name and moved: whoever looks, sees a whole library or none.
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        output = Path(directory) / library.name
        include = ["-isystem", jax.ffi.include_dir()]
        main = str(SOURCES / "local_conv.cc")
        _run([compiler, *_FLAGS, *target, *include, main, "-o", str(output)])
        os.replace(output, library)
    return library


def _compiler() -> str:
    given = os.environ.get("CXX")
    for name in [given] if given else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(
        f"no C++ compiler: CXX={given!r} is not on the path."
        if given
        else "no C++ compiler on the path; install g++ or clang++, or set CXX."
    )


def _native_target(compiler: str) -> tuple[list[str], str]:
    """Flags for the processor at hand, and the compiler's macros under them.

    The macros name the compiler, its version and every instruction set in use, so that machines of
    different kinds may share a home directory.
    """
    probe = [compiler, "-x", "c++", "-dM", "-E", os.devnull]
    for flags in (["-march=native"], ["-mcpu=native"]):
        try:
            return flags, _run([*probe, *flags])
        except subprocess.CalledProcessError:
            continue
    return [], _run(probe)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    return done.stdout
