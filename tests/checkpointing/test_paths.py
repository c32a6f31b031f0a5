"""Directories of any name, and what else lies in one; causes of failures are told as they are."""

import errno
import os
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.checkpointing import checksums, directory
from jaxws.checkpointing.failures import explain
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import make_metadata
from jaxws.checkpointing.plain_path import plain_path
from jaxws.checkpointing.weights import read_weights
from jaxws.training.state import TrainState
from tests.support.damage import snapshot

STATE = TrainState(jnp.asarray(4), {"w": jnp.arange(3.0)}, {}, {})
# Patterns, protocols, escapes, line ends; a backslash and bytes that are no UTF-8 cannot be named.
NAME = os.fsdecode(b"seed=[1]*?{a,b}%20#\n gs:\\ \xff'\"~.")


def save(path, state=STATE):
    told = []
    with closing(Checkpoints(path, 2, report=lambda *what: told.append(what))) as checkpoints:
        checkpoints.save(state, make_metadata(state))
        checkpoints.wait()
        restored = checkpoints.restore(state) if not told else None
    return told, restored


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no other name of a directory")
@pytest.mark.parametrize("name", [NAME, "gs:", "a/../b"])
def test_a_checkpoint_in_a_directory_of_any_name(name, tmp_path):
    (tmp_path / "a").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    told, restored = save(tmp_path / name / "checkpoints")
    assert told == []
    jax.tree.map(np.testing.assert_array_equal, restored.state, STATE)
    found = directory.checkpoint_dir(tmp_path / name / "checkpoints", None)
    np.testing.assert_array_equal(read_weights(found)["params"]["w"], STATE.params["w"])
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_system_without_other_names_refuses_them(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxws.checkpointing.plain_path._OPEN_FILES", tmp_path / "none")
    with plain_path(tmp_path) as path:
        assert path == tmp_path
    with pytest.raises(ValueError, match=r"seed=\[1\]: checkpoints cannot .* Give a --workdir of"):
        Checkpoints(tmp_path / "seed=[1]", 1)


def test_what_could_not_be_restored_is_no_checkpoint(tmp_path, monkeypatch):
    """Whatever Orbax says of its writing: it writes no merged manifest, or not all arrays."""
    (told,), _ = save_with(tmp_path / "a", monkeypatch, "arrays", lambda state: {"params/x": "f"})
    assert told[1] == "checkpoint not written" and "lack 1 of 1 arrays, such as" in told[2]
    needed = ("state/none",)
    monkeypatch.setattr("jaxws.checkpointing.complete._NEEDED", needed)
    (told,), _ = save(tmp_path / "b")
    assert told[1] == "checkpoint not written" and "none yet" in told[2]
    assert directory.steps_in(tmp_path / "a") == directory.steps_in(tmp_path / "b") == []


def save_with(path, monkeypatch, name, value):
    with monkeypatch.context() as patch:
        patch.setattr(f"jaxws.checkpointing.metadata.{name}", value)
        return save(path)


def test_only_names_of_steps_are_steps(tmp_path):
    save(tmp_path)
    others = ["0099", "+5", "\uff11", "1\uff11", "-1", "1e3", "5.damaged.damaged", "1_0", "9" * 30]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "99").symlink_to("nowhere")
    assert directory.steps_in(tmp_path) == [4]
    assert directory.unrecognised_entries(tmp_path) == sorted(others)
    told, restored = save(tmp_path, STATE.replace(step=jnp.asarray(5)))
    assert told == [] and int(restored.state.step) == 5
    assert set(others) < {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["null", "-3", "1_0", "\uff11", "9" * 5000, "", "\x00", "4.0"])
def test_a_damaged_note_of_the_last_step_is_still_a_note(text, tmp_path):
    path = tmp_path / "checkpoints"
    path.mkdir()
    (tmp_path / "checkpoints.newest").write_text(text)
    with pytest.raises(ValueError, match="the last one is gone, and there is no other"):
        directory.latest_valid(path)


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.ELOOP]
)
def test_what_cannot_be_read_is_not_damaged(number, tmp_path, monkeypatch):
    for step in ("3", "4"):
        (tmp_path / step).mkdir()
        (tmp_path / step / "weights").write_text(step)
        checksums.write_checksums(tmp_path / step)
    assert directory.latest_valid(tmp_path) == (4, {})
    before, digest = snapshot(tmp_path), checksums._digest

    def fails(path):
        if path.parent.name == "4":
            raise OSError(number, os.strerror(number), str(path))
        return digest(path)

    monkeypatch.setattr(checksums, "_digest", fails)
    what = rf"{os.strerror(number)}.*does not mean that it is damaged"
    for read in (directory.latest_valid, lambda path: directory.checkpoint_dir(path, 4)):
        with pytest.raises(ValueError, match=what):
            read(tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("error", "cause", "advice"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device", "make room"),
        (ValueError("RESOURCE_EXHAUSTED: Disk quota exceeded [1]"), "Disk quota", "make room"),
        (PermissionError(errno.EACCES, "x"), "Permission denied", "let this user write"),
        (ValueError("Failed: Read-only file system"), "Read-only file system", "let this user"),
        (OSError(errno.EMFILE, "x"), "Too many open files", "allow more open files"),
        (TimeoutError("Timed out after 14400 seconds."), "the system's clock", "clock was set"),
        (RuntimeError("DEADLINE_EXCEEDED"), "longer than is waited for", "clock was set"),
        (RuntimeError("who knows"), "who knows", "see to that"),
    ],
)
def test_a_failure_is_told_with_what_helps(error, cause, advice):
    wrapped = ValueError("Orbax says so")
    wrapped.__cause__ = error
    for each in (error, wrapped) if cause != "who knows" else (error,):
        found = explain(each)
        assert cause in found.cause and advice in found.advice
