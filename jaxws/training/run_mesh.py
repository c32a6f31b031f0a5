"""The devices that a run uses."""

from __future__ import annotations

import math

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxws.parallel.mesh import complete_sizes, make_mesh


def run_mesh(config: ConfigDict) -> Mesh:
    """Arranges the devices of a run, and checks that they divide its batch.

    Args:
      config: of the run.

    Returns:
      A mesh of all devices, unless ``config.mesh`` says otherwise.

    Raises:
      ValueError: ``config.mesh`` does not fit the devices, or these do not divide the batch.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> run_mesh(base_config()).size == jax.device_count()
      True
    """
    devices = jax.device_count()
    sizes = complete_sizes(dict(config.mesh), devices) or {"data": devices, "h": 1, "w": 1}
    mesh = make_mesh(**sizes)
    check_batch(config, mesh.size)
    return mesh


def check_batch(config: ConfigDict, devices: int) -> None:
    """Checks that devices divide a batch, and each part in which its gradients are computed.

    Args:
      config: of the run.
      devices: their number.

    Raises:
      ValueError: they do not.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> check_batch(base_config(), devices=3)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: config.batch_size=512 cannot be divided over 3 devices: 510 and 513 can; or ...
    """
    size, n_reps, parts = config.batch_size, config.data.n_reps, config.accumulate
    if (size * n_reps) % (parts * devices) == 0:
        return
    unit = parts * devices // math.gcd(parts * devices, n_reps)
    near = [n for n in (size // unit * unit, (size // unit + 1) * unit) if n]
    details = [f"{n_reps} views of each image"] * (n_reps > 1)
    details += [f"config.accumulate={parts}"] * (parts > 1)
    raise ValueError(
        f"config.batch_size={size} cannot be divided over {devices} devices"
        f"{' with ' * bool(details)}{' and '.join(details)}:"
        f" {' and '.join(map(str, near))} can; or use other devices by config.mesh."
    )
