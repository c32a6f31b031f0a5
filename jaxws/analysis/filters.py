"""How much alike the filters of two positions are, near and far, in one pool and in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxws.core.local_kernels import NAMES, to_arrays
from jaxws.core.named_leaves import named_leaves
from jaxws.core.pools import make_grid

MOST_PAIRS = 100_000
_CHUNK = 10_000  # pairs whose filters are gathered at once


def position_filters(
    variables: Mapping[str, Any], positions: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """The filters of 2-D layers, one for each position, also where a convolution has one for all.

    Args:
      variables: of a network. ``params`` has leaves named ``local_kernel`` (h, w, i, j, c / groups,
        f), and ``kernel`` (i, j, c / groups, f); ``masks`` what removes connections, if anything.
      positions: (h, w) of the convolutions' outputs by the layer's path.

    Returns:
      Arrays (h, w, i, j, c / groups, f) by path; those of convolutions are one filter's views.

    Example:
      >>> variables = {"params": {"conv1": {"kernel": np.ones((3, 3, 1, 8))}}}
      >>> position_filters(variables, {"conv1": (24, 24)})["conv1"].shape
      (24, 24, 3, 3, 1, 8)
    """
    found = {}
    masks = named_leaves(variables.get("masks", {}))
    for name, leaf in named_leaves(to_arrays(variables["params"])).items():
        path, _, last = f"/{name}".rpartition("/")
        layer, shape = path.lstrip("/"), np.shape(leaf)
        if last in NAMES and len(shape) == 6:
            found[layer] = np.asarray(leaf) * np.asarray(masks.get(name, 1), np.float32)
        elif last == "kernel" and len(shape) == 4 and layer in positions:
            found[layer] = np.broadcast_to(leaf, (*positions[layer], *shape))
    return found


class Pairs(NamedTuple):
    """Pairs of positions of a layer, and how much alike their filters are.

    Attributes:
      distance: (m,) between the two positions, Euclidean, in positions.
      same_pool: (m,) bool: whether both are in one pool of the grid, which share weights.
      similarity: (m, f), cosine between the two filters of each feature, from -1 to 1; NaN where
        one of them is 0.
      sampled: whether these are drawn out of more pairs.
    """

    distance: np.ndarray
    same_pool: np.ndarray
    similarity: np.ndarray
    sampled: bool


def position_similarity(
    kernel: np.ndarray, *, most_pairs: int = MOST_PAIRS, seed: int = 0
) -> Pairs:
    """Compares the filters of pairs of positions.

    Args:
      kernel: (h, w, i, j, c / groups, f).
      most_pairs: if there are more, so many are drawn, with replacement: a first position from all,
        the second for one half of the pairs from the rest of its pool, for the other half from all
        other pools. Otherwise each pair of two different positions is there once.
      seed: of the drawing.

    Returns:
      The pairs.

    Raises:
      ValueError: a kernel of other axes, a single position, fewer than 2 pairs asked for.

    Example:
      >>> pairs = position_similarity(np.ones((4, 4, 3, 3, 1, 2)))
      >>> pairs.similarity.shape, int(pairs.same_pool.sum()), float(pairs.similarity.min().round(9))
      ((120, 2), 10, 1.0)
    """
    kernel = np.asarray(kernel)
    if kernel.ndim != 6 or kernel.shape[0] * kernel.shape[1] < 2 or most_pairs < 2:
        raise ValueError(
            f"kernel of shape {kernel.shape}, most_pairs={most_pairs}: expected (h, w, i, j, c, f)"
            " with two positions or more, and two pairs or more."
        )
    height, width = kernel.shape[:2]
    periods = make_grid(kernel, "grid").periods
    count = height * width
    pool_of = (
        np.arange(height)[:, None] % periods[0] * periods[1] + np.arange(width) % periods[1]
    ).ravel()
    sampled = count * (count - 1) // 2 > most_pairs
    a, b = (
        _draw(pool_of, most_pairs, np.random.default_rng(seed))
        if sampled
        else np.triu_indices(count, k=1)
    )
    (rows_a, columns_a), (rows_b, columns_b) = divmod(a, width), divmod(b, width)
    return Pairs(
        np.hypot(rows_a - rows_b, columns_a - columns_b),
        pool_of[a] == pool_of[b],
        _cosines(kernel, a, b),
        sampled,
    )


def _draw(
    pool_of: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions, the first half of one pool each, if there are such."""
    by_pool = np.argsort(pool_of, kind="stable")
    sizes = np.bincount(pool_of)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty_like(by_pool)
    rank[by_pool] = np.arange(len(by_pool)) - starts[pool_of[by_pool]]
    a = rng.integers(len(pool_of), size=most)
    size, start = sizes[pool_of[a]], starts[pool_of[a]]
    # Number of the second one, counted from the first on: 1 .. size - 1 are the rest of the pool.
    within = (rank[a] + rng.integers(1, np.maximum(size, 2))) % size + start
    without = (start + size + rng.integers(np.maximum(len(pool_of) - size, 1))) % len(pool_of)
    is_within = np.arange(most) < most // 2
    b = by_pool[np.where(is_within, within, without)]
    is_pair = np.where(is_within, size > 1, size < len(pool_of))
    return a[is_pair], b[is_pair]


def _cosines(kernel: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of pairs of positions, feature by feature, which bounds the memory that it takes."""
    height, width, *_, features = kernel.shape
    found = np.empty((len(a), features))
    for feature in range(features):
        filters = kernel[..., feature].reshape(height * width, -1).astype(np.float64)
        norms = np.linalg.norm(filters, axis=1, keepdims=True)
        unit = np.divide(filters, norms, out=np.full_like(filters, np.nan), where=norms > 0)
        for start in range(0, len(a), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            found[chunk, feature] = np.einsum("mk,mk->m", unit[a[chunk]], unit[b[chunk]])
    return np.clip(found, -1, 1)


class Distance(NamedTuple):
    """Similarity of filters at about one distance.

    Attributes:
      same_pool: whether the two positions are in one pool.
      distance: to which that of the pairs was rounded, in positions.
      mean: of the similarity, over pairs and features.
      low: its 10th percentile.
      high: its 90th percentile.
      pairs: number of pairs of positions.
      undefined: number of similarities that do not count, as a filter is 0.
    """

    same_pool: bool
    distance: int
    mean: float
    low: float
    high: float
    pairs: int
    undefined: int


def similarity_by_distance(pairs: Pairs) -> list[Distance]:
    """Puts pairs of positions together by whole distances and by pool.

    Args:
      pairs: of :func:`position_similarity`.

    Returns:
      What there is, pairs of one pool first, by distance. Statistics are NaN where no similarity is
      defined.

    Example:
      >>> pairs = position_similarity(np.ones((4, 1, 2, 1, 1, 1)))
      >>> [(each.same_pool, each.distance, each.pairs) for each in similarity_by_distance(pairs)]
      [(True, 2, 2), (False, 1, 3), (False, 3, 1)]
    """
    rounded = np.rint(pairs.distance).astype(int)
    found = []
    for same in (True, False):
        for distance in np.unique(rounded[pairs.same_pool == same]):
            here = pairs.similarity[(pairs.same_pool == same) & (rounded == distance)]
            values = here[np.isfinite(here)]
            low, high = np.percentile(values, (10, 90)) if values.size else (np.nan, np.nan)
            mean = values.mean() if values.size else np.nan
            numbers = (float(mean), float(low), float(high))
            found.append(
                Distance(same, int(distance), *numbers, len(here), here.size - values.size)
            )
    return found
