"""Reading TensorBoard's event files as TensorBoard does."""

import importlib.util
import struct

import pytest

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
    """What TensorBoard draws: a start of a stretch forgets the points from its step on."""
    from tensorboardX.proto.event_pb2 import SessionLog

    drawn = []
    for event in read_events(directory):
        if event.session_log.status == SessionLog.START:
            drawn = [point for point in drawn if point[1] < event.step]
        drawn += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return drawn
