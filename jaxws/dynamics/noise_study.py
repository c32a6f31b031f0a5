"""Theorem 1 measured: the error of noisy updates over iterations, its fit and its bound."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxws.dynamics.bounds import error_bound, gaussian_fourth_moment, largest_contracting_rate
from jaxws.dynamics.checks import check_above_zero, check_at_least
from jaxws.dynamics.descent import begin, descend
from jaxws.dynamics.fixed_points import fixed_point, noisy_fixed_point
from jaxws.dynamics.floor_fit import fit_floor


class NoiseStudy(NamedTuple):
    """What is measured. Inputs are N(0, I), initial weights N(1, 1).

    Attributes:
      noise_variances: sigma^2 of each component.
      gamma: pull towards the start.
      neurons: N.
      inputs: d.
      trials: runs from the same weights, with different inputs and noise.
      iterations: number of updates.
      points: number of records.
      seed: of everything.
    """

    noise_variances: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    gamma: float = 1.0
    neurons: int = 10
    inputs: int = 3
    trials: int = 16
    iterations: int = 100_000
    points: int = 1000
    seed: int = 0


class NoiseCurve(NamedTuple):
    """What was measured for one sigma^2; errors are E |W - W*|^2 / |W*|^2.

    Attributes:
      noise_variance: sigma^2.
      iterations: after which the errors were taken, shape (points,).
      errors: means over trials, shape (points,).
      bound: of the proof, shape (points,); see :func:`jaxws.dynamics.bounds.error_bound`.
      slope: A of the fit A / k + floor; NaN if it failed.
      floor: of the fit; 0 if none is seen, NaN if it failed.
      exact_floor: that of :func:`jaxws.dynamics.fixed_points.noisy_fixed_point`.
      failure: why the fit failed; empty if it did not.
    """

    noise_variance: float
    iterations: Int[np.ndarray, "points"]
    errors: Float[np.ndarray, "points"]
    bound: Float[np.ndarray, "points"]
    slope: float
    floor: float
    exact_floor: float
    failure: str = ""


def measure_noise(study: NoiseStudy) -> list[NoiseCurve]:
    """Runs rule (28) with eta_k = 2 / (gamma (k0 + k)), where eta_0 contracts in the proof.

    Args:
      study: what to measure.

    Returns:
      A curve for each sigma^2.

    Raises:
      ValueError: numbers out of range.

    Example:
      >>> study = NoiseStudy(noise_variances=(0.0,), trials=2, iterations=2000, points=20)
      >>> curve = measure_noise(study)[0]
      >>> bool(curve.errors[-1] < curve.errors[0]), bool((curve.errors < curve.bound).all())
      (True, True)
    """
    check_above_zero("gamma", study.gamma)
    check_at_least("noise_variance", study.noise_variances)
    check_at_least("neurons", study.neurons, 2)  # one alone is equal to itself
    for name in ("inputs", "trials", "iterations", "points"):
        check_at_least(name, getattr(study, name), 1)
    if study.iterations % study.points:
        raise ValueError(
            f"iterations={study.iterations}: expected a multiple of points={study.points}."
        )
    rng = np.random.default_rng(study.seed)
    initial = jnp.asarray(rng.normal(1, 1, (study.neurons, study.inputs)), jnp.result_type(float))
    identity = jnp.eye(study.inputs)
    optimum = fixed_point(initial, identity, study.gamma)
    # One schedule for all sigma^2: that of the largest.
    moment = gaussian_fourth_moment(jnp.zeros(study.inputs), identity, max(study.noise_variances))
    offset = 2 / (study.gamma * largest_contracting_rate(study.gamma, float(moment)))
    every = study.iterations // study.points
    iterations = every * np.arange(1, study.points + 1)
    rates = 2 / (study.gamma * (offset + np.arange(study.iterations)))
    norm = float(jnp.sum(jnp.square(optimum)))
    curves = []
    for index, variance in enumerate(study.noise_variances):
        keys = jax.random.split(jax.random.key(study.seed + index, impl="rbg"), study.trials)
        errors = _errors(keys, initial, optimum, jnp.sqrt(variance), offset, study)
        errors = np.asarray(errors, np.float64).mean(axis=0) / norm
        bound = error_bound(
            jnp.asarray(rates, initial.dtype),
            study.gamma,
            gaussian_fourth_moment(jnp.zeros(study.inputs), identity, variance),
            variance,
            norm,
            jnp.sum(jnp.square(initial)),
            jnp.sum(jnp.square(initial - optimum)),
        )
        slope, floor, failure = fit_floor(iterations + offset, errors)
        end = noisy_fixed_point(initial, identity, study.gamma, variance)
        curves.append(
            NoiseCurve(
                variance,
                iterations,
                errors,
                np.asarray(bound)[every - 1 :: every] / norm,
                slope,
                floor,
                float(jnp.sum(jnp.square(end - optimum))) / norm,
                failure,
            )
        )
    return curves


@partial(jax.jit, static_argnames="study")
def _errors(
    keys: jax.Array,
    initial: Float[Array, "N d"],
    optimum: Float[Array, "N d"],
    noise_std: Float[Array, ""],
    offset: Float[Array, ""],
    study: NoiseStudy,
) -> Float[Array, "{study.trials} {study.points}"]:
    """|W - W*|^2 of every trial, (trials, points)."""
    optimizer = optax.sgd(lambda k: 2 / (study.gamma * (offset + k.astype(initial.dtype))))

    def trial(key: jax.Array) -> jax.Array:
        input_key, noise_key = jax.random.split(key)
        drawn = jax.random.normal(input_key, (study.iterations * study.inputs,), initial.dtype)
        inputs = drawn.reshape(study.iterations, study.inputs)
        errors: jax.Array
        _, errors = descend(
            begin(initial, optimizer),
            initial,
            inputs,
            optimizer,
            gamma=study.gamma,
            noise_std=noise_std,
            key=noise_key,
            record=lambda weights: jnp.sum(jnp.square(weights - optimum)),
            record_every=study.iterations // study.points,
        )
        return errors

    errors: jax.Array = jax.vmap(trial)(keys)
    return errors
