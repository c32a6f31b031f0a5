"""Results of runs: read from their directories, published as tables, and read from these."""

import itertools
import json

import pytest

from jaxws.__main__ import main
from jaxws.paper.choices import write_choice
from jaxws.paper.collected import read_results
from jaxws.paper.names import parse_name
from jaxws.paper.rows import Rates
from jaxws.paper.searches import Score
from tests.support.paper_runs import write_run

TABLE = "small/table5/digits"
CHANGED = Rates(1e-3, 1e-4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs in every state that a directory can be in."""
    runs = tmp_path_factory.mktemp("here") / "runs"
    write_run(runs, f"{TABLE}/conv/seed0", top1=0.9)
    write_run(runs, f"{TABLE}/conv/seed10", top1=0.8, rates=CHANGED)
    write_run(runs, f"{TABLE}/conv/seed2", top1=0.7, changes={"model.dtype": "bfloat16"})
    write_run(runs, f"{TABLE}/lc/seed0", top1=0.5, done=False)
    write_run(runs, f"{TABLE}/lc/seed1", top1=0.5, diverged=True)
    write_run(runs, f"{TABLE}/lc/seed2", changes={"model.depth": 14})
    write_run(runs, f"{TABLE}/lc/seed3", changes={"model.init_from": "/home/me/weights"})
    for seed, damage in enumerate(("{", "[]", '{"config": {"epochs": "x"}, "dataset": {}}')):
        (write_run(runs, f"{TABLE}/lc-ws1/seed{seed}") / "config.json").write_text(damage)
    (write_run(runs, f"{TABLE}/lc-ws1/seed3") / "metrics.jsonl").write_text("{}\n{}\n")
    (write_run(runs, f"{TABLE}/lc-ws1/seed4") / "provenance.json").write_bytes(b"\xff")
    (runs / TABLE / "lc-ws10/seed0").mkdir(parents=True)
    (runs / TABLE / "lc-ws10/seed1").mkdir()
    (runs / TABLE / "lc-ws10/seed1/lock").touch()
    (runs / TABLE / "lc-ws10/seed2").write_text("a file")
    (runs / TABLE / "lc-ws10/seeds").mkdir()
    write_run(runs, f"{TABLE}/lc-ws100/seed0", top1=0.6)
    write_run(runs, f"{TABLE}/lc-ws100/seed1", top1=0.6)
    return runs


def collect(runs, out, *arguments):
    return main(["paper", "collect", "--scale=small", f"--runs={runs}", f"--out={out}", *arguments])


def refused(capsys, *arguments):
    """The one line that a mistake is told in."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        collect(*arguments)
    assert status.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    return line


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_a_directory_is_read_whatever_is_in_it(runs):
    found = {str(result.name).removeprefix(f"{TABLE}/"): result for result in read_results([runs])}
    assert {name: result.state for name, result in found.items()} == {
        **dict.fromkeys(("conv/seed0", "conv/seed2", "conv/seed10"), "done"),
        **{"lc/seed0": "started", "lc/seed1": "diverged"},
        **dict.fromkeys(("lc/seed2", "lc/seed3"), "other"),
        **{f"lc-ws1/seed{seed}": "damaged" for seed in range(5)},
        **dict.fromkeys(("lc-ws10/seed1", "lc-ws10/seed2"), "missing"),
        **dict.fromkeys(("lc-ws100/seed0", "lc-ws100/seed1"), "done"),
    }
    assert list(found)[:3] == ["conv/seed0", "conv/seed2", "conv/seed10"]
    assert found["lc/seed0"].note == "after 10 of 20 epochs"
    assert found["lc/seed1"].note == "the loss is not finite at step 41"
    assert "config.model.depth is 14 there, 8 in the row" in found["lc/seed2"].note
    assert "starts from weights of another run" in found["lc/seed3"].note
    assert found["lc-ws1/seed3"].note.startswith("line 1 of metrics.jsonl is no record of a run")
    assert not any(str(runs) in result.note for result in found.values())
    assert found["conv/seed10"].changes == CHANGED.fields
    assert found["conv/seed2"].changes == {"model.dtype": "bfloat16"}
    done = found["lc-ws100/seed0"]
    assert (done.metrics["test_top1"], done.steps, done.seconds) == (0.6, 80, 60.0)
    assert len(done.epochs) == len(done.snr) == 20
    assert done.facts["dtype"] == "float32"
    assert done.facts["commit"] == "0123456789ab"
    assert found["conv/seed0"].snr == []


def test_runs_or_rows_may_be_named(runs):
    names = [parse_name(f"{TABLE}/conv"), parse_name(f"{TABLE}/lc/seed1")]
    assert [r.name.seed for r in read_results([runs], names)] == [0, 2, 10, 1]
    with pytest.raises(ValueError, match="nowhere is no directory"):
        read_results([runs / "nowhere"])


def test_published_results_are_read_back(runs, tmp_path, capsys):
    out = tmp_path / "published"
    assert collect(runs, out, "--seeds=0-10") == 0
    told = capsys.readouterr()
    assert "6 of 231 runs (5 done, 1 diverged), in epochs.csv, runs.csv, snr.csv" in told.out
    assert f"left out: {TABLE}/lc/seed0: started, after 10 of 20 epochs" in told.err
    assert "left out: 215 runs of which there is nothing" in told.err
    first = contents(out)
    assert collect(runs, out, "--seeds=0-10") == 0
    assert contents(out) == first
    problems = []
    there = [result for result in read_results([runs]) if result.state in ("done", "diverged")]
    here = read_results([out], None, problems.append)
    assert problems == []
    for one, other in zip(there, here, strict=True):
        curve = one.snr if str(one.name) == f"{TABLE}/lc-ws100/seed0" else []
        same = {"metrics": pytest.approx(one.metrics), "source": "", "epochs": [], "snr": []}
        assert other._replace(source="", epochs=[], snr=[]) == one._replace(**same)
        assert [(step, pytest.approx(layers)) for step, layers in other.snr] == list(curve)
        accuracies = [[r["test_top1"] for r in result.epochs] for result in (one, other)]
        assert accuracies[1] == pytest.approx(accuracies[0], rel=1e-4)
    # Both together are each run once, and nothing is said: they agree.
    both = read_results([out, runs], None, problems.append)
    assert len(both) == len(read_results([runs]))
    assert problems == []


def test_no_line_that_is_published_is_lost(runs, tmp_path, capsys):
    out = tmp_path / "published"
    collect(runs, out, "table5/digits/conv", "--seeds=10")
    file = out / "runs.csv"
    before = contents(out)
    # Another device, and another time: the run is the same, and the line stays as it is.
    other = tmp_path / "other"
    write_run(other, f"{TABLE}/conv/seed10", top1=0.8, rates=CHANGED)
    write_run(other, f"{TABLE}/conv/seed1", top1=0.85)
    collect(other, out, "--seeds=0-10")
    lines = file.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        f"{TABLE}/conv/seed1",
        f"{TABLE}/conv/seed10",
    ]
    assert set(before["runs.csv"].decode().splitlines()) < set(lines)
    # Other numbers of a run that is there are refused.
    after = contents(out)
    write_run(other, f"{TABLE}/conv/seed1", top1=0.86)
    line = refused(capsys, other, out)
    assert f"{TABLE}/conv/seed1 is in {file} with other numbers" in line
    assert "(train_loss is 0.8 there, 0.78 in its run): remove its lines" in line
    # So is what nobody understands.
    file.write_text(file.read_text() + "small/table5/digits/lc-ws3/seed0" + 21 * "," + "\n")
    damaged = contents(out)
    assert "published/runs.csv, line 4: no row is called" in refused(capsys, other, out)
    file.write_text(after["runs.csv"].decode().replace("steps", "stairs", 1))
    assert "no column is called 'stairs'" in refused(capsys, other, out)
    damaged["runs.csv"] = file.read_bytes()
    assert contents(out) == damaged
    assert "has no finished run among the 5 that" in refused(
        capsys, runs, out, "table5/digits/lc-ws10"
    )
    assert "there is no such directory" in refused(capsys, tmp_path / "nowhere", out)


