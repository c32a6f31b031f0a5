"""Event files, read back as TensorBoard reads them."""

import errno
import importlib.util
import struct

import pytest

from jaxws.config import base_config
from jaxws.run import prepare
from jaxws.tensorboard import TensorBoard, points

installed = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="needs tensorboardX"
)


def read_events(directory):
    """All events in the order of their files; the format is TFRecord: length, CRC, data, CRC."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    for file in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = file.read_bytes()
        while content:
            (size, check), content = struct.unpack("<QI", content[:12]), content[12:]
            assert check == masked_crc32c(struct.pack("<Q", size))
            data, (check,), content = (
                content[:size],
                struct.unpack("<I", content[size : size + 4]),
                content[size + 4 :],
            )
            assert check == masked_crc32c(data)
            yield Event.FromString(data)


def read_points(directory):
    """What TensorBoard draws: a start of a session forgets the points from its step on."""
    from tensorboardX.proto.event_pb2 import SessionLog

    drawn = []
    for event in read_events(directory):
        if event.session_log.status == SessionLog.START:
            drawn = [point for point in drawn if point[1] < event.step]
        for value in event.summary.value:
            text = value.tensor.string_val
            drawn.append((value.tag, event.step, text[0].decode() if text else value.simple_value))
    return drawn


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
def test_events_are_text(tmp_path):
    board = TensorBoard(tmp_path, 0, pytest.fail)
    board.add({"kind": "event", "step": 3, "event": "rollback", "message": "to step 2"})
    board.close()
    assert read_points(tmp_path) == [("event/text_summary", 3, "rollback: to step 2")]


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
    with pytest.raises(ValueError, match=r"pip install 'jaxws\[tensorboard\]'"):
        prepare(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_only_finite_numbers_are_points():
    values = {"a": float("nan"), "b": None, "c": 2, "d": "text", "epoch": 3.0}
    assert dict(points(record(1, **values))) == {"train/train_loss": 1.0, "train/c": 2}
