"""The directory of a run in a process that is not the first, without another process."""

import json

import pytest

from jaxws.config.fields import base_config
from jaxws.records import followed_workdir
from jaxws.records.followed_workdir import FollowedWorkdir


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What process 0 says, in this order."""
    texts = [json.dumps({"path": str(tmp_path), "holder": 123, "resumed": True})]
    monkeypatch.setattr(followed_workdir.processes, "broadcast", lambda *_: texts.pop(0))
    return texts


def test_it_knows_what_process_0_tells_and_writes_nothing(tmp_path, told, capsys):
    (tmp_path / "lock").write_text("123")
    workdir = FollowedWorkdir(base_config(), {"classes": 2})
    assert (workdir.path, workdir.resumed) == (tmp_path, True)
    best = {"kind": "epoch", "step": 4, "test_top1": 0.5}
    told.append(json.dumps([best]))
    workdir.resume_from(4)
    workdir.append({"kind": "train", "step": 5, "train_loss": 1.0})
    workdir.append({"kind": "epoch", "step": 8, "test_top1": 0.25, "test_loss": float("inf")})
    workdir.warn(8, "rollback", "the loss is nan")
    assert workdir.scores() == {4: 0.5, 8: 0.25}
    assert [record["step"] for record in workdir.history] == [4, 8, 8]
    assert workdir.history[1]["test_loss"] is None  # as it would be in the file
    assert list(workdir.records()) == []
    workdir.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert capsys.readouterr() == ("", "")  # process 0 tells


@pytest.mark.parametrize(("lock", "what"), [(None, "it is not there"), ("7", "another one is")])
def test_a_directory_that_is_not_shared_is_refused(tmp_path, told, monkeypatch, lock, what):
    monkeypatch.setattr(followed_workdir, "_SEEN_SECONDS", 0)
    if lock is not None:
        (tmp_path / "lock").write_text(lock)
    with pytest.raises(ValueError, match=rf"is not the one of process 0 here \({what}\): give a"):
        FollowedWorkdir(base_config(), {})
