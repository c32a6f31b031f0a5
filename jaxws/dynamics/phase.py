"""The numbers of a sleep phase, and what they do to the variance within pools."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxws.dynamics.checks import check_above_zero, check_at_least


class Rule(NamedTuple):
    """The numbers of a sleep phase.

    Attributes:
      iterations: number of updates.
      patterns: patches of noise per update.
      rate: learning rate; None for the one that shares fastest in each layer (:meth:`rate_for`).
      gamma: pull towards the weights at the start of the phase.
    """

    iterations: int = 100
    patterns: int = 128
    rate: float | None = 0.1
    gamma: float = 1e-5

    def rate_for(self, inputs: int) -> float:
        """The learning rate of a layer.

        Patches of noise that are drawn anew each time vary more with more inputs, and less with
        more patterns: variances fall fastest at a rate of 1 / (1 + (inputs + 1) / patterns), by
        that part in each iteration (:func:`variance_ratio`).

        Args:
          inputs: number of weights of a filter, i * j * c / groups.

        Returns:
          ``rate``, or the fastest.

        Example:
          >>> Rule(patterns=8, rate=None).rate_for(inputs=15)
          0.3333333333333333
        """
        return 1 / (1 + (inputs + 1) / self.patterns) if self.rate is None else self.rate


PUBLISHED = Rule()


def variance_ratio(inputs: int, rule: Rule = PUBLISHED) -> float:
    """What is left of the variance within pools after a sleep phase, in expectation.

    Exact for Gaussian noise: with S = E|d|^2 and T = E<d, d_init> of a deviation d from the pool's
    mean, and a = 1 - rate gamma, an iteration makes of them::

        S' = (a^2 - 2 a rate + rate^2 (1 + (inputs + 1) / patterns)) S
             + 2 rate gamma (a - rate) T + (rate gamma)^2
        T' = (a - rate) T + rate gamma

    The factor of S is below 1, and the rule stable, for rates up to 2 / (1 + (inputs + 1) /
    patterns), roughly: filters with many inputs need many patterns or a small rate.

    Args:
      inputs: number of weights of a filter, i * j * c / groups.
      rule: iterations, patterns, rate and gamma.

    Returns:
      The ratio of variances after and before; the SNR of Eq. (6) grows by its inverse.

    Example:
      >>> f"{variance_ratio(3 * 3 * 64):.0e}, {variance_ratio(3 * 3 * 256):.2f}"
      '2e-07, 0.37'
    """
    rate, factor, square, product = rule.rate_for(inputs), _factor(inputs, rule), 1.0, 1.0
    pull, keep = rate * rule.gamma, 1 - rate * rule.gamma
    for _ in range(rule.iterations):
        square = factor * square + 2 * pull * (keep - rate) * product + pull**2
        product = (keep - rate) * product + pull
    return square


def _factor(inputs: int, rule: Rule) -> float:
    rate = rule.rate_for(inputs)
    keep = 1 - rate * rule.gamma
    return keep**2 - 2 * keep * rate + rate**2 * (1 + (inputs + 1) / rule.patterns)


def check_rule(rule: Rule) -> None:
    """Checks what does not depend on a layer.

    Args:
      rule: iterations, patterns, rate and gamma.

    Raises:
      ValueError: one of them is out of range.

    Example:
      >>> check_rule(Rule(gamma=-1.0))
      Traceback (most recent call last):
      ValueError: gamma=-1.0: expected at least 0.
    """
    for name, least in (("iterations", 0), ("patterns", 1), ("gamma", 0)):
        check_at_least(name, getattr(rule, name), least)
    if rule.rate is not None:
        check_above_zero("rate", rule.rate)
        if not math.isfinite(rule.rate):
            raise ValueError(f"rate={rule.rate!r}: expected a finite number.")


def check_rate(path: str, inputs: int, rule: Rule) -> None:
    """Checks that the weights of a layer do not diverge.

    Args:
      path: of the layer, for the message.
      inputs: number of weights of a filter.
      rule: iterations, patterns, rate and gamma.

    Raises:
      ValueError: the variance within pools grows, in expectation.

    Example:
      >>> check_rate("conv1", 18, Rule(patterns=4, rate=0.1))
    """
    if _factor(inputs, rule) >= 1:
        most = 2 / (1 + (inputs + 1) / rule.patterns)
        raise ValueError(
            f"rate={rule.rate!r} with {rule.patterns} patterns: weights of layer {path!r}, whose"
            f" filters have {inputs} inputs, would diverge; expected a rate below {most:.3g}, or"
            " more patterns."
        )
