"""Files that are replaced: whole or not at all, beside links and leftovers of others."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from jaxws.checkpointing.checksums import damaged_files
from jaxws.config import base_config
from jaxws.records.metrics_file import MetricsFile
from jaxws.records.workdir import Workdir
from jaxws.system.atomic import is_temporary, open_in_place, replacing, write_atomically
from jaxws.system.locks import lock


@pytest.fixture
def victim(tmp_path):
    """A file that a link in `place` may lead to."""
    (tmp_path / "place").mkdir()
    (tmp_path / "victim").write_text("precious")
    return tmp_path / "victim"


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["write_text", "replace", None])
def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch, broken):
    path = tmp_path / "report.html"
    path.write_text("before")
    if broken:
        monkeypatch.setattr(Path, broken, refuse)
    else:
        monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "after")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_of_any_new_one(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "text")
        lock(tmp_path / "lock").close()
    finally:
        os.umask(before)
    for name in ("file", "lock"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_links_are_replaced_and_never_followed(victim):
    place = victim.with_name("place")
    for name in ("report.html", "report.html.tmp"):
        (place / name).symlink_to(victim)
    write_atomically(place / "report.html", "new")
    assert not (place / "report.html").is_symlink()
    assert ((place / "report.html").read_text(), victim.read_text()) == ("new", "precious")


def append(path):
    MetricsFile(path).append({"kind": "event", "step": 1})


@pytest.mark.parametrize("make", ["link", "dangling", "pipe"])
@pytest.mark.parametrize("use", [open_in_place, lock, append], ids=lambda use: use.__name__)
def test_what_is_written_in_place_is_a_plain_file(victim, capsys, make, use):
    path = victim.with_name("place") / "lock"
    if make == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(victim if make == "link" else victim.with_name("new"))
    message = "lock is no plain file" if make == "pipe" else "lock is a link, which is not followed"
    if use is append:  # a run goes on without its metrics, and says so
        append(path)
        assert message in capsys.readouterr().err
    else:
        with pytest.raises(OSError, match=message):
            use(path)
    assert victim.read_text() == "precious" and not victim.with_name("new").exists()


def test_a_workdir_whose_lock_is_a_link_is_refused(victim):
    (victim.with_name("place") / "lock").symlink_to(victim)
    with pytest.raises(ValueError, match="cannot be used: lock is a link, which is not followed"):
        Workdir(victim.with_name("place"), base_config())
    assert victim.read_text() == "precious"


def test_what_a_killed_process_left_goes_after_an_hour_and_is_no_obstacle(tmp_path):
    writer = replacing(tmp_path / "config.json")
    left = writer.__enter__()
    assert is_temporary(left.name)
    Workdir(tmp_path, base_config()).close()
    write_atomically(tmp_path / "config.json", "{}")
    assert left.exists()  # it may still be written
    os.utime(left, (0, time.time() - 3601))
    write_atomically(tmp_path / "other.json", "{}")
    assert left.exists()  # of another file
    write_atomically(tmp_path / "config.json", "{}")
    assert not left.exists()
    with pytest.raises(OSError, match="No such file"):
        writer.__exit__(None, None, None)


def test_a_run_does_not_shorten_what_a_link_leads_to(victim):
    """Its metrics begin anew; half a line that follows would be left out."""
    (victim.with_name("place") / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(OSError, match=r"metrics\.jsonl is a link"):
        MetricsFile(victim.with_name("place") / "metrics.jsonl").resume_from(0)
    assert victim.read_text() == "precious"


def test_a_file_system_that_cannot_wait_for_its_disk_will_do(tmp_path, monkeypatch):
    def cannot(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", cannot)
    write_atomically(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_checksums_of_what_never_ends_are_not_taken(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    names = ["link", "pipe"]
    (tmp_path / "sha256.json").write_text(json.dumps(dict.fromkeys(names, "0" * 64)))
    assert damaged_files(tmp_path) == names


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, ".hidden", "a b\n"])
def test_names_of_any_kind(tmp_path, name):
    write_atomically(tmp_path / name, "text")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_directory_is_not_replaced(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError, match="file is a directory"):
        write_atomically(tmp_path / "file", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
