"""The paper's numbers against each other, and rows against the files in configs/."""

import collections

import pytest

from jaxws.paper.tables import find_published, published

# Columns of the printed tables, read once more by hand: sums of what is in % of Tables 4, 5, 6
# (top-1, CIFAR-10, CIFAR-100, TinyImageNet) and of Table 13.
SUMS = {
    ("table4", "cifar10"): 377.4,
    ("table5", "cifar10"): 675.4,
    ("table6", "cifar10"): 672.4,
    ("table4", "cifar100"): 214.0,
    ("table5", "cifar100"): 438.5,
    ("table6", "cifar100"): 429.4,
    ("table4", "tiny_imagenet"): 118.4,
    ("table5", "tiny_imagenet"): 283.2,
    ("table6", "tiny_imagenet"): 306.1,
    ("table13", "imagenet"): 522.2,
}
NAMED = {
    "cifar10_conv": "table5/cifar10/conv",
    "cifar10_lc": "table5/cifar10/lc",
    "cifar10_lc_ws1": "table5/cifar10/lc-ws1",
    "cifar10_lc_ws10": "table5/cifar10/lc-ws10",
    "cifar10_lc_ws100": "table5/cifar10/lc-ws100",
    "cifar100_conv": "table5/cifar100/conv",
    "cifar100_lc": "table5/cifar100/lc",
    "cifar100_lc_ws1": "table5/cifar100/lc-ws1",
    "tiny_imagenet_conv": "table5/tiny_imagenet/conv",
    "tiny_imagenet_lc": "table5/tiny_imagenet/lc",
    "tiny_imagenet_lc_ws1": "table5/tiny_imagenet/lc-ws1",
    "imagenet_conv": "table13/imagenet/conv",
    "imagenet_lc": "table13/imagenet/lc",
    "imagenet_lc_ws1": "table13/imagenet/lc-ws1",
}


def test_differences_are_those_of_the_accuracies():
    # Printed differences are of accuracies before rounding: each may be off by half a unit.
    for line in published():
        conv = find_published(line.table, line.dataset, "conv")
        for name in ("top1", "top5"):
            diff = getattr(line, f"{name}_diff")
            assert (diff is None) == (line.row == "conv" or getattr(line, name) is None)
            if diff is not None:
                assert diff == pytest.approx(getattr(line, name) - getattr(conv, name), abs=0.1501)


def test_totals_and_what_is_missing():
    sums, rows = collections.Counter(), collections.Counter()
    for line in published():
        sums[line.table, line.dataset] += line.top1
        rows[line.table] += 1
        assert 0 < line.top1 < 100 and (line.top5 is None) == (line.dataset == "cifar10")
        assert (line.top1_spread is None) == (line.table == "table13")
        assert (line.top5_spread is None) == (line.top5 is None or line.table == "table13")
        if line.top5 is not None:
            assert line.top5 > line.top1
    assert rows == {"table4": 15, "table5": 24, "table6": 24, "table13": 9}
    assert sums == {key: pytest.approx(total) for key, total in SUMS.items()}
