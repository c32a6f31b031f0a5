import json
import shutil
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxws.checkpoint import Checkpoints
from jaxws.config import base_config, flat_fields
from jaxws.data import build_feed
from jaxws.loop import train
from jaxws.run import build_model, prepare
from tests.small_run import prepare_small

STEPS_PER_EPOCH = 4  # of 20 images in batches of 6: the last one is ragged


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of noise, one bright and one dark: 20 training and 7 test images."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, number in (("train", 10), ("test", 4)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for i in range(number - (split == "test" and label)):
                pixels = rng.integers(0, 128, (7, 7, 3)) + 127 * label
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def config(folder, tmp_path):
    config = base_config()
    config.epochs, config.batch_size, config.eval_batch_size = 3, 6, 4
    config.log_every = 1
    config.model.depth, config.model.width = 8, 2
    config.sharing.every = 2
    config.optimizer.drop_epochs = (1, 2)
    config.data.path, config.data.data_dir = str(folder), str(tmp_path / "tfds")
    config.data.pad = 1
    return config


def checkpoint_of(run):
    with closing(Checkpoints(run.workdir.checkpoints, keep=2)) as checkpoints:
        step = checkpoints.latest_step()
        return step, checkpoints._manager.restore(step)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def timeless(run):
    """Everything in metrics.jsonl that does not depend on the clock."""
    clock = ("images_per_second", "data_wait")
    return [
        {key: value for key, value in record.items() if key not in clock}
        for record in run.workdir.records()
    ]


def test_a_run_learns_and_leaves_what_it_promises(config, tmp_path):
    config.epochs, config.optimizer.drop_epochs = 12, (8,)
    run = prepare(config, tmp_path / "run")
    record = train(run)
    assert record["epoch"] == 12
    assert record["step"] == 12 * STEPS_PER_EPOCH
    assert record["train_top1"] > 0.9
    assert record["test_top5"] == 1
    records = list(run.workdir.records())
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, 49))
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == list(range(1, 13))
    assert set(records[0]["neg_log_snr"]) >= {"conv1", "layer1_0/conv1", "layer2_0/downsample_0"}
    assert {p.name for p in run.workdir.path.iterdir()} == {
        "config.json", "lock", "metrics.jsonl", "checkpoints", "accuracy.png", "snr.png",
    }  # fmt: skip
    for plot in ("accuracy.png", "snr.png"):
        with Image.open(run.workdir.path / plot) as image:
            assert image.size[0] > 500
    # Every image of every epoch counts once, in training and in evaluation.
    assert record["test_top1"] * 7 == pytest.approx(round(record["test_top1"] * 7))
    assert record["train_top1"] * 20 == pytest.approx(round(record["train_top1"] * 20))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_three_steps_reproduce_themselves_bit_for_bit(config, tmp_path, dtype):
    config.max_steps, config.model.dtype = 3, dtype
    runs = [prepare_small(config, tmp_path / name) for name in ("first", "second")]
    for run in runs:
        train(run)
    (step, first), (_, second) = map(checkpoint_of, runs)
    assert step == 3
    assert_same_bits(first, second)
    assert timeless(runs[0]) == timeless(runs[1])
    config.seed = 1
    other = prepare_small(config, tmp_path / "other")
    train(other)
    assert timeless(other) != timeless(runs[0])


