"""Runs in a bucket: whose they are, what the local directory is worth, and what cannot be sent."""

import json

import pytest

from jaxws.config import base_config
from jaxws.records import ownership, staging
from jaxws.records.places import opened_place
from jaxws.records.staging import Staging
from jaxws.records.workdir import Workdir
from tests.records.test_mirror import add_checkpoint, contents

URL = "gs://bucket/runs/a"
LOCK = "runs/a/lock"


def opened(url=URL):
    with opened_place(url) as (path, place):
        return Workdir(path, base_config(), staging=place)


@pytest.fixture
def soon(monkeypatch):
    """What takes a minute takes a moment."""
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.24)
    monkeypatch.setattr(staging, "PUSH_SECONDS", 0.02)


def events(workdir):
    return [record["message"] for record in workdir.records() if record["kind"] == "event"]


def leave_as_a_kill_does(bucket, workdir):
    """Ends a run; what it would have removed in order is there again."""
    held = bucket.objects[LOCK][0]
    workdir.close()
    bucket.put(LOCK, held)


def test_a_run_is_claimed_mirrored_and_found_elsewhere(bucket, tmp_path):
    first = opened()
    assert (first.resumed, first.place) == (False, URL)
    assert json.loads(bucket.text(LOCK))["owner"]
    first.append({"kind": "train", "step": 1})
    add_checkpoint(first.path, 4)
    first.close()
    assert LOCK not in bucket.objects
    (first.path / "report.html").write_text("plots")
    first.publish()
    assert bucket.text("runs/a/report.html") == "plots" and LOCK not in bucket.objects
    bucket.machine = tmp_path / "another"
    second = opened(f"{URL}/")
    assert second.resumed and second.path != first.path
    assert contents(second.path).keys() == contents(first.path).keys()
    second.close()


def test_two_runs_on_one_directory(bucket, tmp_path, soon, capsys):
    first = opened()
    with pytest.raises(ValueError, match=rf"{URL} is in use by process \d+ of this machine.*--wo"):
        opened()
    bucket.machine = tmp_path / "another"
    with pytest.raises(ValueError, match=rf"{URL} is in use by process \d+ on .*: wait.*--workdir"):
        opened()
    assert "for a sign of life" in capsys.readouterr().out
    first.close()
    opened().close()


def test_who_was_killed_is_replaced(bucket, tmp_path, soon, capsys):
    leave_as_a_kill_does(bucket, opened())
    opened().close()  # the same machine knows that nobody can have it
    assert "sign of life" not in capsys.readouterr().out
    leave_as_a_kill_does(bucket, opened())
    bucket.machine = tmp_path / "another"
    opened().close()
    assert "sign of life" in capsys.readouterr().out
    bucket.put(LOCK, b"[")
    opened().close()


def test_who_is_replaced_ends_and_writes_nothing_more(bucket, soon):
    first = opened()
    bucket.put(LOCK, json.dumps({"owner": "another"}).encode())
    first.append({"kind": "train", "step": 1})
    with pytest.raises(OSError, match=rf"^{URL} was taken over by another process"):
        for step in range(2, 10_000):
            first.append({"kind": "train", "step": step})
    sent = bucket.objects.get("runs/a/metrics.jsonl")
    first.close()
    assert bucket.objects.get("runs/a/metrics.jsonl") == sent
    assert json.loads(bucket.text(LOCK)) == {"owner": "another"}


def test_who_is_replaced_at_the_end_is_told_so(bucket, capsys):
    first = opened()
    bucket.put(LOCK, json.dumps({"owner": "another"}).encode())
    first._staging._ownership._beaten = -1e9  # long ago
    first.close()
    assert f"{URL} was taken over by another process" in capsys.readouterr().err
    assert json.loads(bucket.text(LOCK)) == {"owner": "another"}


def test_an_answer_that_was_lost_is_no_other_owner(bucket):
    place = Staging(URL)
    held = ownership.Ownership(place._bucket)
    place.close()
    held.take(None)
    bucket.put(LOCK, bucket.objects[LOCK][0])  # written, and not known to be
    held._beat()
    held.check()
    held.release()
    assert LOCK not in bucket.objects


def test_what_cannot_be_sent_is_told_once_and_sent_later(bucket, soon, capsys):
    workdir = opened()
    bucket.fails = lambda method, name: 403 if method == "POST" and name != LOCK else 0
    for step in range(1, 10_000):
        workdir.append({"kind": "train", "step": step})
        if events(workdir):
            break
    for more in range(20):
        workdir.append({"kind": "train", "step": step + 1 + more})
    (line,) = events(workdir)
    assert line.startswith(f"{URL}/") and "it will be tried again; the run is in" in line
    assert "gcloud auth application-default login" in line
    last = step + 21
    add_checkpoint(workdir.path, last)
    workdir.close()
    warnings = capsys.readouterr().err
    assert "not all of the run could be sent" in warnings and str(workdir.path) in warnings
    with pytest.raises(OSError, match="the same command, given on this machine, sends the rest"):
        workdir.publish()
    bucket.fails = lambda method, name: 0
    again = opened()  # goes on from here, not from what is in the bucket
    assert again.resumed and (again.path / "checkpoints" / str(last)).is_dir()
    again.close()
    assert bucket.names(f"runs/a/checkpoints/{last}/")
    assert len(bucket.text("runs/a/metrics.jsonl").splitlines()) == last + 1


def test_a_bucket_that_cannot_be_reached_is_one_line(bucket):
    bucket.fails = lambda method, name: 403
    with pytest.raises(OSError, match=r"^gs://bucket/runs/a/lock cannot be read \(PERMISSION_DENI"):
        opened()


def test_what_follows_fails_and_the_run_is_given_back(bucket):
    with pytest.raises(KeyError), opened_place(URL):
        raise KeyError
    assert bucket.names() == []


def test_a_run_that_was_replaced_in_the_bucket_is_set_aside(bucket, capsys):
    workdir = opened()
    add_checkpoint(workdir.path, 4)
    workdir.close()
    bucket.objects.clear()  # by hand, to begin anew
    again = opened()
    assert not again.resumed and not (again.path / "checkpoints").exists()
    again.close()
    assert f"set aside as {workdir.path}.1" in capsys.readouterr().out
    assert (workdir.path.with_name("run.1") / "checkpoints" / "4").is_dir()
