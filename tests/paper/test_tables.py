"""The paper's numbers against each other, and rows against the files in configs/."""

import collections
import csv
import json
from fnmatch import fnmatchcase
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxws.commands.parse_config import parse_config
from jaxws.config.checks import check_config
from jaxws.config.fields import flat_fields
from jaxws.config.files import named_config
from jaxws.paper.configs import fixes_rates, row_config, usual_rates
from jaxws.paper.hours import all_measured, measured
from jaxws.paper.names import all_rows, parse_name
from jaxws.paper.rows import Rates, grid
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import find_published, published
from jaxws.training.run import build_model

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
    # Three numbers are rounded, each by up to 0.05.
    for line in published():
        conv = find_published(line.table, line.dataset, "conv")
        for name in ("top1", "top5"):
            diff = getattr(line, f"{name}_diff")
            assert (diff is None) == (line.row == "conv" or getattr(line, name) is None)
            if diff is not None:
                assert diff == pytest.approx(getattr(line, name) - getattr(conv, name), abs=0.15)


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


def test_spreads_are_those_of_tables_7_to_9():
    # Sums of the printed columns: top-1 of CIFAR-10, top-1 and top-5 of the other two.
    columns = {
        "table4": (3.1, 5.6, 6.1, 6.0, 7.5),
        "table5": (5.1, 9.2, 5.1, 5.7, 7.1),
        "table6": (4.3, 7.9, 6.2, 6.6, 7.2),
    }
    for table, sums in columns.items():
        lines = [line for line in published() if line.table == table]
        of = {data: [line for line in lines if line.dataset == data] for data in _DATASETS}
        found = [sum(line.top1_spread for line in of["cifar10"])]
        for data in _DATASETS[1:]:
            found += [sum(line.top1_spread for line in of[data])]
            found += [sum(line.top5_spread for line in of[data])]
        assert found == [pytest.approx(total) for total in sums], table
        assert all(0.2 <= line.top1_spread <= 1.8 for line in lines)


_DATASETS = ("cifar10", "cifar100", "tiny_imagenet")


def test_published_rates_lie_in_the_grids_of_appendix_b():
    sizes = {}
    for line in published():
        rates = grid(line.dataset, line.row)
        assert Rates(line.learning_rate, line.weight_decay) in rates, line
        assert len(set(rates)) == len(rates)
        kind = next(kind for kind in ("conv1", "conv", "lc") if line.row.startswith(kind))
        sizes.setdefault((line.dataset, kind), set()).add(len(rates))
    assert sizes == {
        **{(data, kind): {8} for data in ("cifar10", "cifar100") for kind in ("conv", "lc")},
        ("tiny_imagenet", "conv"): {6},
        ("tiny_imagenet", "lc"): {4},
        ("imagenet", "conv"): {6},
        ("imagenet", "lc"): {4},
        ("imagenet", "conv1"): {5},  # of 2 x 3, one is left out
    }


def test_every_row_of_every_scale_is_a_configuration():
    assert len(all_rows()) == len(set(all_rows())) == 72 + 24 + 21 + 32 + 5
    distinct = set()
    for name in all_rows():
        config = row_config(name.with_seed(7))
        check_config(config)
        fields = {key: str(value) for key, value in flat_fields(config)}
        distinct.add(tuple(sorted(fields.items())))
        row = name.find()
        assert config.seed == 7 and config.data.split == "final"
        assert (config.sharing.every > 0) == ("-ws" in name.row)
        assert config.data.n_reps == (int(name.row.split("-")[1][:-4]) if "reps" in name.row else 1)
        rates = Rates(config.optimizer.learning_rate, config.optimizer.weight_decay)
        assert rates == usual_rates(name) or fixes_rates(name)
        scale = SCALES[name.scale]
        epochs = 200 if scale.is_paper else scale.datasets[name.dataset]["epochs"]
        assert config.epochs == epochs * (4 if name.experiment == "longer" else 1)
        assert scale.search_epochs[name.dataset] <= config.epochs
        assert usual_rates(name) in scale.grid(name.dataset, row.like)
        given = Rates(0.125, 0.25)
        config = row_config(name, given)
        assert config.optimizer.weight_decay == 0.25
        assert (config.optimizer.learning_rate == 0.125) != fixes_rates(name)
    # What rows start from is no field of them; and a rate of Fig. 6 is that of Table 5.
    assert len(distinct) == len(all_rows()) - 2 * 2 - 1


def test_named_files_are_their_rows():
    for file, name in NAMED.items():
        assert dict(flat_fields(named_config(file))) == dict(flat_fields(row_config(name))), file
        by_name = parse_config([f"--config=paper:{name}"])[0]
        assert dict(flat_fields(by_name)) == dict(flat_fields(named_config(file)))


def test_networks_of_rows_that_no_named_file_has():
    # By hand, at 24, 12 and 6 positions a side: 3x3 layers, two 1x1 layers, normalisation and the
    # linear layer.
    small = 24**2 * 9 * (8 + 2 * 64) + 12**2 * 9 * (128 + 256) + 6**2 * 9 * (512 + 1024)
    small += 12**2 * 128 + 6**2 * 512 + 2 * 3 * (8 + 16 + 32) + 33 * 10
    stem = 112 * 112 * 7 * 7 * 3 * 32  # LC weights that a convolutional first layer saves
    for name, classes, side, weights in (
        ("table13/imagenet/conv1-lc-ws1", 1000, 224, 484e6 - stem),
        ("small/table5/digits/lc-ws10", 10, 24, small),
    ):
        config = row_config(name)
        model = build_model(config.model, classes)
        images = jnp.zeros((1, side, side, 1 if classes == 10 else 3))
        params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        found = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert found == pytest.approx(weights, rel=0.01), name


def test_hours_of_the_small_scale_are_those_of_its_published_runs():
    table = Path(__file__).parents[2] / "docs" / "results" / "paper" / "small" / "runs.csv"
    with table.open(newline="") as file:
        seconds = {line["name"]: float(line["seconds"]) for line in csv.DictReader(file)}
    lines = [line for line in all_measured() if line.scale == "small"]
    assert len(lines) == 8
    for line in lines:
        found = [s for name, s in seconds.items() if fnmatchcase(name, f"small/{line.rows}/seed?")]
        assert f"mean of {len(found)} runs" in line.how
        assert line.seconds == pytest.approx(sum(found) / len(found), abs=0.5)


def test_hours_follow_from_the_steps_that_were_measured():
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "lc_step_cpu_zen4.json"
    groups = json.loads(results.read_text())["groups"]
    (peers,) = (group["peers"] for group in groups if group["batch"] == 512)
    for row, peer in (("lc-ws1", "ours"), ("conv", "conv")):
        for table in ("table4", "table5", "table6"):
            (found,) = measured(parse_name(f"{table}/cifar10/{row}/seed1"))
            steps = 98 * 200
            assert found.seconds == pytest.approx(steps * peers[peer]["median_seconds"], abs=0.5)
    assert len(all_measured()) == 2 + 8  # those of the small scale are tested above
    assert not measured(parse_name("reduced/table5/cifar10/lc-ws1"))
    assert not measured(parse_name("table5/cifar100/lc-ws1"))
