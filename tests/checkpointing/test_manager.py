"""Checkpoints under every kind of damage, and on a full disk."""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.checkpointing.directory import steps_in
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import make_metadata, read_metadata
from jaxws.training.state import TrainState
from tests.support.damage import flip_bit, remove, small_files_only, snapshot, truncate


def state_of(step, size=100):
    return TrainState(
        step=jnp.asarray(step),
        params={"w": jnp.full((size, size), float(step)), "b": jnp.zeros(3)},
        batch_stats={"mean": jnp.ones(5)},
        opt_state=(jnp.asarray(step), {"w": jnp.ones((size, size))}),
    )


@contextmanager
def opened(path, keep=3, **options):
    told = []
    with closing(Checkpoints(path, keep, report=lambda *what: told.append(what), **options)) as it:
        yield it, told


def write(path, *steps, **options):
    with opened(path, **options) as (checkpoints, told):
        for step in steps:
            state = state_of(step)
            checkpoints.save(state, make_metadata(state, history=[{"kind": "epoch", "step": step}]))
    return told


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "checkpoints"
    assert write(path, 4, 8) == []
    return path


def files_of(checkpoint):
    """A file of each class: names of Orbax's data files are random."""
    by_class = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file():
            name = path.relative_to(checkpoint).as_posix()
            parent, _, leaf = name.rpartition("/")
            by_class.setdefault(f"{parent}/*" if parent.endswith("d") else leaf and name, name)
    return by_class


def test_every_class_of_files_is_known(good):
    """If Orbax writes others one day, the matrix below and the docs should have them too."""
    assert set(files_of(good / "8")) == {
        "sha256.json", "run/metadata", "state/_METADATA", "state/_sharding", "state/d/*",
        "state/array_metadatas/process_0", "state/manifest.ocdbt",
        "state/ocdbt.process_0/manifest.ocdbt", "state/ocdbt.process_0/d/*",
    }  # fmt: skip


@pytest.mark.parametrize("damage", [truncate, remove, flip_bit])
def test_fault_matrix(good, tmp_path, damage):
    for kind, name in files_of(good / "8").items():
        path = tmp_path / kind.replace("/", "_").replace("*", "data")
        shutil.copytree(good, path)
        damage(path / "8" / name)
        before = snapshot(path / "8")
        with opened(path) as (checkpoints, told):
            restored = checkpoints.restore(state_of(0))
        jax.tree.map(np.testing.assert_array_equal, restored.state, state_of(4))
        assert restored.metadata["history"] == [{"kind": "epoch", "step": 4}]
        ((at, event, message),) = told
        assert (at, event) == (4, "damaged checkpoint")
        assert f"{path / '8'} is damaged, one of its files changed" in message
        assert "\n" not in message
        assert snapshot(path / "8.damaged") == before


def test_half_a_directory_and_no_directory(good, tmp_path):
    for name in ("half", "none", "twice"):
        shutil.copytree(good, tmp_path / name)
    shutil.rmtree(tmp_path / "half" / "8" / "state")
    shutil.rmtree(tmp_path / "none" / "8")
    for name, what in (("half", "of its files changed since it was written"), ("none", "is gone")):
        with opened(tmp_path / name) as (checkpoints, told):
            assert int(checkpoints.restore(state_of(0)).state.step) == 4
        ((_, _, message),) = told
        assert what in message
        with opened(tmp_path / name) as (checkpoints, told):
            assert int(checkpoints.restore(state_of(0)).state.step) == 4
        assert told == []  # once is enough
    # What was set aside before is not written over.
    for _ in range(2):
        shutil.copytree(good / "8", tmp_path / "twice" / "8", dirs_exist_ok=True)
        flip_bit(tmp_path / "twice" / "8" / "run" / "metadata")
        with opened(tmp_path / "twice") as (checkpoints, _):
            assert int(checkpoints.restore(state_of(0)).state.step) == 4
    assert {p.name for p in (tmp_path / "twice").glob("8*")} == {"8.damaged", "8.damaged.2"}


def test_what_a_kill_leaves_of_a_save_is_never_taken_for_a_checkpoint(good, tmp_path):
    path = tmp_path / "killed"
    shutil.copytree(good, path)
    (path / "8" / "sha256.json").unlink()
    (path / "8").rename(path / "8.orbax-checkpoint-tmp")
    (path / "newest").write_text("4\n")
    with opened(path) as (checkpoints, told):
        assert int(checkpoints.restore(state_of(0)).state.step) == 4
        checkpoints.save(state_of(8), make_metadata(state_of(8)))
        checkpoints.wait()
        assert int(checkpoints.restore(state_of(0)).state.step) == 8
    assert told == []
    assert steps_in(path) == [4, 8]


def test_none_good_says_what_was_found_and_changes_nothing(good, tmp_path):
    path = tmp_path / "bad"
    shutil.copytree(good, path)
    flip_bit(path / "4" / "state" / "manifest.ocdbt")
    remove(path / "8" / "sha256.json")
    before = snapshot(path)
    with (
        opened(path) as (checkpoints, _),
        pytest.raises(ValueError, match=r"8 is damaged, .*sha256.json; 4 is damaged, .*manifest"),
    ):
        checkpoints.restore(state_of(0))
    assert snapshot(path) == before
    with opened(tmp_path / "new") as (checkpoints, _):
        assert checkpoints.restore(state_of(0)) is None


