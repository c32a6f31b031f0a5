"""What may run at once on this machine: a run on each GPU, on each core, or one on all there is."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxws.system.text import one_line

VISIBLE = "CUDA_VISIBLE_DEVICES"
# JAX is asked in another process: in this one, it would take memory of every device.
_PROBE = """
import jax, json
devices = jax.local_devices()
version = getattr(devices[0].client, "platform_version", "")
print(json.dumps({"platform": devices[0].platform, "version": version, "count": len(devices)}))
"""
_SIDES = {"digits": 24, "imagenet2012": 224}  # of images, in pixels; others have 32 or say it
# Values in the first layer of a batch from which on a step is worth more than a core.
_ONE_CORE = 1e6
_BASE_BYTES, _BYTES_PER_VALUE = 0.7e9, 12.0
_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


class Slot(NamedTuple):
    """A place for one run at a time.

    Attributes:
      cpus: numbers of those that it keeps to; none for all.
      environment: what the run finds there.
    """

    cpus: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


class Devices(NamedTuple):
    """What JAX would use here: ``platform`` such as ``'cpu'``, and how many of them."""

    platform: str
    number: int
    is_cuda: bool = False


def probe() -> Devices:
    """Asks JAX, in a process that ends again, what it would run on.

    Returns:
      The devices.

    Raises:
      ValueError: JAX finds none, or fails.
    """
    command = [sys.executable, "-c", _PROBE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise ValueError(f"JAX finds no device here ({one_line(last)}): repair that first.")
    found = json.loads(done.stdout.splitlines()[-1])
    is_cuda = found["platform"] in ("gpu", "cuda") and "rocm" not in found["version"].lower()
    return Devices(found["platform"], found["count"], is_cuda)


def make_slots(
    configs: Sequence[ConfigDict], devices: Devices, wanted: int | None = None
) -> tuple[Slot, ...]:
    """Divides this machine among runs.

    They depend on all runs of a command, whether done or not: a run that is resumed gets as many
    cores as before, on which the last bits of its numbers depend.

    Args:
      configs: of all runs.
      devices: see :func:`probe`.
      wanted: number of slots; None for what suits: one for each GPU; on a CPU as many as there are
        cores, runs and room in memory for small networks, and one for large ones, whose steps use
        all cores.

    Returns:
      At least one slot.

    Example:
      >>> len(make_slots([], Devices("tpu", 4)))
      1
      >>> gpu = make_slots([], Devices("gpu", 2, is_cuda=True))
      >>> len(gpu)
      2
    """
    if devices.platform == "cpu":
        return _of_cores(wanted or _suits_cpu(configs))
    if devices.is_cuda:
        return _of_gpus(devices.number, wanted or devices.number, os.environ)
    return (Slot(),) * (wanted or 1)


def _suits_cpu(configs: Sequence[ConfigDict]) -> int:
    if not all(uses_one_core(config) for config in configs):
        return 1
    most = max(map(guessed_memory, configs), default=_BASE_BYTES)
    return max(1, min(len(cores()), len(configs), int(free_memory() / most)))


def _of_cores(count: int) -> tuple[Slot, ...]:
    """Gives each slot its share of the cores; if there are too few, the system divides them."""
    own = cores()
    if count == 1 or count > len(own):
        return (Slot(),) * count
    bounds = [round(i * len(own) / count) for i in range(count + 1)]
    return tuple(Slot(own[a:b]) for a, b in itertools.pairwise(bounds))


def _of_gpus(devices: int, count: int, environment: Mapping[str, str]) -> tuple[Slot, ...]:
    """GPUs by turns; where several runs share one, each takes its part of the memory."""
    given = environment.get(VISIBLE, "")
    names = [name.strip() for name in given.split(",") if name.strip()][:devices]
    names = names or [str(i) for i in range(devices)]
    on_each = -(-count // len(names))
    part = (("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / on_each:.3f}"),) if on_each > 1 else ()
    return tuple(Slot((), ((VISIBLE, names[i % len(names)]), *part)) for i in range(count))


def size_of_image(config: ConfigDict) -> int:
    """How much there is to compute for an image, about: numbers in the network's first layer.

    Args:
      config: of a run.

    Returns:
      A number.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> size_of_image(base_config())
      16384
    """
    data = config.data
    side = data.crop_size or data.image_size or _SIDES.get(data.name, 32)
    return side**2 * config.model.width


def uses_one_core(config: ConfigDict) -> bool:
    """Whether two such runs beside each other, with a core each, are faster than one by one.

    Args:
      config: of a run.

    Returns:
      True or False.

    Example:
      >>> from jaxws.paper.configs import row_config
      >>> uses_one_core(row_config("small/table5/digits/lc")), uses_one_core(
      ...     row_config("table5/cifar10/lc")
      ... )
      (True, False)
    """
    return config.batch_size * size_of_image(config) < _ONE_CORE


def guessed_memory(config: ConfigDict) -> float:
    """About how much memory a run takes on a CPU, before it has been measured.

    Args:
      config: of the run.

    Returns:
      Bytes.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> 1e9 < guessed_memory(base_config()) < 1e10
      True
    """
    values = config.batch_size * size_of_image(config) * config.model.depth
    return _BASE_BYTES + _BYTES_PER_VALUE * values


def cores() -> tuple[int, ...]:
    """The CPUs that this process may use.

    Returns:
      Their numbers.

    Example:
      >>> len(cores()) >= 1
      True
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def free_memory() -> float:
    """How much memory there is for more programs, as the kernel and a container's limit say.

    Returns:
      Bytes; infinity where that is not known.

    Example:
      >>> free_memory() > 0
      True
    """
    free = float("inf")
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
        most, used = (path.read_text().strip() for path in _CGROUP_LIMITS)
        if most != "max":
            free = min(free, float(int(most) - int(used)))
    except (OSError, ValueError, KeyError):
        pass  # another system, or no limit
    return free