def test_damaged_lines_are_told_by_file_and_line(runs, tmp_path):
    out = tmp_path / "published"
    collect(runs, out, "--seeds=0-10")
    lines = (out / "runs.csv").read_text().splitlines()
    lines[1] = lines[1].replace("0.9", "90")
    lines[2] = lines[2].rpartition(",")[0]
    lines[3] = lines[3].replace("seed10", "seedy")
    lines.append(lines[5])
    (out / "runs.csv").write_text("\n".join(lines) + "\n")
    curves = (out / "snr.csv").read_text()
    (out / "snr.csv").write_text(curves.replace(",7,", ",x,", 1))
    with (out / "epochs.csv").open("a") as file:
        file.write(f'{TABLE}/lc-ws100/seed0,nan,4,,,,,,\n"\n\n{TABLE}/lc,21,84,,,,,,\n')
    problems = []
    found = {str(r.name): r for r in read_results([out], None, problems.append)}
    told = sorted(problem.removeprefix("published/") for problem in problems)
    assert [problem[:60] for problem in told] == [
        "epochs.csv, line 112: epoch is 'nan', expected a number"[:60],
        "epochs.csv, line 113: unexpected end of data",
        "epochs.csv, line 114: 0 values, expected 9",
        f"epochs.csv, line 115: '{TABLE}/lc' is the name of a"[:60],
        "runs.csv, line 2: train_top1 is '90', expected a part of 1",
        "runs.csv, line 3: 21 values, expected 22",
        f"runs.csv, line 4: no run is called '{TABLE}/conv/seedy': did you mean"[:60],
        f"runs.csv, line 8: {TABLE}/lc-ws100/seed0 comes twice; the first"[:60],
        "snr.csv, line 3: step is 'x', expected a whole number",
    ]
    assert found[f"{TABLE}/conv/seed0"].state == "damaged"
    assert len(found[f"{TABLE}/lc-ws100/seed0"].snr) == 19
    (out / "runs.csv").write_text("name;state\n")
    problems.clear()
    assert read_results([out], None, problems.append) == []
    assert "published/runs.csv, line 1: expected columns name, state" in problems[-1]


