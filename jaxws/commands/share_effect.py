"""What sharing weights once does to a network's scores: before, after and the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from jaxws.core.local_kernels import map_local_kernels
from jaxws.core.sharing import share_weights
from jaxws.records.summary import metric_label, metric_text

DISTANCE = "distance_to_shared"
EFFECT_HEAD = ("", "before", "after", "difference")
_NONE = 1e-6  # relative: what rounding leaves of a difference


def distance_to_shared(params: Any, pools: str) -> float:
    """How far locally connected weights are from the means of their pools.

    Args:
      params: of a network.
      pools: ``'grid'`` or ``'global'``.

    Returns:
      The norm of the difference, over that of the weights; 0 where all weights are 0.

    Example:
      >>> import jax.numpy as jnp
      >>> distance_to_shared({"local_kernel": jnp.ones((4, 1, 1, 1))}, "grid")
      0.0
    """
    kernels: dict[str, Any] = {}
    map_local_kernels(kernels.__setitem__, params)
    named = {path: {"local_kernel": kernel} for path, kernel in kernels.items()}
    away = jax.tree.map(lambda a, b: a - b, named, share_weights(named, pools=pools))
    size = float(optax.tree.norm(named))
    return float(optax.tree.norm(away)) / size if size else 0.0


def shared_already(scores: Mapping[str, Any]) -> bool:
    """Whether weights agreed within their pools before they were shared.

    Args:
      scores: with ``before``, which has a distance of :func:`distance_to_shared`.

    Returns:
      A bool.

    Example:
      >>> shared_already({"before": {DISTANCE: 1e-9}})
      True
    """
    return bool(scores["before"][DISTANCE] <= _NONE)


def effect_rows(scores: Mapping[str, Any], metrics: Sequence[str]) -> list[tuple[str, ...]]:
    """Scores before and after, side by side.

    Args:
      scores: of the shared weights, with those before under ``before``.
      metrics: names of the means.

    Returns:
      Rows of a table, under ``EFFECT_HEAD``.

    Example:
      >>> scores = {"loss": 1.0, DISTANCE: 0.0, "before": {"loss": 1.5, DISTANCE: 0.25}}
      >>> effect_rows(scores, ["loss"])[1]
      ('distance to shared weights', '0.25', '0', '-0.25')
    """
    rows = []
    for name in metrics:
        before, after = scores["before"][name], scores[name]
        change = None if before is None or after is None else after - before
        sign = "+" if change is not None and change > 0 else ""
        texts = [metric_text(name, value) for value in (before, after, change)]
        rows.append((metric_label(name), *texts[:2], sign + texts[2]))
    before, after = scores["before"][DISTANCE], scores[DISTANCE]
    distances = (f"{before:.2g}", f"{after:.2g}", f"{after - before:+.2g}")
    return [*rows, ("distance to shared weights", *distances)]
