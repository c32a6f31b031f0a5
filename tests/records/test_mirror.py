"""What of a run lies in a bucket, wherever its process was killed; a local server stands for it."""

import json
import shutil

import pytest

from jaxws.checkpointing.checksums import damaged_files, write_checksums
from jaxws.checkpointing.directory import record_latest, recorded_latest, steps_in
from jaxws.records.mirror import Mirror
from jaxws.system.bucket import BucketDirectory

URL = "gs://bucket/runs/a"


def add_record(path, step):
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": step}) + "\n")


def add_checkpoint(path, step):
    """As a run makes it: under another name, and whole when it gets its own."""
    add_record(path, step)
    directory = path / "checkpoints" / f"{step}.orbax-checkpoint-tmp"
    (directory / "state" / "d").mkdir(parents=True)
    (directory / "state" / "d" / "weights").write_text(f"of step {step}")
    (directory / "state" / "manifest").write_text(f"{step}")
    for number in range(4):  # names that come before that of the checksums
        (directory / f"a{number}").write_text("")
    write_checksums(directory)
    directory.rename(path / "checkpoints" / str(step))
    record_latest(path / "checkpoints", step)


def push(path):
    mirror = Mirror(path, BucketDirectory(URL))
    mirror.push(lambda: None)
    return mirror


def fetch(path):
    path.mkdir(parents=True)
    Mirror(path, BucketDirectory(URL)).fetch()
    return path


def contents(path):
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.json").write_text("{}")
    add_checkpoint(path, 4)
    return path


def test_what_is_sent_is_fetched_elsewhere(bucket, run, tmp_path):
    for name in ("lock", ".jaxws-x.tmp", "checkpoints/9.orbax-checkpoint-tmp/x"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("not sent")
    (run / "checkpoints" / "2.damaged").mkdir()
    (run / "checkpoints" / "2.damaged" / "x").write_text("kept")
    (run / "report é.html").write_text("")
    (run / "link").symlink_to("/etc/passwd")
    push(run)
    expected = {k: v for k, v in contents(run).items() if v != b"not sent" and k != "link"}
    assert contents(fetch(tmp_path / "there")) == expected
    written = len(bucket.changes)
    mirror = Mirror(run, BucketDirectory(URL))
    mirror.fetch()  # all is here: neither reads checkpoints nor sends anything again
    mirror.push(lambda: None)
    assert len(bucket.changes) == written
    assert sum(name.endswith("weights") for _, name in bucket.requests) == 2


def test_a_run_can_go_on_wherever_it_was_killed(bucket, run, tmp_path):
    """All states of the bucket that a process passes through, as a kill would leave them."""
    mirror = push(run)
    add_checkpoint(run, 8)
    mirror.push(lambda: None)
    add_checkpoint(run, 12)
    shutil.rmtree(run / "checkpoints" / "4")
    mirror.push(lambda: None)
    changes, seen = list(bucket.changes), []
    assert (changes[0][0], changes[1][0]) == ("runs/a/config.json", "runs/a/metrics.jsonl")
    bucket.objects.clear()
    for number, (name, content) in enumerate(changes):
        bucket.objects.pop(name, None)
        if content is not None:
            bucket.put(name, content)
        path = fetch(tmp_path / str(number))
        steps = steps_in(path / "checkpoints")
        assert not any(damaged_files(path / "checkpoints" / str(step)) for step in steps)
        newest = max(steps, default=0)
        recorded = (path / "metrics.jsonl").read_text() if number else ""
        assert not newest or f'"step": {newest}' in recorded
        assert (recorded_latest(path / "checkpoints") or 0) <= newest
        seen.append(newest)
    assert sorted(seen) == seen and set(seen) == {0, 4, 8, 12}
    assert steps == [8, 12]


def test_what_a_kill_left_is_removed_by_the_next_one(bucket, run, tmp_path):
    push(run)
    add_checkpoint(run, 8)
    bucket.fails = lambda method, name: 403 if name.endswith("8/sha256.json") else 0
    with pytest.raises(OSError, match=r"^gs://bucket/runs/a/checkpoints/8/sha256.json cannot be w"):
        push(run)
    bucket.fails = lambda method, name: 0
    assert bucket.names("runs/a/checkpoints/8/")
    there = fetch(tmp_path / "there")
    assert steps_in(there / "checkpoints") == [4]
    add_checkpoint(there, 12)
    push(there)
    assert not bucket.names("runs/a/checkpoints/8/") and bucket.names("runs/a/checkpoints/12/")


def test_nothing_is_removed_before_something_newer_is_there(bucket, run):
    push(run)
    before = bucket.names()
    shutil.rmtree(run / "checkpoints")
    push(run)
    assert bucket.names() == before
    shutil.rmtree(run)
    run.mkdir()
    push(run)
    assert bucket.names() == before


def test_a_checkpoint_that_is_being_removed_is_not_sent(bucket, run):
    (run / "checkpoints" / "4" / "state" / "manifest").unlink()
    push(run)
    assert bucket.names() == ["runs/a/config.json", "runs/a/metrics.jsonl"]


def test_a_checkpoint_that_was_made_anew_is_sent_anew(bucket, run, tmp_path):
    mirror = push(run)
    file = run / "checkpoints" / "4" / "state" / "d" / "weights"
    file.write_text("of step 4, in files of another life")
    write_checksums(run / "checkpoints" / "4")
    for again in (mirror, Mirror(run, BucketDirectory(URL))):
        again.push(lambda: None)
        there = fetch(tmp_path / f"{again is mirror}") / "checkpoints" / "4"
        assert (
            not damaged_files(there) and "another life" in (there / "state/d/weights").read_text()
        )
    written = len(bucket.changes)
    Mirror(run, BucketDirectory(URL)).push(lambda: None)
    assert not [name for name, _ in bucket.changes[written:] if "checkpoints/4/" in name]


def test_a_damaged_local_checkpoint_is_read_anew(bucket, run):
    push(run)
    file = run / "checkpoints" / "4" / "sha256.json"
    file.write_text("{}")
    (run / "checkpoints" / "6").mkdir()  # of a life that was not sent
    (run / "checkpoints" / "6" / "sha256.json").write_text("{}")
    Mirror(run, BucketDirectory(URL)).fetch()
    assert not damaged_files(file.parent) and steps_in(run / "checkpoints") == [4]


def test_names_that_lead_elsewhere_are_left_alone(bucket, run, tmp_path):
    push(run)
    for name in ("../x", "checkpoints/", "checkpoints/4/../../../x", "/x", "a//b", "."):
        bucket.put(f"runs/a/{name}", b"bad")
    there = fetch(tmp_path / "deep" / "there")
    assert contents(there) == contents(run)
    assert not list(tmp_path.rglob("x"))


def test_a_directory_of_something_else_is_refused(bucket, run):
    bucket.put("runs/a/notes.txt", b"")
    with pytest.raises(ValueError, match=r"gs://bucket/runs/a is not empty and is not a run"):
        push(run)


def test_a_server_that_stumbles_is_asked_again(bucket, run):
    stumbles = iter([503, 429])
    bucket.fails = lambda method, name: next(stumbles, 0)
    push(run)
    assert bucket.names("runs/a/checkpoints/4/")
