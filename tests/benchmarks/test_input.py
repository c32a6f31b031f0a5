"""The benchmark of the input pipelines: its images, its peers, its figures. No speeds."""

import itertools
import os

import numpy as np
import pytest

from benchmarks import input as benchmark
from benchmarks import input_parts
from benchmarks.input_images import MEAN_BYTES, SIZES, describe, photographs, prepare_photographs
from benchmarks.input_peers import images_per_second, plain_loop
from jaxws.data.sources.records import Records


@pytest.fixture(scope="module")
def files():
    return photographs(len(SIZES))


def test_photographs_have_the_sizes_of_imagenets(files):
    facts = describe(files)
    assert abs(facts["mean_width"] - 468) < 5
    assert abs(facts["mean_height"] - 401) < 5
    assert abs(facts["mean_bytes"] / MEAN_BYTES - 1) < 0.1
    assert photographs(len(SIZES)) == files


def test_variants_take_turns_and_are_compared_by_round(files, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "BATCH", 2)
    monkeypatch.setattr(benchmark, "has_tensorflow", lambda: False)
    records = Records(prepare_photographs(files[:4], str(tmp_path)), "train")
    variants = benchmark.host_variants(records, files, cores=1)
    assert {"pil, 1 threads", "simplejpeg, 1 workers"} <= set(variants)
    chosen = {name: variants[name] for name in (benchmark.REFERENCE, "pil, 1 threads")}
    cores = os.sched_getaffinity(0)
    rates = benchmark.measure_host(chosen, seconds=0.001, rounds=2)
    assert os.sched_getaffinity(0) == cores
    assert [len(rate["images_per_second"]) for rate in rates.values()] == [2, 2]
    assert rates[benchmark.REFERENCE]["median_of_round_ratios"] == 1


def test_rates_count_what_comes_after_the_first_batches(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("benchmarks.input_peers.time.perf_counter", lambda: next(clock))
    batches = iter(range(100))
    # One tick for each look at the clock: four batches in five, after three that do not count.
    assert images_per_second(batches, batch=10, seconds=5, skip=3) == 40 / 6
    assert next(batches) == 7


def test_the_plain_loop_yields_crops(files):
    batch = next(plain_loop(files, 2))
    assert (batch.shape, batch.dtype) == ((2, 224, 224, 3), np.uint8)


def test_pixels_are_compared_with_pillows(files):
    pytest.importorskip("simplejpeg")
    rows = benchmark.measure_pixels(files[:1], 64)
    assert rows["jax.image.resize, antialiased"]["max_abs"] <= 1
    assert rows["jax.image.resize, not antialiased"]["mean_abs"] > 1
    assert benchmark.psnr(1.0) == pytest.approx(48.13, abs=0.01)
    assert benchmark.psnr(0.0) is None


def test_parts_of_the_work_for_an_image(tmp_path, monkeypatch):
    pytest.importorskip("simplejpeg")
    monkeypatch.setattr(input_parts, "IMAGES", 2)
    work = input_parts.parts(str(tmp_path))
    assert work["pil: all of it"](0).image.shape == (2, 224, 224, 3)
    times = input_parts.measure(work, rounds=1)
    assert times.keys() == work.keys() and times["pil: decode"] > 0
