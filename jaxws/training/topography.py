"""Losses of the weights themselves, which a step adds to that of the images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from jaxws.core.leaf_patterns import map_matching, matches
from jaxws.core.local_kernels import LOCAL_KERNEL, MASKED_KERNEL
from jaxws.core.pooled import probes, with_probes
from jaxws.core.similarity import similarity_loss
from jaxws.core.topography import smoothness_loss


class Topography(NamedTuple):
    """What is added to the loss, by weight; hashable.

    Attributes:
      smoothness: weight of :func:`jaxws.core.topography.smoothness_loss`; 0 leaves it out.
      similarity: weight of :func:`jaxws.core.similarity.similarity_loss`; 0 leaves it out.
      arrangement: of neurons, of the first.
      pools: of the second.
    """

    smoothness: float = 0.0
    similarity: float = 0.0
    arrangement: str = "positions"
    pools: str = "grid"

    def __bool__(self) -> bool:
        """Whether there is anything to add."""
        return bool(self.smoothness or self.similarity)

    def losses(self, params: Any) -> dict[str, jax.Array]:
        """Those that have a weight, without it; layers with masks are left out.

        Args:
          params: of a network, packed and pooled or not.

        Returns:
          Scalars, by the names that they have in metrics.jsonl.

        Example:
          >>> kernel = jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)
          >>> Topography(similarity=2.0).losses({"local_kernel": kernel})
          {'similarity_loss': Array(0.25, dtype=float32)}
        """
        found = {}
        if self.smoothness:
            found["smoothness_loss"] = smoothness_loss(params, arrangement=self.arrangement)
        if self.similarity:
            found["similarity_loss"] = similarity_loss(params, pools=self.pools)
        return found


NONE = Topography()


def make_topography(config: ConfigDict) -> Topography:
    """Reads a run's configuration.

    Args:
      config: of the run; ``topography`` is read, and whose pools are similar is ``sharing.pools``.

    Returns:
      What its step adds to the loss.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> bool(make_topography(base_config()))
      False
    """
    given = config.topography
    return Topography(
        smoothness=given.smoothness or 0.0,
        similarity=given.similarity or 0.0,
        arrangement=given.arrangement or "positions",
        pools=config.sharing.pools,
    )


def check_topography(
    topography: Topography, params: Any, names: Sequence[str], frozen: Sequence[str]
) -> None:
    """Checks that a network has the layers whose weights are compared, and trains some.

    Args:
      topography: of a run.
      params: of its network, or their shapes.
      names: of these.
      frozen: patterns of those that are frozen.

    Raises:
      ValueError: there are none, or all are frozen; layers have masks; an impossible arrangement.

    Example:
      >>> check_topography(Topography(), {}, [], ())
    """
    if not topography:
        return
    masked = [name for name in names if name.rpartition("/")[2] == MASKED_KERNEL]
    if masked:
        raise ValueError(
            f"config.topography: layers have masks ({masked[0]}), which training does not give to"
            " its losses: set none, or train in a loop of your own with"
            " jaxws.smoothness_loss(params, mask=variables['masks'])."
        )
    kernels = [name for name in names if name.rpartition("/")[2] == LOCAL_KERNEL]
    if kernels and all(matches(name, frozen) for name in kernels):
        raise ValueError(
            f"config.topography, but config.optimizer.freeze={tuple(frozen)!r} names all locally"
            " connected kernels, which do not change then: freeze fewer."
        )
    try:
        jax.eval_shape(topography.losses, params)
    except ValueError as error:
        raise ValueError(f"config.topography: {error}") from error


def add_topography(
    gradients: Any, params: Any, topography: Topography, frozen: Sequence[str] = ()
) -> tuple[Any, dict[str, jax.Array]]:
    """Adds the gradients of the weighted losses to those of the images.

    Once per step, whatever parts its batch is in: weights have no parts. Apart from the loss scale,
    as parameters and these losses are float32.

    Args:
      gradients: of the images' loss, as :func:`jaxws.training.gradients.batch_gradients` has them.
      params: before the step, packed and pooled or not.
      topography: what to add.
      frozen: patterns of leaves (:mod:`jaxws.core.leaf_patterns`) whose gradients stay as they are.

    Returns:
      The sum, and the losses without their weights; both as given, and empty, if there are none.

    Example:
      >>> params = {"local_kernel": jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)}
      >>> zeros = jax.tree.map(jnp.zeros_like, params)
      >>> added, losses = add_topography(zeros, params, Topography(similarity=1.0))
      >>> added["local_kernel"].ravel().tolist(), float(losses["similarity_loss"])
      ([-0.375, 0.125], 0.25)
    """
    if not topography:
        return gradients, {}

    def total(weights: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        weights = map_matching(partial(jax.tree.map, lax.stop_gradient), weights, frozen)
        losses = topography.losses(with_probes(params, weights))
        factors = topography._asdict()
        weighted = [factors[name.removesuffix("_loss")] * loss for name, loss in losses.items()]
        return sum(weighted, jnp.zeros(())), losses

    added, losses = jax.grad(total, has_aux=True)(probes(params))
    return jax.tree.map(jnp.add, gradients, added), losses
