"""What the simulations of Figs 4 and 5 (A.5) are asked for, and what they give."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxws.dynamics.checks import check_above_zero, check_at_least
from jaxws.dynamics.circuit import Circuit, check_circuit
from jaxws.dynamics.schedules import Plasticity, check_plasticity


class Study(NamedTuple):
    """What is simulated; the defaults are those of A.5.

    Attributes:
      figure: 4 or 5; they differ in the rule and the number of iterations of A.
      runs: from different initial weights and inputs.
      seed: of all of them.
      neurons: N.
      sizes: kernel sizes k, meaning k^2 inputs.
      gammas: pulls towards the initial weights.
      input_mean: of every component of x, whose variance is 1.
      iterations: of A; None for 2000 in Fig. 4 and 10^4 in Fig. 5.
      presentations: of B.
      circuit: of B, and alpha of 5A.
      plasticity: of B.
    """

    figure: int = 4
    runs: int = 10
    seed: int = 0
    neurons: int = 100
    sizes: tuple[int, ...] = (3, 6, 9)
    gammas: tuple[float, ...] = (0.1, 0.01, 0.001)
    input_mean: float = 1.0
    iterations: int | None = None
    presentations: int = 10_000
    circuit: Circuit = Circuit()
    plasticity: Plasticity = Plasticity()

    def length(self, simulation: str) -> int:
        """The number of iterations of ``'A'``, or presentations of ``'B'``."""
        if simulation == "B":
            return self.presentations
        return {4: 2000, 5: 10_000}[self.figure] if self.iterations is None else self.iterations

    def alpha(self, simulation: str) -> float:
        """The inhibition: none of its bias in 4A."""
        return math.inf if (self.figure, simulation) == (4, "A") else self.circuit.alpha


class Curve(NamedTuple):
    """One curve of a figure.

    Attributes:
      simulation: ``'A'`` or ``'B'``.
      size: k.
      gamma: the pull.
      iterations: after which the values were taken, shape (points,).
      values: -log SNR of every run, shape (runs, points).
      text_floor: -log SNR_min of the text, 2 log(gamma / (1 + gamma)).
      exact_floor: -log SNR of the fixed point, Eq. (19) or (24), for the inputs' second moment and
        the runs' initial weights; the mean over runs.
    """

    simulation: str
    size: int
    gamma: float
    iterations: Int[np.ndarray, "points"]
    values: Float[np.ndarray, "runs points"]
    text_floor: float
    exact_floor: float


def check_study(study: Study) -> None:
    """Checks a study before anything is computed.

    Args:
      study: to check.

    Raises:
      ValueError: a number that is out of range, or not a whole one.

    Example:
      >>> check_study(Study(gammas=(0.0,)))
      Traceback (most recent call last):
      ValueError: gamma=0.0: expected a number above 0.
    """
    if study.figure not in (4, 5):
        raise ValueError(f"figure={study.figure!r}: expected 4 or 5.")
    for name, least in (("runs", 1), ("neurons", 2), ("seed", 0), ("presentations", 1)):
        check_at_least(name, getattr(study, name), least)
    check_at_least("iterations", study.length("A"), 1)
    for size in study.sizes:
        check_at_least("k", size, 1)
    for gamma in study.gammas:
        check_above_zero("gamma", gamma)
    if not math.isfinite(study.input_mean):
        raise ValueError(f"input_mean={study.input_mean!r}: expected a finite number.")
    check_circuit(study.circuit)
    check_plasticity(study.plasticity)
