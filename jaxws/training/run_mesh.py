"""The devices that a run uses."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxws.config.numbers import multiples_near
from jaxws.core.islands.layout import AXES
from jaxws.parallel.choice import Choice
from jaxws.parallel.mesh import complete_sizes, make_mesh
from jaxws.training.mesh_choice import choose_for
from jaxws.training.weight_sharing import Sharing


def run_mesh(
    config: ConfigDict, model: nn.Module, sharing: Sharing, image_shape: tuple[int, int, int]
) -> tuple[Mesh, Choice | None]:
    """Arranges the devices of a run, and checks that they divide its batch.

    Args:
      config: of the run.
      model: its network.
      sharing: when and how its weights are shared.
      image_shape: (H, W, c) of the images.

    Returns:
      A mesh of all devices, unless ``config.mesh`` says otherwise, and why it is this one; None
      where the configuration says so or there is one device.

    Raises:
      ValueError: ``config.mesh`` does not fit the devices, or these do not divide the batch.
    """
    devices, choice = jax.device_count(), None
    sizes = asked_sizes(config, devices)
    if sizes is None and devices > 1:
        choice = choose_for(config, model, sharing, image_shape, devices)
        sizes = choice.sizes
    sizes = sizes or dict.fromkeys(AXES, 1)
    mesh = make_mesh(sizes["data"], sizes["h"], sizes["w"])
    if idle := jax.process_count() - len({d.process_index for d in mesh.devices.flat}):
        raise ValueError(
            f"config.mesh={sizes} uses no device of {idle} of {jax.process_count()}"
            " processes: start fewer, or use more devices."
        )
    return mesh, choice


def asked_sizes(config: ConfigDict, devices: int) -> dict[str, int] | None:
    """The mesh that a configuration asks for; checks that the devices divide its batch.

    Args:
      config: of a run.
      devices: number of them.

    Returns:
      Sizes of the mesh's axes, by name; None where it asks for none, and takes all devices.

    Raises:
      ValueError: ``config.mesh`` does not fit the devices, or these do not divide the batch.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> config = base_config()
      >>> config.mesh.h = 2
      >>> asked_sizes(config, devices=8)
      {'data': 4, 'h': 2, 'w': 1}
    """
    sizes = complete_sizes({name: getattr(config.mesh, name) for name in AXES}, devices)
    check_batch(config, devices if sizes is None else math.prod(sizes.values()))
    return sizes


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
    if size % (parts * devices) == 0:
        return
    near = multiples_near(size, math.lcm(parts * devices, n_reps))
    details = [f"{n_reps} views of each image"] * (n_reps > 1)
    details += [f"config.accumulate={parts}"] * (parts > 1)
    raise ValueError(
        f"config.batch_size={size} cannot be divided over {devices} devices"
        f"{' with ' * bool(details)}{' and '.join(details)}:"
        f" {near} can; or use other devices by config.mesh."
    )
