"""The host pipeline: order and draws, pixels, errors, and how its processes end."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxws.data.host import workers
from jaxws.data.host.ahead import MadeAhead
from jaxws.data.host.batches import (
    Cropper,
    HostBatch,
    evaluation_batches,
    training_batches,
)
from jaxws.data.host.crops import DRAWS, random_box
from jaxws.data.host.decoders import check_decoder, decode_record
from jaxws.data.sources.records import Record, Records
from tests.support.jpeg_set import CLASSES, encode, make_set, picture

CUTTER = Cropper(8, 3, "pil")


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("tfds"), train=13, validation=5)


class Numbers:
    """Records that are numbers, cut into what was drawn for them."""

    def __init__(self, size):
        self._size = size

    def __len__(self):
        return self._size

    def __getitem__(self, index):
        return index

    def random(self, number, draws):
        return HostBatch((256 * draws[:, :4]).astype(np.uint8), np.full(len(draws), number))

    def centre(self, number):
        return HostBatch(np.full((1, 4), number, np.uint8), np.full(1, number))

    def filling(self, count):
        return HostBatch(np.zeros((count, 4), np.uint8), np.full(count, -1))


def joined(parts):
    return HostBatch(*map(np.concatenate, zip(*parts, strict=True)))


def assert_same(a, b):
    np.testing.assert_array_equal(a.label, b.label)
    np.testing.assert_array_equal(a.image, b.image)


def put_together(parts, rows):
    """The batch of which each part has those rows."""
    order = np.argsort(np.concatenate(rows))
    return HostBatch(*(array[order] for array in joined(parts)))


@settings(max_examples=12)
@given(
    size=st.integers(1, 25),
    batch_size=st.integers(1, 16),
    processes=st.sampled_from([1, 2, 4]),
    n_reps=st.integers(1, 3),
    seed=st.integers(-5, 2**40),
)
def test_epochs_and_processes(size, batch_size, processes, n_reps, seed):
    """Each epoch shows every image once, whoever makes which of its rows and from wherever."""
    data, order = Numbers(size), np.random.default_rng(seed % 99).permutation(batch_size * n_reps)
    rows = [np.sort(some) for some in np.array_split(order, processes) if len(some)]

    def batches(rows=None):
        return training_batches(
            data, data, seed=seed, batch_size=batch_size, n_reps=n_reps, rows=rows
        )

    whole, steps = batches(), -(-size // batch_size)
    for epoch in (0, 3):
        labels = joined([whole[epoch * steps + step] for step in range(steps)]).label
        views = labels.reshape(-1, n_reps)
        assert (views == views[:, :1]).all()
        assert sorted(views[:size, 0]) == list(range(size))
        assert (views[size:] == -1).all()
    for step in (0, steps - 1, 5 * steps):
        parts = [batches(some)[step] for some in rows]
        assert_same(put_together(parts, rows), whole[step])
        assert_same(batches()[step:][0], whole[step])


def test_only_images_of_the_rows_are_read():
    read = []

    class Noting(Numbers):
        def __getitem__(self, index):
            read.append(index)
            return index

    data = Noting(20)
    rows = np.array([1, 2, 7])  # views 1 of image 0, 0 of image 1, 1 of image 3
    part = training_batches(data, data, seed=0, batch_size=10, n_reps=2, rows=rows)[0]
    assert read == part.label.tolist()


def test_epochs_and_seeds_have_orders_and_draws_of_their_own():
    data = Numbers(32)
    seen = {}
    for seed in (0, 1):
        batches = training_batches(data, data, seed=seed, batch_size=32)
        for epoch in range(4):
            image, label = batches[epoch]
            seen[seed, epoch] = tuple(label), tuple(image[np.argsort(label), 0])
    assert len({order for order, _ in seen.values()}) == 8
    assert len({draws for _, draws in seen.values()}) == 8


@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([1, 2, 4]))
@settings(max_examples=20)
def test_evaluation_shows_every_image_once_in_order(size, batch, processes):
    data, size_of_batch = Numbers(size), 4 * batch
    rows = [np.arange(i, size_of_batch, processes) for i in range(processes)]
    parts = [evaluation_batches(data, data, batch_size=size_of_batch, rows=some) for some in rows]
    assert {len(part) for part in parts} == {-(-size // size_of_batch)}
    batches = [put_together([part[i] for part in parts], rows) for i in range(len(parts[0]))]
    labels = joined(batches).label
    assert labels[:size].tolist() == list(range(size))
    assert (labels[size:] == -1).all()


@pytest.mark.parametrize("rows", [[0, 6], [-1, 2], [3, 3], [3, 2]])
def test_rows_that_no_batch_has_are_refused(rows):
    data = Numbers(9)
    with pytest.raises(ValueError, match="expected ascending numbers from 0 to 5"):
        training_batches(data, data, seed=0, batch_size=6, rows=np.array(rows))


@pytest.mark.parametrize(("threads", "workers"), [(1, 0), (4, 0), (None, 2)])
def test_batches_do_not_depend_on_threads_or_workers(builder, threads, workers):
    records = Records(builder, "train")
    batches = training_batches(records, CUTTER, seed=3, batch_size=4, n_reps=2)
    iterator = MadeAhead(batches[2:], threads=threads, workers=workers)
    for step in range(2, 8):  # into the second epoch
        assert_same(next(iterator), batches[step])
    iterator.close()


def test_more_views_begin_with_those_of_fewer(builder):
    records = Records(builder, "train")
    few, many = (
        training_batches(records, CUTTER, seed=3, batch_size=4, n_reps=n_reps)[5]
        for n_reps in (2, 5)
    )
    np.testing.assert_array_equal(few.label[::2], many.label[::5])
    np.testing.assert_array_equal(
        few.image.reshape(4, 2, 8, 8, 3), many.image.reshape(4, 5, 8, 8, 3)[:, :2]
    )


def bilinear(pixels, size):
    """Antialiased bilinear resizing, by its formula: a triangle as wide as the reduction."""
    for axis, new in ((0, size[1]), (1, size[0])):
        old = pixels.shape[axis]
        scale = old / new
        centre = (np.arange(new) + 0.5) * scale
        weights = 1 - np.abs((np.arange(old) + 0.5)[None] - centre[:, None]) / max(scale, 1)
        weights = np.maximum(weights, 0)
        weights /= weights.sum(axis=1, keepdims=True)
        pixels = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis)
    return pixels


@pytest.mark.parametrize("index", range(4))
def test_crops_show_their_box_resized(index):
    image = picture(index)
    record = Record(encode(image, "png"), 3, "record 0")
    uniform = np.random.default_rng(index).random((5, DRAWS))
    crops, labels = CUTTER.random(record, uniform)
    assert labels.tolist() == [3] * 5
    pixels = np.asarray(image).astype(float)
    for crop, draws in zip(crops, uniform, strict=True):
        left, upper, right, lower = random_box(draws, *image.size)
        expected = bilinear(pixels[upper:lower, left:right], (8, 8))
        assert np.abs(crop - expected).max() <= 1  # Pillow rounds after each axis


def test_evaluation_is_torchvisions_resize_and_centre_crop(builder):
    cropper = Cropper(14, 3, "pil")
    batches = evaluation_batches(Records(builder, "validation"), cropper, batch_size=3)
    images = np.concatenate([batches[i].image for i in range(2)])
    for i in range(5):
        image = Image.open(io.BytesIO(encode(picture(i))))
        width, height = image.size
        shape = (16, 16 * height // width) if width <= height else (16 * width // height, 16)
        resized = np.asarray(image.resize(shape, Image.Resampling.BILINEAR))
        left, upper = (round((side - 14) / 2) for side in shape)
        np.testing.assert_array_equal(images[i], resized[upper : upper + 14, left : left + 14])
    assert not images[5].any()


@pytest.mark.parametrize("decoder", ["pil", "simplejpeg"])
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_other_modes_are_converted_as_in_small_data_sets(decoder, mode):
    if decoder == "simplejpeg":
        pytest.importorskip("simplejpeg")
    data = encode(picture(1, mode))
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB")).astype(int)
    decoded = np.asarray(decode_record(Record(data, 0, "record 0"), 3, decoder))
    assert np.abs(decoded - expected).max() <= (0 if decoder == "pil" else 2)


def test_sixteen_bits_are_scaled():
    deep = Image.fromarray(np.full((6, 5), 0x8040, np.uint16))
    record = Record(encode(deep, "png"), 0, "record 0")
    for decoder in ("pil", "simplejpeg"):
        assert np.asarray(decode_record(record, 3, decoder)).tolist() == [[[0x80] * 3] * 5] * 6


@pytest.mark.parametrize("decoder", ["pil", "simplejpeg"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\xff\xd8?"])
def test_a_damaged_record_is_named(tmp_path, decoder, damage):
    if decoder == "simplejpeg":
        pytest.importorskip("simplejpeg")
    files = [encode(picture(i)) for i in range(4)]
    files[2] = damage(files[2])
    records = Records(make_set(tmp_path, train=files), "train")
    batches = training_batches(records, Cropper(8, 3, decoder), seed=0, batch_size=4)
    message = r"record 2 of split 'train' of imagenet2012/5.1.0 \(train2\) cannot be decoded"
    with pytest.raises(ValueError, match=message):
        next(MadeAhead(batches, threads=2))


def test_a_label_out_of_range_is_named(builder):
    records = Records(builder, "train")
    records.num_classes = CLASSES - 1
    with pytest.raises(
        ValueError, match=r"record 3 of .*\(train3\) has the label 3, expected 0 to 2"
    ):
        records[3]


def test_chosen_rows(builder):
    records, some = Records(builder, "train"), Records(builder, "train", np.array([7, 2]))
    assert len(some) == 2
    assert [some[i].data for i in range(2)] == [records[7].data, records[2].data]
    with pytest.raises(ValueError, match="has no images"):
        Records(builder, "train", np.array([], int))


def test_decoders_are_checked(monkeypatch):
    with pytest.raises(ValueError, match="'turbo': expected one of 'pil', 'simplejpeg'"):
        check_decoder("turbo")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape("pip install simplejpeg")):
        check_decoder("simplejpeg")


def test_how_many_workers_suit(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "available_cores", lambda: 40)
    free = SimpleNamespace(free=64 * 2**20)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: free)
    suit = partial(workers.suitable_workers, 1_281_167, shared=str(tmp_path))
    assert [suit(size * 2**20) for size in (1, 3, 17)] == [16, 5, 0]
    assert workers.suitable_workers(19_999, 1, str(tmp_path)) == 0
    assert suit(1, shared=str(tmp_path / "missing")) == 0
    monkeypatch.setattr(workers, "available_cores", lambda: 3)
    assert suit(1) == 3
    monkeypatch.setattr(workers, "available_cores", lambda: 1)
    assert suit(1) == 0


VICTIM = """
import multiprocessing, os, sys
from multiprocessing import shared_memory
import grain
import numpy as np
from jaxws.data.host.ahead import MadeAhead
from jaxws.data.host.batches import HostBatch