@pytest.mark.parametrize("how", ["removed", "emptied", "a file in its place", "another directory"])
def test_a_run_whose_checkpoints_are_gone_does_not_start_anew(how, tmp_path):
    path = tmp_path / "checkpoints"
    write(path, 4)
    shutil.rmtree(path)
    if how == "a file in its place":
        path.write_text("mine")
    elif how != "removed":
        path.mkdir()
        if how == "another directory":
            (path / "notes").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"step 4 is gone.*another --workdir|is no directory"),
        opened(path) as (checkpoints, _),
    ):
        checkpoints.restore(state_of(0))
    if how == "a file in its place":
        assert path.read_text() == "mine"


def test_other_shapes_are_refused_with_the_difference(good, tmp_path):
    with (
        opened(good) as (checkpoints, _),
        pytest.raises(ValueError, match=r"opt_state/1/w: float32\[100,100\] there, float32\[9,9\]"),
    ):
        checkpoints.restore(state_of(0, size=9))


def test_a_checkpoint_explains_itself(good):
    facts = json.loads((good / "8" / "run" / "metadata").read_text())
    assert facts == read_metadata(good / "8")
    assert facts["step"] == 8
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["arrays"]["params/w"] == "float32[100,100]"


def test_the_last_and_the_best_are_kept(tmp_path):
    scores = {1: 0.5, 2: 0.7, 3: 0.7, 4: 0.6}
    assert write(tmp_path / "best", 1, 2, 3, 4, 5, keep=1, scores=lambda: scores) == []
    assert steps_in(tmp_path / "best") == [3, 5]
    assert write(tmp_path / "last", 1, 2, 3, 4, 5, keep=2) == []
    assert steps_in(tmp_path / "last") == [4, 5]


def noise(step, size):
    values = jax.random.normal(jax.random.key(step), (size, size))
    return state_of(step).replace(params={"w": values})


def test_a_save_that_fails_leaves_the_others_and_can_be_repeated(tmp_path, capfd):
    with opened(tmp_path, keep=1) as (checkpoints, told):
        checkpoints.save(noise(4, 200), make_metadata(noise(4, 200)))
        checkpoints.wait()
        with small_files_only():
            for step in (8, 12):
                checkpoints.save(noise(step, 200), make_metadata(noise(step, 200)))
                checkpoints.wait()
        assert [(step, event) for step, event, _ in told] == [
            (8, "checkpoint not written"),
            (12, "checkpoint not written"),
        ]
        assert "could not be written (File too large): the last one is of step 4" in told[0][2]
        assert steps_in(tmp_path) == [4]
        assert not list(tmp_path.glob("*tmp*"))  # which would only fill the disk further
        assert int(checkpoints.restore(noise(0, 200)).state.step) == 4
        checkpoints.save(noise(16, 200), make_metadata(noise(16, 200)))
    assert steps_in(tmp_path) == [16]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_old_checkpoint_that_cannot_be_removed(tmp_path, monkeypatch, capfd):
    """As where a server has gone, or somebody reads it: the new one is written all the same."""

    def refuse(path, **_):
        raise ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort", path)

    with opened(tmp_path, keep=1) as (checkpoints, told):
        checkpoints.save(state_of(4), make_metadata(state_of(4)))
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", refuse)
            patch.setattr("jaxws.checkpointing.manager.remove_unfinished", lambda path: None)
            checkpoints.save(state_of(8), make_metadata(state_of(8)))
            checkpoints.wait()
        ((step, event, line),) = told
        assert (step, event) == (8, "old checkpoint not removed")
        assert line.endswith("(Software caused connection abort): that of step 8 is written")
        assert int(checkpoints.restore(state_of(0)).state.step) == 8
        checkpoints.save(state_of(12), make_metadata(state_of(12)))
    assert steps_in(tmp_path) == [12]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("what", ["make_unfinished", "Writing._copy", "check_complete"])
def test_whatever_fails_is_reported_and_the_next_save_works(tmp_path, monkeypatch, what):
    """At once, as arrays are copied, or in the background."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as (checkpoints, told):
        checkpoints.save(state_of(4), make_metadata(state_of(4)))
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(f"jaxws.checkpointing.manager.{what}", refuse)
            checkpoints.save(state_of(8), make_metadata(state_of(8)))
            checkpoints.wait()
        assert told == [
            (
                8,
                "checkpoint not written",
                "the checkpoint of step 8 could not be written (No space left on device): the last"
                " one is of step 4",
            )
        ]
        checkpoints.save(state_of(8), make_metadata(state_of(8)))
    assert steps_in(tmp_path) == [4, 8]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB, where mounting one is allowed."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(command, check=False).returncode
    ):
        pytest.skip("may not mount a file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk(small_disk, capfd):
    """A real one: filled up by something else, and emptied again."""
    path = small_disk / "checkpoints"
    with opened(path, keep=1) as (checkpoints, told):
        checkpoints.save(noise(4, 500), make_metadata(noise(4, 500)))  # 1 MB
        checkpoints.wait()
        assert told == []
        for step, left in ((8, 2**19), (12, 0)):
            fill(small_disk / "thesis", left)
            checkpoints.save(noise(step, 500), make_metadata(noise(step, 500)))
            checkpoints.wait()
            (small_disk / "thesis").unlink()
            assert told[-1][:2] == (step, "checkpoint not written")
            assert "(No space left on device): the last one is of step 4" in told[-1][2]
            assert int(checkpoints.restore(noise(0, 500)).state.step) == 4
        checkpoints.save(noise(16, 500), make_metadata(noise(16, 500)))
        checkpoints.wait()
        assert int(checkpoints.restore(noise(0, 500)).state.step) == 16
    assert steps_in(path) == [16]
    assert "Traceback" not in "".join(capfd.readouterr())


def fill(path, left):
    """Takes all the room on a disk but some bytes."""
    free = os.statvfs(path.parent)
    path.write_bytes(bytes(free.f_bavail * free.f_frsize - left))
