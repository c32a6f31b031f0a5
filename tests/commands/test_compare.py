"""`python -m jaxws compare` on directories of runs as training leaves them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from jaxws.__main__ import main
from jaxws.config import base_config
from jaxws.config.identity import to_json
from jaxws.records.comparison import compare
from tests.support.paper_runs import MACHINE, VERSIONS

DATA = {"classes": 10, "train_crc32": 1}
EPOCHS = 3


def make_run(path, top1s, *, data=DATA, **changes):
    """A run with a test top-1 for each epoch that is over; None where it was not evaluated."""
    config = base_config()
    config.epochs = EPOCHS
    config.update_from_flattened_dict({name.replace("__", "."): v for name, v in changes.items()})
    path.mkdir()
    (path / "config.json").write_text(to_json(config, data))
    records = []
    for epoch, top1 in enumerate(top1s, 1):
        test = {} if top1 is None else {"test_loss": 2 - top1, "test_top1": top1}
        record = {"kind": "epoch", "step": 4 * epoch, "epoch": float(epoch), "train_loss": 1.0}
        records.append(record | test)
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    session = {
        "started": "2026-11-25T18:47:06+00:00", "command": "python train.py", "directory": "/",
        "seconds": 60.0 + config.seed, "first_step": 0, "last_step": 4 * len(top1s), "git": None,
        "versions": VERSIONS, "machine": MACHINE,
    }  # fmt: skip
    (path / "provenance.json").write_text(json.dumps({"stretches": [session]}))
    return path


@pytest.fixture
def runs(tmp_path):
    """Two groups, one of three seeds, and runs that do not count."""
    shared = {"sharing__every": 1, "evaluate_every": 1}
    for seed, top1s in enumerate([(0.1, 0.2, 0.5), (0.2, 0.3, 0.6), (0.3, 0.4, 0.4)]):
        # What changes no score tells no groups apart.
        free = {"log_every": 5 + seed, "data__prefetch": 2 + seed, "eval_batch_size": 100 + seed}
        make_run(tmp_path / f"ws1-{seed}", top1s, seed=seed, **shared, **free)
    make_run(tmp_path / "lc-0", (0.1, None, 0.25))
    make_run(tmp_path / "half", (0.1, 0.2), seed=9)
    make_run(tmp_path / "early", ())
    (make_run(tmp_path / "broken", (0.1, 0.2, 0.3)) / "metrics.jsonl").write_text("{\n{}\n")
    (tmp_path / "thesis").mkdir()
    return tmp_path


def command(*arguments):
    """The exit status."""
    try:
        return main(["compare", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def test_seeds_are_one_line_and_what_does_not_count_is_told(runs, capsys):
    assert command(*sorted(runs.iterdir())) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == [
        *("runs", "n", "seeds", "epoch", "test", "loss", "test", "top-1", "wall", "time")
    ]
    assert [line.split("  ")[0] for line in lines] == [
        "sharing.every=0",
        "sharing.every=1",
        "Means over seeds \N{PLUS-MINUS SIGN} sample standard deviations.",
    ]
    assert lines[0].split() == ["sharing.every=0", "1", "0", "3", "1.7500", "25.00", "0:01:00"]
    sd = np.std([50, 60, 40], ddof=1)
    assert f"3  0,1,2      3  1.5000 \N{PLUS-MINUS SIGN} {sd / 100:.4f}" in lines[1]
    assert f"50.00 \N{PLUS-MINUS SIGN} {sd:.2f}    0:01:01" in lines[1]
    told = dict(line.split(": ", 1) for line in err.splitlines())
    assert told[str(runs / "half")] == "left out: after 2 of 3 epochs"
    assert told[str(runs / "early")] == "left out: no epoch was evaluated yet"
    assert "line 1 of" in told[str(runs / "broken")]
    assert "is not a run of jaxws" in told[str(runs / "thesis")]
    assert len(told) == 4


def test_json_has_all_numbers(runs, capsys):
    given = (*sorted(runs.glob("ws1-*")), runs / "half", runs / "early")
    assert command(*given, "--epoch=2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["groups"]
    assert (first["n"], first["fields"]) == (3, {"sharing.every": 1})
    assert first["mean"]["test_top1"] == pytest.approx(0.3)
    assert first["standard_deviation"]["test_top1"] == pytest.approx(0.1)
    assert first["runs"][1] == {
        "workdir": str(runs / "ws1-1"), "seed": 1, "epoch": 2.0, "wall_seconds": 61.0,
        "test_loss": 1.7, "test_top1": 0.3,
    }  # fmt: skip
    assert (second["runs"][0]["seed"], second["mean"]["test_top1"]) == (9, 0.2)
    assert second["standard_deviation"] == {"test_loss": None, "test_top1": None}
    assert list(found["problems"]) == [str(runs / "early")]


def test_the_figure_has_bands_over_seeds(runs, capsys):
    out = runs / "curves.png"
    assert command(*runs.glob("*-*"), f"--out={out}") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"figure: {out}"
    with Image.open(io.BytesIO(out.read_bytes())) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    blue, tint = np.array([0, 0x72, 0xB2]), np.array([0xCC, 0xE3, 0xF0])  # a fifth of it on white
    assert min(np.abs(pixels.astype(int) - blue).sum(1)) < 6
    assert np.sum(np.abs(pixels.astype(int) - tint).sum(1) < 6) > 100
    groups = compare(sorted(runs.glob("*-*"))).groups
    epochs, values = groups[1].curve("test_top1")
    np.testing.assert_array_equal(epochs, [1, 2, 3])
    np.testing.assert_array_equal(values, [[0.1, 0.2, 0.5], [0.2, 0.3, 0.6], [0.3, 0.4, 0.4]])
    np.testing.assert_array_equal(groups[0].curve("test_top1")[0], [1, 3])  # not after all epochs


def test_labels_are_what_groups_differ_in(tmp_path):
    make_run(tmp_path / "a", (0.1, 0.2, 0.3), data__pad=0)
    make_run(tmp_path / "b", (0.1, 0.2, 0.3), data__pad=0, optimizer__learning_rate=0.01)
    make_run(tmp_path / "c", (0.1, 0.2, 0.3), data__pad=8, optimizer__drop_epochs=(1, 2))
    labels = [group.label for group in compare(sorted(tmp_path.iterdir())).groups]
    assert labels == [
        "data.pad=0, optimizer.drop_epochs=None, optimizer.learning_rate=0.001",
        "data.pad=0, optimizer.drop_epochs=None, optimizer.learning_rate=0.01",
        "data.pad=8, optimizer.drop_epochs=(1, 2), optimizer.learning_rate=0.001",
    ]
    (only,) = compare([tmp_path / "a"]).groups
    assert (only.label, only.fields) == ("a", {})
    # Other images in folders of the same name are no other seed of the same run.
    make_run(tmp_path / "d", (0.1, 0.2, 0.3), data=DATA | {"train_crc32": 2}, data__pad=0, seed=1)
    both = compare([tmp_path / "a", tmp_path / "d"]).groups
    assert [len(group.members) for group in both] == [1, 1]
    assert both[0].label != both[1].label and both[0].label.startswith("data='cifar10' with check")


def test_the_same_run_and_the_same_seed_twice(tmp_path):
    first = make_run(tmp_path / "a", (0.1, 0.2, 0.3))
    second = make_run(tmp_path / "b", (0.1, 0.2, 0.4))
    found = compare([first, first, second])
    assert [len(group.members) for group in found.groups] == [2]
    assert found.problems == {f"{first}, {second}": "count as 2 runs, all of seed 0"}


def test_a_run_that_was_to_stop_early_has_ended_and_is_another(tmp_path):
    make_run(tmp_path / "a", (0.1, 0.2, 0.3))
    make_run(tmp_path / "b", (0.1, 0.2), max_steps=8)
    labels = [group.label for group in compare(sorted(tmp_path.iterdir())).groups]
    assert labels == ["max_steps=None", "max_steps=8"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["half"], "half: left out: after 2 of 3 epochs. --epoch=2 compares them as they were"),
        (["half", "early"], "early: left out: no epoch was evaluated yet."),
        (["lc-0", "--epoch=2"], "not evaluated after epoch 2 (the last are 1, 3). --epoch=3 com"),
        (["lc-0", "--metric=test_top9"], "--metric=test_top9: expected one of test_loss, test_to"),
        (["lc-0", "--out=a.pdf"], "expected a file that ends in .png"),
        (["nowhere"], "nothing to compare: nowhere: "),
        ([], "the following arguments are required: WORKDIR"),
    ],
)
def test_mistakes_are_one_line(runs, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(runs)
    assert command(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and expected in line