@pytest.mark.parametrize("stop", [4, 6])
def test_a_resumed_run_ends_like_one_never_stopped(config, tmp_path, stop):
    """Stopped at an epoch's end or within one, and between two batches that share."""
    whole = prepare_small(config, tmp_path / "whole")
    train(whole)
    config.max_steps = stop
    train(prepare_small(config, tmp_path / "parts"))
    config.max_steps = None
    parts = prepare_small(config, tmp_path / "parts")
    assert parts.workdir.resumed
    train(parts)
    (step, expected), (_, actual) = map(checkpoint_of, (whole, parts))
    assert step == 3 * STEPS_PER_EPOCH
    assert_same_bits(actual, expected)
    # An epoch that was stopped within averages its training steps since; all else is the same.
    for actual, expected in zip(timeless(parts), timeless(whole), strict=True):
        if actual["kind"] == "epoch" and actual["step"] == 8 and stop == 6:
            assert actual["test_loss"] == expected["test_loss"]
        else:
            assert actual == expected
    # A second start has nothing left to do and changes nothing.
    before = (parts.workdir.path / "metrics.jsonl").read_bytes()
    assert train(prepare_small(config, tmp_path / "parts"))["step"] == step
    assert (parts.workdir.path / "metrics.jsonl").read_bytes() == before