def test_of_two_sources_the_first_that_is_done_counts(runs, tmp_path):
    other = tmp_path / "other"
    write_run(other, f"{TABLE}/lc/seed0", top1=0.55)  # only started elsewhere
    write_run(other, f"{TABLE}/conv/seed0", top1=0.89)
    problems = []
    found = {str(r.name): r for r in read_results([runs, other], None, problems.append)}
    assert found[f"{TABLE}/lc/seed0"].metrics["test_top1"] == 0.55
    assert found[f"{TABLE}/conv/seed0"].metrics["test_top1"] == 0.9
    assert problems == [
        f"{TABLE}/conv/seed0 is in runs/{TABLE}/conv/seed0 and, with other numbers, in"
        f" other/{TABLE}/conv/seed0; the first one counts"
    ]


def test_curves_are_thinned_evenly(tmp_path):
    name = "reduced/fig6/cifar10/lc-ws10-lr5e-2/seed1"
    workdir = write_run(tmp_path / "runs", name)
    record = {"kind": "train", "train_loss": 1.0}
    layers = [
        {"layer10_0/conv1": -1.5, "conv1": step / 7, "layer2_0/conv1": None} for step in range(950)
    ]
    lines = [json.dumps({**record, "step": i, "neg_log_snr": x}) for i, x in enumerate(layers)]
    epochs = (workdir / "metrics.jsonl").read_text().splitlines()[1::2]
    (workdir / "metrics.jsonl").write_text("\n".join(lines + epochs) + "\n")
    out = tmp_path / "published"
    main(["paper", "collect", "reduced/fig6", f"--runs={tmp_path / 'runs'}", f"--out={out}"])
    head, *lines = (out / "snr.csv").read_text().splitlines()
    assert head == "name,step,conv1,layer10_0/conv1"
    steps = [int(line.split(",")[1]) for line in lines]
    assert (len(steps), steps[0], steps[-1]) == (100, 0, 949)
    assert {b - a for a, b in itertools.pairwise(steps)} <= {9, 10}
    assert lines[1] == f"{name},{steps[1]},{steps[1] / 7:.6g},-1.5"


def test_searches_of_the_rows_are_collected_too(tmp_path, capsys):
    out, runs = tmp_path / "published", tmp_path / "runs"
    for row in ("reduced/table5/cifar10/lc-ws10", f"{TABLE}/lc"):
        score = Score(row, 1e-3, 1e-2, 10, "done", 0.5, 1.5, chosen=True)
        write_choice(runs, parse_name(row), [score], {})
    arguments = ["paper", "collect", "reduced/fig6", f"--runs={runs}", f"--out={out}"]
    main(arguments)
    first = contents(out)
    assert [*first] == ["searches.csv"]
    _, line = first["searches.csv"].decode().splitlines()
    assert line == "reduced/table5/cifar10/lc-ws10,0.001,0.01,10,done,0.5,1.5,yes"
    assert "searches.csv: 1 searches" in capsys.readouterr().out
    main(arguments)
    assert contents(out) == first
