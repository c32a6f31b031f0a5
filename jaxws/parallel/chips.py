"""What is known of accelerators: memory, speeds and links, from their vendors' public pages.

TPUs: https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and the pages v4, v5e, v5p and
v6e next to it. "Interchip interconnect" there is the sum over a chip's links, in one direction.
GPUs: NVIDIA's data sheets of A100 (SXM, 80 GB), H100 (SXM) and H200. NVLink there is the sum of
both directions.
"""

from __future__ import annotations

from typing import NamedTuple

_GIGA = 10**9


class Chip(NamedTuple):
    """An accelerator; a device of JAX is one of it.

    Attributes:
      memory: bytes of HBM.
      bandwidth: of HBM, bytes per second.
      flops: floating-point operations per second in bfloat16, at most.
      link: bytes per second that one link to a neighbour sends.
      links: number of them.
      sizes: of topologies that users can have, as examples.
    """

    memory: int
    bandwidth: float
    flops: float
    link: float
    links: int
    sizes: tuple[str, ...]


_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_3D = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
_HOST = ("1", "2", "4", "8")

TPUS = {
    "v4": Chip(32 * 2**30, 1200e9, 275e12, 50e9, 6, _3D),
    "v5e": Chip(16 * _GIGA, 819e9, 197e12, 50e9, 4, _2D),
    "v5p": Chip(95 * _GIGA, 2765e9, 459e12, 100e9, 6, _3D),
    "v6e": Chip(32 * _GIGA, 1640e9, 918e12, 112e9, 4, _2D),
}
# All GPUs of a host are one NVLink switch away from each other: one link, as it were.
GPUS = {
    "a100": Chip(80 * _GIGA, 2039e9, 312e12, 300e9, 1, _HOST),
    "h100": Chip(80 * _GIGA, 3350e9, 989e12, 450e9, 1, _HOST),
    "h200": Chip(141 * _GIGA, 4800e9, 989e12, 450e9, 1, _HOST),
}
# What CUDA says of them, for which XLA compiles: text of its GpuTargetConfigProto.
_CUDA = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 {cores}
  memory_bandwidth: {bandwidth:.0f} device_memory_size: {memory}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 13 }}
device_description_str: "NVIDIA {name}"
"""
_AMPERE = (
    "core_count: 108 fpus_per_core: 64 clock_rate_ghz: 1.41 l2_cache_size: 41943040"
    " shared_memory_per_core: 167936 shared_memory_per_block_optin: 166912"
    " cuda_compute_capability { major: 8 }"
)
_HOPPER = (
    "core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800"
    " shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448"
    " cuda_compute_capability { major: 9 }"
)


def cuda_target(kind: str) -> str:
    """The description of a GPU that XLA compiles for without one.

    Args:
      kind: one of ``GPUS``.

    Returns:
      A protocol buffer as text.

    Example:
      >>> 'device_description_str: "NVIDIA H100"' in cuda_target("h100")
      True
    """
    chip = GPUS[kind]
    return _CUDA.format(
        cores=_AMPERE if kind == "a100" else _HOPPER,
        bandwidth=chip.bandwidth,
        memory=chip.memory,
        name=kind.upper(),
    )
