"""JSON that parses and is no record: named in one line before anything is done."""

import json

import pytest

from jaxws.config import base_config
from jaxws.records import provenance
from jaxws.records.record_format import check_provenance
from jaxws.records.run_directory import read_run
from jaxws.records.workdir import Workdir
from jaxws.system.json_text import parse_json
from tests.support.damage import snapshot

TRAIN = '{"kind": "train", "step": %s}'
LINES = [
    *("null", "[1]", "7", '"x"', "true", "{}", "[" * 100_000, '{"a": 1, "a": 2}', "\ufffe"),
    *(TRAIN % step for step in ('"7"', "NaN", "-1", "1.5", "7.0", "1e999", "true", "null", "[]")),
    *(TRAIN % step for step in ("9" * 30, "9" * 5000, "4", "3")),
    '{"kind": 7, "step": 5}',
    '{"kind": "epoch", "step": 5, "epoch": "x"}',
    '{"kind": "epoch", "step": 5, "epoch": null}',
    '{"kind": "epoch", "step": 5, "test_top1": "0.5"}',
    '{"kind": "event", "step": 5, "event": 7}',
    '{"kind": "train", "step": 5, "neg_log_snr": [1]}',
    '{"kind": "train", "step": 5, "neg_log_snr": {"conv1": "x"}}',
    '{"kind": "train", "step": 5, "train_loss": 1e999}',
]
SESSION = {
    "first_step": 0,
    "last_step": 4,
    "seconds": 1.5,
    "started": "2026-01-01T00:00:00+00:00",
    "command": "python train.py",
    "git": None,
    "versions": {},
    "machine": {"device": "cpu", "platform": "x", "cores": 2},
}


@pytest.fixture
def run(tmp_path):
    workdir = Workdir(tmp_path / "run", base_config())
    workdir.append({"kind": "train", "step": 4})
    workdir.append({"kind": "event", "step": 2, "event": "rollback", "message": "m"})
    workdir.close()
    return tmp_path / "run"


def refused(run):
    """What is said at the start of the run, and by commands that read it."""
    before, said = snapshot(run), set()
    for read in (lambda: Workdir(run, base_config()), lambda: read_run(run)):
        with pytest.raises(ValueError) as error:
            read()
        said.add(str(error.value))
    assert snapshot(run) == before
    (message,) = said
    assert "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_a_line_that_is_no_record(run, line):
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n{TRAIN % 8}\n")
    assert "line 3 of" in refused(run)


def test_bytes_that_are_no_text(run):
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe\n" + (run / "metrics.jsonl").read_bytes())
    assert "line 1 of" in refused(run)


@pytest.mark.parametrize(
    "content",
    [
        *(b"null", b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"stretches": 7}', b'{"data": []}'),
        *(b'{"stretches": [7]}', b'{"stretches": [{}]}', b'{"stretches": NaN}'),
        *(
            json.dumps({"stretches": [{**SESSION, key: value}]}).encode()
            for key, value in (
                *(("first_step", "0"), ("last_step", -1), ("seconds", "1"), ("seconds", -1.0)),
                *(("versions", 7), ("machine", {}), ("git", {}), ("git", 7), ("command", 7)),
            )
        ),
        *(json.dumps({"stretches": [SESSION]}).replace(k, "x", 1).encode() for k in SESSION),
    ],
)
def test_provenance_that_is_none(run, content):
    (run / provenance.NAME).write_bytes(content)
    assert "provenance.json is not what jaxws writes" in refused(run)


def test_what_is_good_is_taken(run):
    content = {"data": {}, "stretches": [SESSION]}
    (run / provenance.NAME).write_text(json.dumps(content))
    Workdir(run, base_config()).close()
    assert read_run(run).provenance == check_provenance(content) == content
    assert parse_json("[1, 2.5, null]") == [1, 2.5, None]


@pytest.mark.parametrize(
    "text", ["null", "[1]", "7", '{"config": 7, "dataset": {}}', "[" * 100_000, '{"config": 1e9']
)
def test_a_configuration_that_is_none(run, text):
    (run / "config.json").write_text(text)
    before = snapshot(run)
    for read in (lambda: Workdir(run, base_config()), lambda: read_run(run)):
        with pytest.raises(ValueError, match=r"config\.json (is not|cannot be)"):
            read()
    assert snapshot(run) == before
