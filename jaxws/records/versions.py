"""Versions of what computes: of Python, of this package and of those that it rests on."""

from __future__ import annotations

import importlib.metadata
import platform

import jaxws

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Versions by name.

    Returns:
      That of Python, of jaxws and of ``PACKAGES``.

    Example:
      >>> versions()["jaxws"] == jaxws.__version__
      True
    """
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "jaxws": jaxws.__version__, **packages}
