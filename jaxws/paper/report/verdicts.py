"""By which rules results are held against the paper's, and against each other."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from typing import NamedTuple

from jaxws.paper.rows import FIRST_CONV
from jaxws.paper.stats import Stats

WITHIN, OUTSIDE, NO_SPREAD = "within", "outside", "no spread"
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
# The mean of largest minus smallest of five normal numbers, in standard deviations.
_RANGE_OF_5 = 2.326
_ROUNDING = 0.05  # of a printed mean, %
RULE = (
    "A mean is within the paper's spread if it is no further from the paper's mean than two"
    " standard errors of the difference of two such means, 2 s sqrt(1/n + 1/5), and the 0.05 by"
    " which printed means are rounded. s is the larger of two standard deviations: the paper's,"
    " its max - min of five runs / 2.326, and that of our n runs. With five runs each that is"
    " about half of max - min; of Table 13 there is one run, 1/1, and no spread. Where nothing"
    " differs, 5 % of rows are outside all the same with 3 to 5 seeds, 10 % with one."
)
ORDER_RULE = (
    "The order of two rows is that of the paper's means. It holds, or does not, if every seed of"
    " one row is above all of the other; where the seeds overlap it is undecided, and so it is"
    " with fewer than two seeds. That ws(1) is at most as good as conv holds as well where they"
    " overlap. Of two rows that do not differ, seeds do not overlap once in 10 times with 3 seeds"
    " each, once in 120 with 5."
)


class Agreement(NamedTuple):
    """How a mean compares with the paper's.

    Attributes:
      verdict: ``'within'``, ``'outside'`` or, where neither has a spread, ``'no spread'``.
      difference: ours minus the paper's, %.
      tolerance: up to which it is within, %; None where neither has a spread.
    """

    verdict: str
    difference: float
    tolerance: float | None


def compare_with_paper(ours: Stats, mean: float, spread: float | None, runs: int = 5) -> Agreement:
    """Holds a row against the paper's, see ``RULE``.

    Args:
      ours: accuracies of our seeds.
      mean: the paper's, %.
      spread: the paper's max minus min over five runs, %; None where it has none.
      runs: of the paper.

    Returns:
      The verdict.

    Example:
      >>> compare_with_paper(Stats((87.1, 87.5, 87.6, 87.3, 87.2)), 87.4, 0.5).verdict
      'within'
      >>> compare_with_paper(Stats((86.1,)), 87.4, 0.5).verdict
      'outside'
    """
    difference = ours.mean - mean
    deviations = [] if spread is None else [spread / _RANGE_OF_5]
    if ours.n > 1:
        deviations.append(statistics.stdev(ours.values))
    if not deviations:
        return Agreement(NO_SPREAD, difference, None)
    tolerance = 2 * max(deviations) * math.sqrt(1 / ours.n + 1 / runs) + _ROUNDING
    return Agreement(WITHIN if abs(difference) <= tolerance else OUTSIDE, difference, tolerance)


class Inequality(NamedTuple):
    """That one row of a table is better than another one, as in the paper.

    Attributes:
      lower: the row that is less accurate in the paper.
      higher: the other one.
      strict: False where both may be the same.
      paper: by how much, %.
      about: the row of the two whose line of a table this belongs to.
    """

    lower: str
    higher: str
    strict: bool
    paper: float
    about: str


# From the worst to the best; and rows that share more and more seldom, at last never, best first.
_CHAIN = ("lc", "lc-4reps", "lc-8reps", "lc-16reps", "lc-ws1", "conv")
_SELDOM = ("lc-ws1", "lc-ws10", "lc-ws100", "lc")
_MAY_BE_EQUAL = {"lc-ws1", "conv"}


def order_of(means: dict[str, float]) -> list[Inequality]:
    """The inequalities between neighbouring rows of a table.

    Args:
      means: the paper's accuracies by row, %. They say which of two is the better one: in Table 4
        ws(10) is better than ws(1).

    Returns:
      They: none of a row that is not there.

    Example:
      >>> for each in order_of({"conv": 84.1, "lc": 67.2, "lc-ws1": 74.8, "lc-ws10": 75.9}):
      ...     print(each.lower, "<" if each.strict else "<=", each.higher)
      lc < lc-ws1
      lc-ws1 <= conv
      lc-ws1 < lc-ws10
      lc < lc-ws10
    """
    pairs: dict[frozenset[str], Inequality] = {}
    for prefix in ("", FIRST_CONV):  # whose first layer is a convolution: an order of their own
        chain = [name for name in (prefix + row for row in _CHAIN) if name in means]
        seldom = [name for name in (prefix + row for row in _SELDOM) if name in means]
        for first, second in (*pairwise(chain), *pairwise(seldom)):
            pairs.setdefault(frozenset((first, second)), _inequality(first, second, means))
    return list(pairs.values())


def _inequality(first: str, second: str, means: dict[str, float]) -> Inequality:
    lower, higher = sorted((first, second), key=means.__getitem__)
    strict = {first, second} != _MAY_BE_EQUAL
    return Inequality(lower, higher, strict, means[higher] - means[lower], about=second)


def holds(lower: Stats, higher: Stats, strict: bool = True) -> str:
    """Whether one row is better than another, see ``ORDER_RULE``.

    Args:
      lower: accuracies of the row that should be the worse one.
      higher: of the other one.
      strict: False if it may be as good.

    Returns:
      ``'holds'``, ``'does not hold'`` or ``'undecided'``.

    Example:
      >>> holds(Stats((80.5, 81.0)), Stats((87.0, 87.2)))
      'holds'
      >>> holds(Stats((80.5, 87.1)), Stats((87.0, 87.2)))
      'undecided'
    """
    if min(lower.n, higher.n) < 2:
        return UNDECIDED
    if min(higher.values) > max(lower.values):
        return HOLDS
    if max(higher.values) < min(lower.values):
        return FAILS
    return UNDECIDED if strict else HOLDS


def better(ours: Stats, other: Stats) -> str:
    """Which of two rows is the better one, by the same rule.

    Args:
      ours: accuracies of a row.
      other: of the row that it is compared with.

    Returns:
      ``'above'``, ``'below'`` or ``'undecided'``.

    Example:
      >>> better(Stats((80.5, 81.0)), Stats((87.0, 87.2)))
      'below'
    """
    return {HOLDS: "above", FAILS: "below", UNDECIDED: UNDECIDED}[holds(other, ours)]
