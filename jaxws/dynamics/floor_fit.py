"""The fit A / k + floor of errors over iterations, and when it says nothing."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

_LEAST_POINTS = 3  # two numbers are fitted
_LEAST_SPAN = 5  # of k: over less of it, 1 / k and a constant are nearly the same curve
_MOST_SCATTER = 0.3  # of errors about the fit, relative to it: that of a few trials
_ABOUT_ZERO = 0.3  # of the last error: a floor below minus that is no scatter


def fit_floor(
    iterations: Float[np.ndarray, "points"], errors: Float[np.ndarray, "points"]
) -> tuple[float, float, str]:
    """Least squares of A / k + floor, relative to each error, over the second half of log k.

    Args:
      iterations: k, counted as the learning rate 1 / k does; increasing, above 0.
      errors: at these, above 0.

    Returns:
      A; the floor, which is 0 where the fit is a little below; and why the fit failed, empty if it
      did not. Where it failed the numbers are NaN.

    Example:
      >>> k = np.geomspace(10, 1000, 50)
      >>> slope, floor, failure = fit_floor(k, 3 / k + 0.5)
      >>> round(slope, 6), round(floor, 6), failure
      (3.0, 0.5, '')
      >>> fit_floor(k, 3 / k**2)[2].partition(":")[0]
      'the floor is negative'
    """
    late = iterations > np.sqrt(iterations[0] * iterations[-1])
    failure, slope, floor = _obstacle(iterations, errors, int(late.sum())), math.nan, math.nan
    if not failure:
        design = np.stack([1 / iterations[late], np.ones(late.sum())], axis=1)
        weighted = design / errors[late, None]
        (slope, floor), *_ = np.linalg.lstsq(weighted, np.ones(late.sum()))
        scatter = float(np.sqrt(np.mean(np.square(weighted @ (slope, floor) - 1))))
        failure = _verdict(float(floor), float(errors[-1]), scatter)
    if failure:
        return math.nan, math.nan, failure
    return float(slope), max(float(floor), 0.0), ""


def _obstacle(iterations: np.ndarray, errors: np.ndarray, points: int) -> str:
    """Why there is nothing to fit."""
    if not (np.isfinite(errors).all() and (errors > 0).all()):
        return "some errors are 0 or not finite: weights did not move or diverged; other --gamma"
    if iterations[-1] < _LEAST_SPAN * iterations[0]:
        first, last = iterations[0], iterations[-1]
        return (
            f"the rate, as 1 / (k0 + k), has only fallen {last / first:.2g}-fold: with k0 ="
            f" {first:.3g}, give --iterations of {(_LEAST_SPAN - 1) * first:.2g} or more, or a"
            " larger --gamma"
        )
    if points < _LEAST_POINTS:
        return f"{points} points in its half of log k are too few: more --iterations"
    return ""


def _verdict(floor: float, last: float, scatter: float) -> str:
    """Why a fit says nothing."""
    if floor < -_ABOUT_ZERO * last:
        return (
            f"the floor is negative: {floor:.2g} with errors of {last:.2g} at the end, which still"
            " fall faster than 1 / k: more --iterations"
        )
    if not scatter <= _MOST_SCATTER:
        return f"errors scatter by {scatter:.0%} about it: more --trials or --iterations"
    return ""
