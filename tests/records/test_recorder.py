"""What a run leaves for those who watch it, and that watching changes nothing."""

import gzip
import importlib.util
import json
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.config import base_config
from jaxws.core.implementations.dispatch import default_name
from jaxws.records.progress import Progress
from jaxws.records.provenance import read
from jaxws.records.recorder import Recorder, device_memory_bytes
from jaxws.training.loop import train
from tests.support.event_files import installed, read_points
from tests.support.small_run import prepare_small

CLOCK = ("step_seconds", "images_per_second", "data_wait", "device_memory_bytes")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def make_config(data_dir, **changes):
    """Two epochs of three steps."""
    config = base_config()
    config.data.name, config.data.data_dir = "digits", data_dir
    config.epochs, config.batch_size, config.eval_batch_size, config.log_every = 2, 500, 720, 1
    config.sharing.every, config.optimizer.drop_epochs = 2, (1,)
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """One that nobody watches, one watched, and one watched that was stopped within an epoch."""
    root = tmp_path_factory.mktemp("runs")
    watched = {
        "profile": "1:3",
        "tensorboard": importlib.util.find_spec("tensorboardX") is not None,
    }
    made = {"plain": prepare_small(make_config(data_dir), root / "plain")}
    made["watched"] = prepare_small(make_config(data_dir, **watched), root / "watched")
    train(made["plain"])
    train(made["watched"])
    watched["profile"] = "0:2"  # ends within an epoch
    train(prepare_small(make_config(data_dir, max_steps=4, **watched), root / "stopped"))
    made["stopped"] = prepare_small(make_config(data_dir, **watched), root / "stopped")
    train(made["stopped"])
    return made


def timeless(run):
    records = [{k: v for k, v in r.items() if k not in CLOCK} for r in run.workdir.records()]
    return [r for r in records if r["kind"] == "train" or r["epoch"] % 1 == 0]


def test_watching_changes_no_bit(runs):
    plain = read_weights(checkpoint_dir(runs["plain"].workdir.checkpoints, None))
    for name in ("watched", "stopped"):
        weights = read_weights(checkpoint_dir(runs[name].workdir.checkpoints, None))
        jax.tree.map(np.testing.assert_array_equal, weights, plain)
    assert timeless(runs["watched"]) == timeless(runs["plain"])
    measured = [r for r in timeless(runs["stopped"]) if r["kind"] == "train"]
    assert measured == [r for r in timeless(runs["plain"]) if r["kind"] == "train"]


def test_records_have_their_keys(runs):
    records = list(runs["watched"].workdir.records())
    measured = [r for r in records if r["kind"] == "train"]
    epochs = [r for r in records if r["kind"] == "epoch"]
    metrics = {"train_loss", "train_top1", "train_top5"}
    told = {"learning_rate", "grad_norm", "skipped"}  # where steps tell it
    for record in measured:
        assert set(record) - told == {"kind", "step", "neg_log_snr", *metrics, *CLOCK}
        assert record["device_memory_bytes"] is None  # a CPU does not tell
    for record in epochs:
        scores = {"test_loss", "test_top1", "test_top5"}
        assert set(record) - told == {"kind", "step", "epoch", *metrics, *scores, *CLOCK[:3]}
    assert measured[0]["step_seconds"] is None  # it compiles
    for record in measured[1:]:
        images = {1: 500, 2: 500, 0: 437}[record["step"] % 3]
        speed = record["step_seconds"] * record["images_per_second"]
        assert speed == pytest.approx(images)
        assert 0 <= record["data_wait"] <= 1


@installed
def test_tensorboard_draws_what_metrics_say_also_after_a_resume(runs):
    for name in ("watched", "stopped"):
        drawn = read_points(runs[name].workdir.path / "tensorboard")
        records = [r for r in runs[name].workdir.records() if r["kind"] == "train"]
        losses = {step: value for tag, step, value in drawn if tag == "train/train_loss"}
        assert losses == {r["step"]: pytest.approx(r["train_loss"]) for r in records}
        assert list(losses) == [1, 2, 3, 4, 5, 6]
        layers = {step: value for tag, step, value in drawn if tag == "neg_log_snr/conv1"}
        finite = {r["step"]: r["neg_log_snr"]["conv1"] for r in records}
        assert layers == {s: pytest.approx(v) for s, v in finite.items() if v is not None}
        scores = [step for tag, step, _ in drawn if tag == "epoch/test_top1"]
        # TensorBoard keeps the epoch that was stopped: its points cannot be taken back one by one.
        assert scores == ([3, 6] if name == "watched" else [3, 4, 6])


def traced_steps(workdir):
    steps = []
    for file in sorted(workdir.path.glob("profile/plugins/profile/*/*.trace.json.gz")):
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        steps += [int(e["args"]["step_num"]) for e in events if e.get("name") == "train"]
    return steps


