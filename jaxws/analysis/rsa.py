"""Representational similarity analysis (Kriegeskorte, Mur and Bandettini, 2008).

Which images a layer tells apart is a matrix of images by images, its RDM; how much alike two layers
are, of one network or of two, is how much alike their RDMs are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rdm(responses: np.ndarray) -> np.ndarray:
    """Representational dissimilarity matrix: 1 - Pearson correlation between images.

    Args:
      responses: (n, ...), all of a layer's responses to each of n images.

    Returns:
      (n, n) from 0 to 2, symmetric, 0 on the diagonal. An image to which all responses are equal
      has no correlation with any: its row and column are NaN.

    Raises:
      ValueError: fewer than 2 images, or a single response to each.

    Example:
      >>> rdm(np.array([[0.0, 1, 2], [0, 2, 4], [2, 1, 0]])).round(6).tolist()
      [[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [2.0, 2.0, 0.0]]
    """
    flat = np.asarray(responses, np.float64).reshape(len(responses), -1)
    if flat.shape[0] < 2 or flat.shape[1] < 2:
        raise ValueError(
            f"responses have shape {np.shape(responses)}: expected (n, ...) with 2 images and 2"
            " responses to each, or more."
        )
    is_constant = (flat == flat[:, :1]).all(axis=1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    distances = 1 - np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(distances, 0)
    distances[is_constant] = np.nan
    distances[:, is_constant] = np.nan
    return distances


def rdm_similarity(rdms: Sequence[np.ndarray]) -> np.ndarray:
    """Second-order similarity: Spearman correlation between the upper triangles of RDMs.

    Args:
      rdms: m matrices (n, n) of the same images, see :func:`rdm`.

    Returns:
      (m, m). Pairs of images that are NaN in one of two RDMs do not count; NaN where fewer than 3
      are left, or all of a matrix are equal.

    Raises:
      ValueError: matrices of different shapes, or of fewer than 3 images.

    Example:
      >>> one = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]])
      >>> rdm_similarity([one, one**2, -one]).tolist()
      [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    shapes = {np.shape(matrix) for matrix in rdms}
    size = max((side for shape in shapes for side in shape), default=0)
    if shapes != {(size, size)} or size < 3:
        found = ", ".join(map(str, sorted(shapes)))
        raise ValueError(f"RDMs of shapes {found}: expected (n, n) with one n, 3 or more.")
    upper = np.triu_indices(size, k=1)
    pairs = np.stack([np.asarray(matrix, np.float64)[upper] for matrix in rdms])
    similarity = np.empty((len(pairs), len(pairs)))
    for a, one in enumerate(pairs):
        for b in range(a + 1):
            similarity[a, b] = similarity[b, a] = _spearman(one, pairs[b])
    return similarity


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3:
        return np.nan
    ranks = [_ranks(each[both]) for each in (one, other)]
    centred = [each - each.mean() for each in ranks]
    size = np.sqrt(np.prod([each @ each for each in centred]))
    return float(np.clip(centred[0] @ centred[1] / size, -1, 1)) if size else np.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[number]
