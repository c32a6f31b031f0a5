"""Huge pages for the memory of programs on Linux: about a sixth of a training step on a CPU.

A step takes gigabytes from the allocator and gives them back. By default the kernel hands them out
in pages of 4 KiB, each of which is zeroed, mapped and looked up on its own. glibc 2.35 and newer
asks for pages of 2 MiB where a program starts with ``GLIBC_TUNABLES=glibc.malloc.hugetlb=1``.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_KERNEL_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment under which glibc asks for huge pages, unless it says something about it.

    Args:
      environment: such as ``os.environ``.

    Returns:
      A copy, with the setting if this machine knows it: Linux, glibc 2.35, and a kernel that gives
      huge pages to those who ask.

    Example:
      >>> with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"})
      {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}
    """
    given = environment.get(VARIABLE, "")
    if TUNABLE in given or not _is_supported():
        return dict(environment)
    setting = f"{TUNABLE}=1"
    return {**environment, VARIABLE: f"{given}:{setting}" if given else setting}


def restart_with_huge_pages() -> None:
    """Starts this program anew, in the same process, if it could have huge pages and has not.

    To be called first, before anything is imported that takes time.
    """
    environment = with_huge_pages(os.environ)
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_supported() -> bool:
    if sys.platform != "linux" or not sys.executable:
        return False
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return False
    try:
        return "[never]" not in _KERNEL_SETTING.read_text()
    except OSError:
        return False