shared_memory._SHM_NAME_PREFIX = "/" + sys.argv[2]  # in the worker too

def batch(i):
    return HostBatch(np.zeros((1000, 1000), np.uint8), np.full(3, i))

if __name__ == "__main__":
    iterator = MadeAhead(grain.MapDataset.range(10**9).map(batch), workers=1)
    next(iterator)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    if sys.argv[1] == "crash":
        os._exit(1)
    for step, _ in enumerate(iterator):
        if sys.argv[1] == "raise" and step == 5:
            raise ZeroDivisionError
"""
ENDS = ["crash", "raise", signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
SLOW = ("crash", "raise", signal.SIGINT, signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")
@pytest.mark.parametrize(
    "end", [pytest.param(end, marks=pytest.mark.slow) if end in SLOW else end for end in ENDS]
)
def test_workers_end_with_the_program_and_leave_no_shared_memory(tmp_path, end):
    (tmp_path / "victim.py").write_text(VICTIM)
    prefix = f"jx{os.getpid() % 10**6}"  # names are short
    command = [sys.executable, str(tmp_path / "victim.py"), str(end), prefix]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def shared():
        return [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]

    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as victim:
        line = victim.stdout.readline()
        assert line, victim.stderr.read()
        worker = int(line)
        if isinstance(end, signal.Signals):
            assert shared()  # it is at work
            victim.send_signal(end)
        victim.communicate()
    assert victim.returncode != 0

    def remains():
        alive = [worker] if os.path.exists(f"/proc/{worker}") else []
        return alive + shared()

    deadline = time.monotonic() + 20
    while remains() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert remains() == []
