"""Devices that nobody has here, to compile for: TPU pods, and the GPUs of one host.

XLA compiles for TPUs with libtpu and for GPUs with JAX's CUDA plugin; neither needs the hardware, a
driver or a toolkit. Nothing can be put on such devices: programs are lowered from shapes.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
from typing import Any, NamedTuple

from jax.experimental import topologies

from jaxws.parallel.chips import GPUS, TPUS, Chip, cuda_target

# Both cores of such a chip work as one device, as they do in a run.
_MEGACORE = ("v4",)
# libtpu would look for a TPU of this machine, complain that there is none, and lock it.
_NO_TPU_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
_CUDA_PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


class Topology(NamedTuple):
    """Devices to compile for.

    Attributes:
      name: as it was asked for.
      chip: what each of them is.
      devices: of JAX, one per chip; for compiling only.
    """

    name: str
    chip: Chip
    devices: list[Any]

    @property
    def hosts(self) -> int:
        """Number of machines that they are in."""
        return len({device.process_index for device in self.devices})


def find_topology(name: str) -> Topology:
    """Looks up devices by name.

    Args:
      name: a kind of chip and how many: ``'v5e:4x4'`` for a TPU slice, ``'h100:8'`` for the GPUs
        of a host.

    Returns:
      The devices.

    Raises:
      ValueError: a name that is not known, a size that such chips do not come in, or XLA's compiler
        for them is not installed.

    Example:
      >>> find_topology("v5litepod-8")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: --topology='v5litepod-8': expected KIND:SIZE, such as v4:2x2x1, ...
    """
    kind, _, size = name.partition(":")
    if kind not in (*TPUS, *GPUS):
        raise ValueError(_unknown(name))
    if not size or not all(part.isdecimal() and int(part) for part in size.split("x")):
        raise ValueError(f"{_given(name)}: expected {kind}:SIZE, such as {_listed(kind)}.")
    return _tpus(name, kind) if kind in TPUS else _gpus(name, kind, size)


def _tpus(name: str, kind: str) -> Topology:
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            f"{_given(name)} needs libtpu, XLA's compiler for TPUs: pip install -e '.[tpu]', or"
            " pip install libtpu; no TPU is needed."
        )
    for variable, value in _NO_TPU_HERE.items():
        os.environ.setdefault(variable, value)
    megacore = {"chip_config_name": "megacore"} if kind in _MEGACORE else {}
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **megacore)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{_given(name)}: libtpu knows no such slice ({reason}); expected one such"
            f" as {_listed(kind)}."
        ) from error
    return Topology(name, TPUS[kind], list(found.devices))


def _gpus(name: str, kind: str, size: str) -> Topology:
    if size not in GPUS[kind].sizes:
        raise ValueError(
            f"{_given(name)}: GPUs of one host can be compiled for; expected {_listed(kind)}."
        )
    if not any(_is_installed(plugin) for plugin in _CUDA_PLUGINS):
        version = importlib.metadata.version("jaxlib")
        raise ValueError(
            f"{_given(name)} needs JAX's CUDA plugin: pip install -e '.[cuda]', or pip install"
            f" jax-cuda13-plugin=={version}; no GPU is needed."
        )
    found = topologies.get_topology_desc(
        platform="cuda", topology=f"1x1x{size}", target_config=cuda_target(kind)
    )
    return Topology(name, GPUS[kind], list(found.devices))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # nor is the package that it would be in


def _unknown(name: str) -> str:
    known = [f"{kind}:{size}" for kind, chip in {**TPUS, **GPUS}.items() for size in chip.sizes]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    kinds = "; ".join(map(_listed, (*TPUS, *GPUS)))
    return f"{_given(name)}: expected KIND:SIZE, such as {kinds}{hint}"


def _listed(kind: str) -> str:
    return f"{kind}:{', '.join({**TPUS, **GPUS}[kind].sizes)}"


def _given(name: str) -> str:
    return f"--topology={name!r}"