def test_the_trace_has_the_steps_asked_for(runs):
    assert traced_steps(runs["watched"].workdir) == [1, 2]
    assert traced_steps(runs["stopped"].workdir) == [0, 1]  # resumed after them: nothing new
    assert traced_steps(runs["plain"].workdir) == []


def test_every_start_is_remembered(runs):
    content = read(runs["stopped"].workdir.path)
    spans = [(s["first_step"], s["last_step"]) for s in content["stretches"]]
    assert spans == [(0, 4), (4, 6)]
    for stretch in content["stretches"]:
        assert stretch["seconds"] > 0
        assert stretch["versions"]["jax"] == jax.__version__
        assert stretch["machine"]["device"].endswith("cpu (cpu)")
        assert default_name() in stretch["local_conv"]
    assert content["data"]["image_shape"] == [24, 24, 1]
    assert content["data"]["mean"] == runs["stopped"].feed.mean.tolist()


class Timer:
    seconds = 0.0


@contextmanager
def recording(run, first_step):
    steps = {"first_step": first_step, "last_step": run.last_step}
    with (
        Progress(run.last_step) as progress,
        Recorder(run.config, run.workdir, run.feed, Timer(), progress, **steps) as recorder,
    ):
        yield recorder


def test_what_a_step_tells_is_written_at_its_time(data_dir, tmp_path, capsys):
    config = make_config(data_dir, log_every=2, profile="0:1")
    run = prepare_small(config, tmp_path / "run")
    info = {
        "images": 8.0,
        "learning_rate": jnp.float32(0.5),
        "grad_norm": jnp.float32(2.0),
        "loss_scale": jnp.float32(1.0),
        "skipped": jnp.bool_(False),
        "neg_log_snr": {"conv1": jnp.float32(-jnp.inf), "conv2": jnp.float32(-1.5)},
    }
    for dtype in ("float32", "float16"):
        run.config.model.dtype = dtype  # of which this version makes no network
        first = 0 if dtype == "float32" else 4
        with recording(run, first) as recorder, recorder.epoch():
            for step in range(first + 1, first + 4):
                recorder.step(step, {"train_loss": float("nan")}, info)
    records = list(run.workdir.records())
    assert [(r["kind"], r["step"]) for r in records] == [("train", 2), ("train", 6)]
    plain, half = records
    assert (plain["learning_rate"], plain["grad_norm"]) == (0.5, 2.0)
    assert plain["neg_log_snr"] == {"conv1": None, "conv2": -1.5}
    assert plain["train_loss"] is None
    assert set(half) - set(plain) == {"loss_scale"}
    assert "skipped" not in half


def test_device_memory_is_that_of_the_fullest_device(monkeypatch):
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    for stats, expected in (
        ([None], None),
        ([{}], None),
        ([{"peak_bytes_in_use": 5}, {"peak_bytes_in_use": 9, "bytes_in_use": 1}], 9),
    ):
        monkeypatch.setattr(jax, "local_devices", lambda stats=stats: map(Device, stats))
        assert device_memory_bytes() == expected


def test_a_trace_that_cannot_be_written_ends_no_run(data_dir, tmp_path, capsys, monkeypatch):
    run = prepare_small(make_config(data_dir, profile="0:1"), tmp_path / "run")
    with recording(run, 0) as recorder:
        with recorder.dispatch(0, None):
            pass
        stop = jax.profiler.stop_trace

        def full():
            stop()
            raise RuntimeError("No space left on device")

        monkeypatch.setattr(jax.profiler, "stop_trace", full)
        with recorder.dispatch(1, None):
            pass
    assert "the trace of steps 0 to 0 is lost: No space left" in capsys.readouterr().out


def test_a_trace_that_will_not_be_is_told(data_dir, tmp_path, capsys):
    run = prepare_small(make_config(data_dir, profile="4:6"), tmp_path / "run")
    with recording(run, 6):
        pass
    assert "config.profile=4:6: no trace, these steps were done" in capsys.readouterr().out
    run.config.max_steps = 4
    with recording(run, 0):
        pass
    assert "config.profile=4:6: no trace, the run ends after 4 steps" in capsys.readouterr().out


def test_a_run_that_ends_within_its_trace_leaves_it(data_dir, tmp_path, capsys):
    run = prepare_small(make_config(data_dir, profile="1:9"), tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), recording(run, 0) as recorder:
        for step in (0, 1, 2):
            with recorder.dispatch(step, None):
                pass
        raise KeyboardInterrupt
    assert traced_steps(run.workdir) == [1, 2]
    assert "trace of steps 1 to the end of the run:" in capsys.readouterr().out
