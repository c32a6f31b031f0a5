"""What a result must say about where it comes from, and the memory of this process."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxws.system.atomic import write_atomically  # which loads no JAX

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "numpy", "torch"),
    *("grain", "tensorflow-datasets", "pillow", "simplejpeg", "tensorflow-cpu"),
)
# Vectors, and matrix units, by their names in /proc/cpuinfo.
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
# What changes speed or memory from outside.
VARIABLES = (
    "GLIBC_TUNABLES",
    "JAX_PLATFORMS",
    "LD_PRELOAD",
    "MALLOC_CONF",
    "OMP_NUM_THREADS",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)


def metadata() -> dict[str, Any]:
    """Machine, versions, date, command and commit, of the process that calls."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", *_module_and_arguments()]),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
            "cpu_flags": cpu_flags(),
            "cores": os.cpu_count(),
            "memory_bytes": _kilobytes("/proc/meminfo", "MemTotal"),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def cpu_flags() -> list[str]:
    """Those of the CPU's flags that decide how fast matrix products are (Linux)."""
    present = (_field("/proc/cpuinfo", "flags") or "").split()
    return [flag for flag in FLAGS if flag in present]


def resident_bytes() -> int | None:
    """Memory of this process in use now, where the system tells (Linux)."""
    return _kilobytes("/proc/self/status", "VmRSS")


def peak_bytes() -> int:
    """Most memory of this process in use at a time, since the last reset."""
    peak = _kilobytes("/proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_bytes() -> bool:
    """Makes the present memory the peak; False where the system cannot (it is Linux's)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Writes results as JSON, all of them or nothing.

    Args:
      path: of the file; its directory is made.
      report: what :func:`metadata` says, and results.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(report, indent=1) + "\n")


def fastest(run: Callable[[], Any], budget: float = 3.0, repeats: int = 7) -> float:
    """Seconds of the fastest repetition, the first two not counted where there is time for more.

    Args:
      run: what to repeat.
      budget: seconds after which it is not repeated any more.
      repeats: at most.
    """
    times: list[float] = []
    while len(times) < repeats and sum(times) < budget:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[2:] or times)


def _module_and_arguments() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec else Path(sys.argv[0]).name
    return [name.removesuffix(".__main__"), *sys.argv[1:]]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _kilobytes(path: str, name: str) -> int | None:
    field = _field(path, name)
    return None if field is None else 1024 * int(field.split()[0])


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
