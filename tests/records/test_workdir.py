import json
import os
import resource
import subprocess
import sys
from unittest.mock import patch

import pytest

from jaxws.config import base_config
from jaxws.config.identity import to_json
from jaxws.records.workdir import Workdir


def snapshot(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_new_directory_is_claimed_and_found_again(tmp_path):
    path = tmp_path / "a" / "b"
    first = Workdir(path, base_config())
    assert not first.resumed
    first.close()
    assert json.loads((path / "config.json").read_text())["config"]["batch_size"] == 512
    before = snapshot(path)
    assert Workdir(path, base_config()).resumed
    assert snapshot(path) == before


def test_a_directory_in_use_is_refused_and_kept(tmp_path):
    first = Workdir(tmp_path, base_config())
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=rf"in use by process {os.getpid()}.*--workdir"):
        Workdir(tmp_path, base_config())
    assert snapshot(tmp_path) == before
    first.close()
    assert Workdir(tmp_path, base_config()).resumed


def test_the_same_config_on_other_data_is_refused(tmp_path):
    Workdir(tmp_path, base_config(), {"train_images": 10})
    with pytest.raises(ValueError, match=r"dataset.train_images: 10 there, 12 here"):
        Workdir(tmp_path, base_config(), {"train_images": 12})
    assert Workdir(tmp_path, base_config(), {"train_images": 10}).resumed


def test_a_run_with_another_config_is_refused_and_kept(tmp_path):
    Workdir(tmp_path, base_config()).append({"kind": "epoch", "step": 1})
    before = snapshot(tmp_path)
    config = base_config()
    config.seed = 5
    with pytest.raises(ValueError, match=r"config.seed: 0 there, 5 here.*--workdir"):
        Workdir(tmp_path, config)
    assert snapshot(tmp_path) == before


def test_a_foreign_directory_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match=r"not empty and is not a run"):
        Workdir(tmp_path, base_config())
    assert snapshot(tmp_path) == {(tmp_path / "thesis.tex").relative_to(tmp_path): b"all of it"}


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"config": 3}'])
def test_a_foreign_config_json_is_refused_and_kept(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="not the JSON that jaxws writes"):
        Workdir(tmp_path, base_config())
    assert (tmp_path / "config.json").read_text() == text


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot be used"):
            Workdir(path, base_config())


def test_an_unwritable_place(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(ValueError, match=r"cannot be used: Permission denied.*--workdir"):
        Workdir(tmp_path / "run", base_config())


def test_a_run_that_became_read_only(tmp_path, monkeypatch):
    Workdir(tmp_path, base_config())

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: to_json(base_config(), {}))
    with pytest.raises(ValueError, match="cannot be used: Read-only file system"):
        Workdir(tmp_path, base_config())


def test_a_crash_while_claiming_can_be_repeated(tmp_path):
    (tmp_path / "config.json.tmp").write_text("{")
    (tmp_path / "lock").write_text("")
    assert not Workdir(tmp_path, base_config()).resumed


def test_metrics_survive_a_cut_off_line_and_forget_what_is_done_again(tmp_path):
    workdir = Workdir(tmp_path, base_config())
    for step in (1, 2, 3):
        workdir.append({"kind": "train", "step": step, "neg_log_snr": {"conv1": float("-inf")}})
    complete = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(complete + '{"kind": "tr')
    assert [record["step"] for record in workdir.records()] == [1, 2, 3]
    (tmp_path / "metrics.jsonl").write_text(complete)
    workdir.append({"kind": "epoch", "step": 1, "epoch": 0.5})  # of a stop within the epoch
    workdir.resume_from(2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert json.loads(lines[0])["neg_log_snr"] == {"conv1": None}  # strict JSON has no infinity


def test_a_damaged_line_is_named_and_nothing_is_dropped(tmp_path):
    workdir = Workdir(tmp_path, base_config())
    text = '{"kind": "train", "step": 1}\n{"kind": garbled\n{"kind": "train", "step": 3}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl is not JSON"):
        workdir.resume_from(1)
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_history_fills_in_what_metrics_have_lost(tmp_path):
    workdir = Workdir(tmp_path, base_config())
    epoch = {"kind": "epoch", "step": 4, "epoch": 1.0}
    within = {"kind": "epoch", "step": 6, "epoch": 1.5}
    for step in (3, 5):
        workdir.append({"kind": "train", "step": step})
    workdir.resume_from(6, [epoch, within])
    assert [record["step"] for record in workdir.records()] == [3, 4, 5]
    assert workdir.history == [epoch]
    workdir.resume_from(6, [epoch, within], ends=True)
    assert workdir.history == [epoch, within]


def test_what_follows_half_a_line_takes_its_place(tmp_path):
    workdir = Workdir(tmp_path, base_config())
    workdir.append({"kind": "train", "step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tr')
    for step in (2, 3):
        workdir.append({"kind": "event", "step": step})
    assert [record["step"] for record in workdir.records()] == [1, 2, 3]


def test_what_stays_is_not_written_anew(tmp_path):
    """A full disk lets a file be shortened."""
    workdir = Workdir(tmp_path, base_config())
    for step in (1, 2, 3):
        workdir.append({"kind": "train", "step": step})
    with patch(
        "jaxws.records.metrics_file.write_atomically", side_effect=OSError(28, "No space left")
    ):
        workdir.resume_from(2)
    assert [record["step"] for record in workdir.records()] == [1, 2]


def test_metrics_on_a_full_disk_are_late_and_whole(tmp_path, capsys):
    """Each file may have 1 KiB, which is what the second of these lines would take it beyond."""
    workdir = Workdir(tmp_path, base_config())
    before, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)
    for step in (1, 2, 3):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
        try:
            workdir.append({"kind": "epoch", "step": step, "epoch": 1.0, "pad": "x" * 600})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        before.append([record["step"] for record in workdir.records()])
    assert before == [[1], [1], [1]]
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert capsys.readouterr().err.count("metrics.jsonl cannot be written") == 1
    assert [record["step"] for record in workdir.history] == [1, 2, 3]
    workdir.append({"kind": "train", "step": 4})
    assert [record["step"] for record in workdir.records()] == [1, 2, 3, 4]


def test_metrics_that_were_never_written_are_an_error_at_the_end(tmp_path):
    workdir = Workdir(tmp_path, base_config())
    with patch.object(Workdir, "_write", side_effect=OSError(28, "No space left on device")):
        workdir.append({"kind": "train", "step": 1})
        with pytest.raises(OSError, match="No space left on device"):
            workdir.close()
    assert Workdir(tmp_path, base_config()).resumed  # the lock is free all the same


def test_a_read_only_directory(tmp_path):
    """A mount that is: permissions mean nothing to root."""
    path = tmp_path / "run"
    path.mkdir()
    Workdir(path, base_config()).close()
    mount = ["mount", "--bind", "-o", "ro", str(path), str(path)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, check=False).returncode
    ):
        pytest.skip("may not mount a file system")
    try:
        with pytest.raises(ValueError, match="cannot be used: Read-only file system"):
            Workdir(path, base_config())
        with pytest.raises(ValueError, match="cannot be used: Read-only file system"):
            Workdir(path / "below", base_config())
    finally:
        subprocess.run(["umount", str(path)], check=True)
