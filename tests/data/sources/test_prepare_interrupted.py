"""A preparation that breaks off, by Ctrl-C, a full disk or SIGKILL: a second try works."""

import errno
import os
import subprocess
import sys

import pytest

from jaxws.commands import prepare as command
from jaxws.data import load_dataset
from jaxws.data.sources.locks import claim, remove_abandoned
from jaxws.data.sources.official import OFFICIAL
from tests.support.official_sets import data_config, run_prepare, write_archive

# Where each of them turns an image of the archive into a record.
EXAMPLES = {
    "cifar10": "jaxws.data.sources.cifar._example",
    "tiny_imagenet": "jaxws.data.sources.tiny_imagenet._example",
    "imagenet2012": "jaxws.data.sources.imagenet._as_jpeg",
}


@pytest.fixture(params=EXAMPLES)
def name(request, tmp_path, monkeypatch):
    monkeypatch.setitem(OFFICIAL, request.param, write_archive(request.param, tmp_path / "manual"))
    return request.param


def prepare(name, tmp_path):
    return run_prepare(name, f"--manual_dir={tmp_path}/manual", f"--data_dir={tmp_path}/tfds")


def assert_prepared(name, tmp_path):
    builder = command.tfds.builder_from_directory(
        str(tmp_path / "tfds" / name / OFFICIAL[name].version)
    )
    images = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert images == OFFICIAL[name].images
    for split, count in images.items():
        assert len(list(builder.as_data_source(split))) == count
    assert [path.name for path in (tmp_path / "tfds" / name).iterdir()] == [OFFICIAL[name].version]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command can be given again"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
    ],
    ids=["ctrl-c", "full disk"],
)
def test_broken_off_midway(name, tmp_path, monkeypatch, capsys, error, status, message):
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) > 4:
            raise error
        return original(*arguments)

    module, function = EXAMPLES[name].rsplit(".", 1)
    original = getattr(sys.modules[module], function)
    with monkeypatch.context() as patch:
        patch.setattr(EXAMPLES[name], fail)
        assert prepare(name, tmp_path) == status
    assert message in capsys.readouterr().err and len(calls) > 4
    with pytest.raises(ValueError, match="has not been prepared"):
        load_dataset(data_config(name, tmp_path / "tfds"))
    assert prepare(name, tmp_path) == 0
    assert_prepared(name, tmp_path)


KILLED = """
import os, signal, sys, warnings
from tests.data.sources.test_prepare_interrupted import EXAMPLES, OFFICIAL, prepare, write_archive
from pathlib import Path

warnings.simplefilter("ignore")  # of JAX, about forks
calls = 0

def killed(*arguments):
    global calls
    calls += 1
    if calls > 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

for name, path in EXAMPLES.items():
    if not os.fork():
        module, function = path.rsplit(".", 1)
        original = getattr(sys.modules[module], function)
        setattr(sys.modules[module], function, killed)
        root = Path(sys.argv[1]) / name
        root.mkdir()
        OFFICIAL[name] = write_archive(name, root / "manual")
        os._exit(prepare(name, root))
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_killed_midway(tmp_path, monkeypatch):
    """One process for all data sets, as it takes seconds to start."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [line for line in done.stdout.split() if line[0] == "-"] == ["-9"] * 3
    for name in EXAMPLES:
        monkeypatch.setitem(OFFICIAL, name, write_archive(name, tmp_path / "again"))
        versions = tmp_path / name / "tfds" / name
        (left,) = (path for path in versions.iterdir() if path.is_dir())
        assert left.name.startswith("incomplete.") and any(left.iterdir())
        with pytest.raises(ValueError, match="has not been prepared"):
            load_dataset(data_config(name, tmp_path / name / "tfds"))
        assert (
            run_prepare(
                name, f"--manual_dir={tmp_path}/again", f"--data_dir={tmp_path}/{name}/tfds"
            )
            == 0
        )
        assert_prepared(name, tmp_path / name)


def test_only_what_nobody_holds_is_removed(tmp_path):
    held, left, foreign = (tmp_path / f"incomplete.{x * 6}_1.0.0" for x in "ABC")
    for directory in (held, left, foreign):
        directory.mkdir()
        (directory / "shard").write_bytes(b"x")
    left.with_name(left.name + ".lock").touch()
    with claim(held):
        remove_abandoned(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
            held.name,
            foreign.name,  # of TFDS itself, perhaps still at work
        ]
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
