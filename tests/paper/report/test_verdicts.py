"""The rules of a report's verdicts, on numbers whose answer is known."""

import numpy as np
import pytest

from jaxws.paper.report.verdicts import (
    RULE,
    Stats,
    better,
    compare_with_paper,
    holds,
    order_of,
)
from jaxws.paper.tables import published


def stats(*values):
    return Stats(values)


def test_a_mean_is_compared_with_two_standard_errors():
    ours = stats(80.0, 80.2, 80.4, 80.6, 80.8)  # mean 80.4, standard deviation 0.3162
    tolerance = 2 * 0.31623 * (2 / 5) ** 0.5 + 0.05
    found = compare_with_paper(ours, 80.4 + tolerance - 0.001, 0.1)
    assert (found.verdict, found.tolerance) == ("within", pytest.approx(tolerance, abs=1e-4))
    assert found.difference == pytest.approx(0.001 - tolerance)
    assert compare_with_paper(ours, 80.4 + tolerance + 0.001, 0.1).verdict == "outside"
    # The paper's spread counts where it is the larger one; of a single seed, it alone.
    wider = compare_with_paper(stats(80.4), 81.3, 1.0)
    assert wider.tolerance == pytest.approx(2 / 2.326 * (1 + 1 / 5) ** 0.5 + 0.05)
    assert wider.verdict == "within"
    # Table 13 has one run and no spread.
    assert compare_with_paper(stats(63.0), 63.5, None, runs=1).verdict == "no spread"
    alone = compare_with_paper(stats(63.0, 63.2), 63.5, None, runs=1)
    assert alone.tolerance == pytest.approx(2 * 0.1414 * 1.5**0.5 + 0.05, abs=1e-3)


@pytest.mark.parametrize(("seeds", "percent"), [(1, 10), (3, 5), (5, 5)])
def test_rows_that_do_not_differ_are_rarely_outside(seeds, percent):
    """As often as reports say; with a spread that is large beside the rounding."""
    assert "5 % of rows are outside all the same with 3 to 5 seeds, 10 % with one" in RULE
    random, rounds = np.random.default_rng(0), 1500
    outside = 0
    for values in random.normal(80, 5, (rounds, 5 + seeds)):
        theirs, ours = values[:5], values[5:]
        found = compare_with_paper(Stats(tuple(ours)), theirs.mean(), np.ptp(theirs))
        outside += found.verdict == "outside"
    assert 100 * outside / rounds == pytest.approx(percent, abs=1.7)


def test_the_order_of_two_rows_is_undecided_where_seeds_overlap():
    low, high, between = stats(1.0, 2.0), stats(3.0, 4.0), stats(1.5, 3.5)
    assert [holds(low, high), holds(high, low), holds(low, between)] == [
        "holds",
        "does not hold",
        "undecided",
    ]
    assert holds(low, between, strict=False) == holds(low, high, strict=False) == "holds"
    assert holds(high, low, strict=False) == "does not hold"
    assert holds(stats(1.0), high) == holds(low, stats(9.0), strict=False) == "undecided"
    assert [better(high, low), better(low, high), better(low, low)] == [
        "above",
        "below",
        "undecided",
    ]


def test_the_order_is_the_paper_s():
    order = {}
    tables = (("table5", "cifar10"), ("table5", "tiny_imagenet"), ("table4", "cifar10"))
    for table, dataset in tables:
        lines = [line for line in published() if (line.table, line.dataset) == (table, dataset)]
        found = order_of({line.row: line.top1 for line in lines})
        assert all(each.paper > 0 for each in found)
        order[table, dataset] = [
            f"{each.lower} {'<' if each.strict else '<='} {each.higher}" for each in found
        ]
    usual = order["table5", "cifar10"]
    assert usual == [
        "lc < lc-4reps",
        "lc-4reps < lc-8reps",
        "lc-8reps < lc-16reps",
        "lc-16reps < lc-ws1",
        "lc-ws1 <= conv",
        "lc-ws10 < lc-ws1",
        "lc-ws100 < lc-ws10",
        "lc < lc-ws100",
    ]
    # Where the paper's rows are in another order, theirs is expected.
    assert set(order["table5", "tiny_imagenet"]) - set(usual) == {"conv <= lc-ws1"}
    assert order["table4", "cifar10"] == [
        "lc < lc-ws1",
        "lc-ws1 <= conv",
        "lc-ws1 < lc-ws10",
        "lc-ws100 < lc-ws10",
        "lc < lc-ws100",
    ]
    imagenet = [line for line in published() if line.table == "table13"]
    rows = {each.about for each in order_of({line.row: line.top1 for line in imagenet})}
    assert rows == {line.row for line in imagenet}
