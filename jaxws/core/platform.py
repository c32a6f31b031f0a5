"""The platform that a program is traced for: mostly, but not always, that of the devices here."""

from __future__ import annotations

import jax


def target_platform() -> str:
    """The platform of the devices that the mesh in context is made of, or else JAX's default.

    They differ where a program is compiled ahead of time, for devices that are not here.

    Returns:
      ``'cpu'``, ``'gpu'`` or ``'tpu'``.

    Example:
      >>> target_platform() == jax.default_backend()
      True
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else str(device.platform)


def is_here(platform: str) -> bool:
    """Whether there are devices of a platform, on which something could be tried.

    Args:
      platform: as :func:`target_platform` names it.

    Returns:
      False where programs for it are only compiled.

    Example:
      >>> is_here(jax.default_backend())
      True
    """
    return platform == jax.default_backend()
