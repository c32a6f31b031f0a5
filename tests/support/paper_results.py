"""Results of runs that nobody made, with numbers as real ones have them, the same every time."""

import zlib

import numpy as np

from jaxws.paper.configs import row_config
from jaxws.paper.names import all_rows
from jaxws.paper.results import Result
from jaxws.paper.rows import row_fields
from jaxws.paper.state import DONE
from jaxws.paper.tables import find_published

_AS_IN_TABLE5 = {"from-conv": 2.0, "global": 0.5, "sleep": -1.0, "online": -3.5, "10pct": -25.0}
LAYERS = ("conv1", *(f"layer{s}_0/conv{i}" for s in (1, 2, 3) for i in (1, 2)), "layer3_0/down")


def make_result(name, *, epochs=5, records=6, **changes):
    """A finished run; with -log SNR if its weights are shared."""
    random = np.random.default_rng(zlib.crc32(str(name).encode()))
    top1 = _usual(name) / 100 + random.uniform(-0.004, 0.004)
    rise = 1 - 0.7 * np.exp(-4 * np.arange(1, epochs + 1) / epochs)
    curve = [float(value) for value in top1 * rise / rise[-1]]
    result = Result(
        name=name,
        state=DONE,
        note="",
        metrics={"test_top1": curve[-1]},
        steps=epochs * 78,
        seconds=100.0,
        changes={},
        facts={},
        epochs=[
            {"kind": "epoch", "epoch": float(i), "step": 78 * i, "test_top1": value}
            for i, value in enumerate(curve, 1)
        ],
        snr=_snr(name, random, records),
        source="synthetic",
    )
    return result._replace(**changes)


def make_results(scale, experiments=None, seeds=(0, 1, 2), **options):
    """Finished runs of all rows of some experiments, by default of all."""
    return [
        make_result(name.with_seed(seed), **options)
        for name in all_rows()
        if name.scale == scale and (experiments is None or name.experiment in experiments)
        for seed in seeds
    ]


def _usual(name):
    """About what such a row has, in %."""
    row = name.find()
    if name.scale == "paper" and (line := find_published(*name[1:4])):
        return line.top1
    like = find_published("table5", "cifar10", row.like)
    suffix = name.row.removeprefix(row.like).strip("-")
    images = 14 * np.log10(row.images)
    every = row.fields.get("sharing.every", 1) - row_fields(row.like).get("sharing.every", 1)
    return like.top1 + _AS_IN_TABLE5.get(suffix, 0.0) + images - every / 30


def _snr(name, random, records):
    if "sharing.every" not in name.find().fields:
        return []
    rate = row_config(name).optimizer.learning_rate
    steps = np.linspace(50, 5000, records).astype(int)
    values = {
        layer: -9 + 1.2 * np.log10(rate / 5e-4) + 0.4 * depth
        - 2 * (steps / 5000) + random.normal(0, 0.15, records)
        for depth, layer in enumerate(LAYERS)
    }  # fmt: skip
    return [(int(s), {k: float(v[i]) for k, v in values.items()}) for i, s in enumerate(steps)]
