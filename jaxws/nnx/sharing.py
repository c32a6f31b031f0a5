"""Weight sharing in NNX modules, which are changed in place."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jaxws.core import sharing, snr


class Mask(nnx.Variable):
    """Which weights of a layer there are: multiplied onto its filters, and no parameter."""


def share_weights(module: nnx.Module, *, pools: str = "grid", missing_ok: bool = False) -> None:
    """Replaces every locally connected weight of a module by the mean of its pool, in place.

    :func:`jaxws.share_weights` on the module's parameters; masks of its layers are found in it. For
    a step that is pure, give that function the state: ``nnx.state(module, nnx.Param)``. Call it
    after the optimizer's update, also within ``nnx.jit``.

    Args:
      module: any module with layers of :mod:`jaxws.nnx`, or with parameters named
        ``local_kernel`` of shape (h, w, i, j, c / groups, f).
      pools: as in :func:`jaxws.share_weights`.
      missing_ok: as there.

    Raises:
      ValueError: as there.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxws.nnx import LocalConv
      >>> layer = LocalConv(1, 1, 1, image_size=4, use_bias=False, rngs=nnx.Rngs(0))
      >>> layer.local_kernel[...] = jnp.arange(4.0).reshape(4, 1, 1, 1)
      >>> share_weights(layer)
      >>> layer.local_kernel[...].ravel().tolist()
      [1.5, 1.5, 1.5, 1.5]
    """
    params = nnx.state(module, nnx.Param)
    shared = sharing.share_weights(params, pools=pools, mask=_masks(module), missing_ok=missing_ok)
    nnx.update(module, shared)


def weight_snr(module: nnx.Module, *, pools: str = "grid") -> dict[str, jax.Array]:
    """How well weights agree within their pools, Eq. (6): :func:`jaxws.weight_snr` of a module.

    Args:
      module: as in :func:`share_weights`.
      pools: likewise.

    Returns:
      A dict from the layer's path to its signal-to-noise ratio.

    Raises:
      ValueError: as :func:`jaxws.weight_snr`.

    Example:
      >>> from jaxws.nnx import LocalConv
      >>> layer = LocalConv(1, 1, 1, image_size=4, rngs=nnx.Rngs(0))
      >>> share_weights(layer)
      >>> weight_snr(layer)
      {'': Array(inf, dtype=float32)}
    """
    params = nnx.state(module, nnx.Param)
    return snr.weight_snr(params, pools=pools, mask=_masks(module))


def _masks(module: nnx.Module) -> dict[str, Any]:
    """By the layer's path, as :func:`jaxws.share_weights` takes them."""
    flat = nnx.to_flat_state(nnx.state(module, Mask))
    return {"/".join(map(str, path[:-1])): leaf[...] for path, leaf in flat}