def test_steps_after_the_last_checkpoint_are_done_again(config, tmp_path):
    """As after a crash in the middle of an epoch: metrics are ahead of the checkpoint."""
    config.max_steps = 4
    run = prepare_small(config, tmp_path / "run")
    train(run)
    expected = timeless(run)
    for step in (5, 6):
        run.workdir.append({"kind": "train", "step": step, "neg_log_snr": {}})
    config.max_steps = 8
    train(prepare_small(config, tmp_path / "run"))
    assert timeless(run)[: len(expected)] == expected
    assert [r["step"] for r in timeless(run)[len(expected) :]] == [5, 6, 7, 8, 8]


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    config.optimizer.learning_rate = 1e30
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(
        FloatingPointError, match=r"loss is (nan|inf) at step \d+: the run has diverged"
    ):
        train(run)
    for line in (run.workdir.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


class Poisoned:
    """A feed whose images are NaN at some steps."""

    def __init__(self, feed, steps):
        self._feed, self._steps = feed, np.array(steps)

    def __getattr__(self, name):
        return getattr(self._feed, name)

    def train_batch(self, inputs, step):
        batch = self._feed.train_batch(inputs, step)
        poisoned = jnp.isin(step, self._steps)
        return batch._replace(image=jnp.where(poisoned, jnp.nan, batch.image))


def prepare_poisoned(config, workdir, *steps):
    run = prepare_small(config, workdir)
    return run._replace(feed=Poisoned(run.feed, steps))


@pytest.mark.parametrize(("dtype", "action"), [("float16", "stop"), ("float32", "skip")])
def test_an_overflow_is_skipped_exactly_once(config, tmp_path, dtype, action):
    """In the sixth step; and a run that is stopped right after it goes on as if it were not."""
    config.model.dtype, config.divergence.action = dtype, action
    whole = prepare_poisoned(config, tmp_path / "whole", 5)
    train(whole)
    records = list(whole.workdir.records())
    assert [r["skipped"] for r in records if r["kind"] == "epoch"] == [0, 1, 0]
    steps = [r for r in records if r["kind"] == "train"]
    assert [r["step"] for r in steps if r["train_loss"] is None] == [6]
    if dtype == "float16":
        assert [r["loss_scale"] for r in steps] == [2.0**16] * 6 + [2.0**15] * 6
    else:
        assert "loss_scale" not in steps[0]
    assert all(r["train_loss"] > 0 for r in records if r["kind"] == "epoch")
    config.max_steps = 6
    train(prepare_poisoned(config, tmp_path / "parts", 5))
    config.max_steps = None
    parts = prepare_poisoned(config, tmp_path / "parts", 5)
    train(parts)
    assert_same_bits(checkpoint_of(parts)[1], checkpoint_of(whole)[1])


def test_a_step_that_is_not_skipped_stops_the_run(config, tmp_path):
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 6: the run has diver"):
        train(prepare_poisoned(config, tmp_path / "run", 5))


def test_an_epoch_of_skipped_steps_stops_the_run(config, tmp_path):
    config.divergence.action = "skip"
    with pytest.raises(FloatingPointError, match="all 4 steps until step 8 were skipped"):
        train(prepare_poisoned(config, tmp_path / "run", *range(4, 8)))


def test_rate_and_norm_of_every_step_are_recorded(config, tmp_path):
    """The rate drops after the first and the second of three epochs, unless it is said when."""
    config.optimizer.drop_epochs = None
    run = prepare_small(config, tmp_path / "run")
    train(run)
    steps = [record for record in run.workdir.records() if record["kind"] == "train"]
    rates = [1e-3] * 4 + [2.5e-4] * 4 + [6.25e-5] * 4
    assert [record["learning_rate"] for record in steps] == pytest.approx(rates)
    assert all(record["grad_norm"] > 0 for record in steps)


def test_gradients_in_parts_train_as_well(config, tmp_path):
    config.accumulate, config.max_steps = 3, 4  # of 6 images; of the last batch, 2 are real
    run = prepare_small(config, tmp_path / "run")
    assert train(run)["train_loss"] > 0


def test_weights_that_diverged_are_not_saved(config, tmp_path):
    """One step an epoch: the loss before the update is fine, the weights after it are not."""
    config.batch_size, config.optimizer.learning_rate = 20, 1e30
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(FloatingPointError, match=r"test loss is (nan|inf) at step 1"):
        train(run)
    with closing(Checkpoints(run.workdir.checkpoints, keep=2)) as checkpoints:
        assert checkpoints.latest_step() is None


def test_changed_data_are_refused(config, folder, tmp_path):
    config.data.path = str(tmp_path / "copy")
    shutil.copytree(folder, config.data.path)
    config.max_steps = 1
    train(prepare_small(config, tmp_path / "run"))
    first, second = sorted((tmp_path / "copy" / "train" / "dark").iterdir())[:2]
    shutil.copy(first, second)
    with pytest.raises(ValueError, match=r"dataset\.train_crc32"):
        prepare_small(config, tmp_path / "run")


def test_lost_metrics_are_an_error_that_says_so(config, tmp_path):
    config.max_steps = 1
    run = prepare_small(config, tmp_path / "run")
    train(run)
    (run.workdir.path / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"no epoch in metrics\.jsonl"):
        train(prepare_small(config, tmp_path / "run"))


def test_nothing_is_made_where_something_is_wrong(config, tmp_path):
    config.batch_size = 21
    with pytest.raises(ValueError, match="larger than the data"):
        prepare(config, tmp_path / "run")
    config.batch_size, config.model.depth = 6, 9
    with pytest.raises(ValueError, match="6n \\+ 2"):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_bit,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
    ],
    ids=["flipped bit", "truncated", "removed"],
)
def test_a_damaged_checkpoint_is_named_and_kept(config, tmp_path, damage):
    config.max_steps = 8
    run = prepare_small(config, tmp_path / "run")
    train(run)
    newest = run.workdir.checkpoints / "8"
    largest = max(
        (path for path in newest.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    damage(largest)
    config.max_steps = 9
    with pytest.raises(ValueError, match=rf"checkpoint .*/8 is damaged: 1 of .*{largest.name}"):
        train(prepare_small(config, tmp_path / "run"))
    # Nothing was removed, and the way out that the message names works.
    assert newest.exists()
    shutil.rmtree(newest)
    assert train(prepare_small(config, tmp_path / "run"))["step"] == 9


class Recorder:
    """A configuration that remembers which fields were read."""

    def __init__(self, config, seen, prefix=""):
        self._config, self._seen, self._prefix = config, seen, prefix

    def __getattr__(self, name):
        key, value = f"{self._prefix}{name}", getattr(self._config, name)
        if hasattr(value, "to_dict"):
            return Recorder(value, self._seen, f"{key}.")
        self._seen.add(key)
        return value


def test_every_knob_is_read(config, tmp_path):
    config.max_steps = 1
    run, seen = prepare_small(config, tmp_path / "run"), set()
    recorder = Recorder(config, seen)
    feed = build_feed(recorder)
    build_model(recorder.model, 2)
    train(run._replace(config=recorder, feed=feed))
    assert seen == {key for key, _ in flat_fields(config)}
