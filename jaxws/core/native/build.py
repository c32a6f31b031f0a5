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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jaxlib.version

from jaxws.system.atomic import write_together
from jaxws.system.user_cache import tell_unusable, user_cache

SOURCES = Path(__file__).parent
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC")
_TIMEOUT_S = 300
_log = logging.getLogger("jaxws")


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Loads the compiled kernels, compiling them first if nobody has.

    The library is kept in :func:`jaxws.system.user_cache.user_cache`, with a checksum in its name:
    one that has been damaged is compiled again. Where it cannot be kept, as in a home directory
    that is read-only, each process compiles its own. The compiler is ``$CXX``, or the first of c++,
    g++ and clang++ on the path; ``JAXWS_NATIVE=0`` turns the kernels off.

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
        return _load()
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        _log.warning(
            "the C++ kernels for CPUs cannot be used, and slower ones by XLA take their place"
            " (JAXWS_NATIVE=0 silences this): %s",
            detail.strip().splitlines()[0] if detail.strip() else type(error).__name__,
        )
        return None


def _load() -> ctypes.CDLL:
    compiler = _compiler()
    target, macros = _native_target(compiler)
    prefix = f"kernels-{_key(target, macros)}-"
    if kept := _find(prefix):
        return ctypes.CDLL(str(kept))
    # Not in the cache, which may have no room: what cannot be kept can be used all the same.
    with tempfile.TemporaryDirectory(prefix="jaxws-") as directory:
        output = Path(directory) / "kernels.so"
        _compile([compiler, *target], output)
        try:
            kept = _keep(prefix, output.read_bytes())
        except OSError as error:
            tell_unusable(error)
        return ctypes.CDLL(str(kept or output))


def _key(target: list[str], macros: str) -> str:
    key = hashlib.sha256(f"{jaxlib.version.__version__} {_FLAGS} {target}\n{macros}".encode())
    for source in sorted(SOURCES.glob("*.h")) + sorted(SOURCES.glob("*.cc")):
        key.update(source.read_bytes())
    return key.hexdigest()[:16]


def _find(prefix: str) -> Path | None:
    """A library that is as it was written; others are removed.

    To load half of one would end the process by a signal, without a word.
    """
    found = None
    try:
        for library in sorted(user_cache().glob(f"{prefix}*.so")):
            if library.name == prefix + _checksum(library.read_bytes()):
                found = library
            else:
                _log.warning("%s was damaged: the C++ kernels are compiled again", library)
                library.unlink()
    except OSError:  # there is no such directory, or not for us
        pass
    return found


def _keep(prefix: str, content: bytes) -> Path:
    """Puts a library into the cache: whoever looks, sees a whole one or none."""
    cache = user_cache()
    path = cache / (prefix + _checksum(content))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_together({path: content})
    except OSError as error:
        raise OSError(f"{error}; set JAXWS_CACHE_DIR to a directory") from error
    return path


def _checksum(content: bytes) -> str:
    """How the name of a library ends."""
    return hashlib.sha256(content).hexdigest()[:32] + ".so"


def _compile(compiler: list[str], output: Path) -> None:
    include = ["-isystem", jax.ffi.include_dir()]

    def to_object(source: Path) -> str:
        made = str(output.with_name(f"{source.stem}.o"))
        _run([*compiler, *_FLAGS, *include, "-c", str(source), "-o", made])
        return made

    # One process for each file: most of the time goes into XLA's headers.
    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(to_object, sorted(SOURCES.glob("*.cc"))))
    _run([*compiler, "-shared", *objects, "-o", str(output)])


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
