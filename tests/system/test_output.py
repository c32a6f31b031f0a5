"""Streams for what may be lost."""

import os

from jaxws.system.output import lossy


def test_bytes_that_find_a_reader_again_are_written(tmp_path):
    """A file in the place of another: full at first, then with room."""
    with (tmp_path / "log").open("w") as file, open("/dev/full", "w") as full:
        kept = os.dup(file.fileno())
        stream = lossy(file)
        os.dup2(full.fileno(), file.fileno())
        print("lost", file=stream, flush=True)
        os.dup2(kept, file.fileno())
        print("kept: é", file=stream, flush=True)
        os.close(kept)
    assert (tmp_path / "log").read_text() == "kept: é\n"


def test_a_pipe_whose_reader_has_gone(capfd):
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        stream = lossy(pipe)
        os.close(read)
        for _ in range(3):
            print("x" * 100_000, file=stream, flush=True)
        stream.close()
    assert capfd.readouterr().err == ""
