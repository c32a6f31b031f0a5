"""Event files, read back as TensorBoard reads them."""

import errno

import pytest

from jaxws.config import base_config
from jaxws.records.tensorboard import TensorBoard, points
from jaxws.training.run import prepare
from tests.support.event_files import installed, read_points


def record(step, **more):
    return {"kind": "train", "step": step, "train_loss": 1 / step, **more}


@installed
def test_points_that_are_done_again_are_drawn_once(tmp_path):
    """As after a crash at step 6, with the newest checkpoint at step 4."""
    for first, last in ((0, 6), (4, 8)):
        board = TensorBoard(tmp_path / "tensorboard", first, pytest.fail)
        for step in range(first + 1, last + 1):
            board.add(record(step, neg_log_snr={"conv1": -1.0, "conv2": None}))
        board.close()
    drawn = read_points(tmp_path / "tensorboard")
    losses = [(step, value) for tag, step, value in drawn if tag == "train/train_loss"]
    assert losses == [(step, pytest.approx(1 / step)) for step in range(1, 9)]
    assert {tag for tag, *_ in drawn} == {"train/train_loss", "neg_log_snr/conv1"}


@installed
def test_a_full_disk_is_told_once_and_ends_no_run(tmp_path, monkeypatch):
    warnings = []
    board = TensorBoard(tmp_path, 0, warnings.append)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", full)
    board.add(record(1))
    board.add(record(2))
    board.close()
    (warning,) = warnings
    assert "No space left on device" in warning
    assert "training goes on" in warning


def test_a_missing_package_is_told_before_anything_is_made(tmp_path, monkeypatch):
    config = base_config()
    config.tensorboard = True
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install tensorboardX"):
        prepare(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_only_finite_numbers_are_points():
    values = {"a": float("nan"), "b": None, "c": 2, "d": "text", "epoch": 3.0}
    assert dict(points(record(1, **values))) == {"train/train_loss": 1.0, "train/c": 2}
