import json
import os

import pytest

from jaxws.config import base_config, to_json
from jaxws.workdir import Workdir


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


@pytest.mark.parametrize("text", ["", "[]", "{"])
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
