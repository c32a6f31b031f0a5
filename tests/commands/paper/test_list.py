"""paper list and paper show, and runs of rows by train.py: what a user sees, right and wrong."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxws.__main__ import main
from jaxws.commands.flags import add_config_arguments, config_of, parse_arguments
from jaxws.commands.paper import show
from jaxws.commands.paper.selection import RUNS
from jaxws.paper import hours
from jaxws.paper.names import parse_name
from jaxws.paper.published_results import read_published
from tests.support.paper_runs import write_run

ROW = "table5/cifar10/conv"


def told(capsys, *arguments):
    """What the command prints; the exit status must be 0."""
    assert main(["paper", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out


def refused(capsys, *arguments):
    """The one line that a wrong command prints."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out) == (2, "")
    (line,) = captured.err.splitlines()
    return line


@pytest.fixture(autouse=True)
def nothing_measured_here(monkeypatch):
    """A machine on which no step was measured, whoever has used it before."""
    monkeypatch.setattr(hours, "known_hours", lambda name: None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs in all states, and what is no run."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root, f"{ROW}/seed0", top1=0.88, changes={"model.dtype": "bfloat16"})
    write_run(root, f"{ROW}/seed1", top1=0.87)
    write_run(root, f"{ROW}/seed2", top1=0.5, done=False)
    write_run(root, f"{ROW}/seed3", top1=0.4, diverged=True)
    write_run(root, f"{ROW}/seed4", changes={"model.width": 8})
    write_run(root, f"{ROW}/seed5", epochs=2)
    (root / ROW / "seed6").mkdir()
    damaged = write_run(root, "table5/cifar10/lc/seed0") / "metrics.jsonl"
    damaged.write_text("nonsense\n" + damaged.read_text())
    (write_run(root, "table5/cifar10/lc/seed1") / "config.json").write_text("{")
    (root / "table5/cifar10/lc/seed2").write_text("a file")
    write_run(root, "small/table5/digits/lc/seed0", top1=0.5)
    return root


def test_all_rows_in_80_columns_where_nothing_was_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for scale, rows in (("paper", 96), ("small", 21), ("reduced", 37)):
        lines = told(capsys, "list", f"--scale={scale}").splitlines()
        table = [
            line for line in lines if line.count("/") >= 3 and line.endswith(("/1", "/3", "/5"))
        ]
        assert len(table) == rows
        assert max(map(len, table)) <= 80
        assert (scale != "paper") == any("not the paper's" in line for line in lines)
    lines = told(capsys, "list").splitlines()
    assert lines[0].split() == ["row", "top-1", "top-5", "spread", "done"]
    assert any(line.split() == [ROW, "88.3", "0.7", "0/5"] for line in lines)
    assert any(line.split() == ["table13/imagenet/lc", "46.7", "70.0", "0/1"] for line in lines)
    assert "--scale=small and --scale=reduced" in lines[-1]
    assert not list(tmp_path.iterdir())


def test_rows_and_runs_with_their_states(runs, capsys):
    out = told(capsys, "list", "table5/cifar10", f"--runs={runs}")
    lines = [line.split() for line in out.splitlines()]
    assert [ROW, "88.3", "0.7", "2+3/5", "87.5"] in lines
    assert ["table5/cifar10/lc", "80.9", "0.8", "0+2/5"] in lines
    assert f"{ROW}/seed4 is another run: config.model.width is 8 there, 16 in the row" in out
    assert f"{ROW}/seed3 is diverged: the loss is not finite" in out
    assert "lc/seed0 is damaged: line 1 of " in out and "lc/seed1 is damaged: " in out
    assert "lc/seed2 is missing: has no config.json yet" in out
    out = told(capsys, "list", ROW, "--seeds=0-6", f"--runs={runs}")
    lines = [line.split() for line in out.splitlines()]
    assert [f"{ROW}/seed0", "done", "200/200", "88.00"] in lines
    assert [f"{ROW}/seed2", "started", "100/200", "50.00"] in lines
    assert [f"{ROW}/seed5", "other"] in lines and [f"{ROW}/seed6", "missing"] in lines
    assert f"{ROW}/seed0 has model.dtype='bfloat16', other than its row" in out
    out = told(capsys, "list", ROW, "--state=done,diverged", f"--runs={runs}")
    assert [line[-5:] for line in out.split() if line.startswith(ROW)][:3] == [
        *("seed0", "seed1", "seed3"),
    ]
    out = told(capsys, "list", "--state=damaged", f"--runs={runs}")
    assert [line.split()[0] for line in out.splitlines()[1:2]] == ["table5/cifar10/lc"]
    assert "none of the 105 runs" in told(
        capsys, "list", "--scale=small", "--state=damaged", f"--runs={runs}"
    )


def test_json(runs, capsys):
    found = json.loads(told(capsys, "list", "table5/cifar10", f"--runs={runs}", "--json"))
    conv = found[0]
    assert (conv["name"], conv["paper"]["top1"], conv["not_the_papers"]) == (ROW, 88.3, None)
    assert conv["ours"]["top1"] == {
        "mean": pytest.approx(87.5),
        "spread": pytest.approx(1),
        "runs": 2,
    }
    states = ["done", "done", "started", "diverged", "other"]
    assert [run["state"] for run in conv["runs"]] == states
    small = json.loads(told(capsys, "list", "small/table5/digits/lc", f"--runs={runs}", "--json"))
    assert "digits" in small[0]["not_the_papers"] and small[0]["paper"] is None


def test_show(runs, tmp_path, monkeypatch, capsys):
    out = told(capsys, "show", "table5/cifar10/lc-4reps")
    for text in (
        "top-1 82.9 %, -5.4 against conv (Table 5, mean of 5 runs); spread 0.8 (Table 8)",
        "learning rate 0.001, weight decay 0.01 (Table 11)",
        "batches of 512 views, 4 of each image",
        "200 epochs; the rate is divided by 4 after epochs 100 and 150",
        "python -m jaxws paper run table5/cifar10/lc-4reps\n",
        "python train.py --config configs/paper.py:table5/cifar10/lc-4reps/seed0\n",
        "here, in runs/paper\n  nothing yet",
        "data.n_reps=4",
    ):
        assert text in out
    out = told(capsys, "show", ROW, f"--runs={runs}")
    assert "seed0 done, epoch 200 of 200, top-1 88.00 %\n    model.dtype='bfloat16' instead" in out
    assert "top-1 87.50 %, mean of 2 runs that are done, spread 1.00" in out
    assert f"--workdir={runs}/{ROW}/seed0" in out and f"--runs={runs}" in out
    assert "6.9 h on 2 cores of an AMD EPYC" in out and "predicted from 19,600 steps" in out
    out = told(capsys, "show", "small/table5/digits/lc/seed0", f"--runs={runs}")
    assert "not the paper's: ResNet-8" in out and "of table5/cifar10/lc, which it is like" in out
    out = told(capsys, "show", "untied/cifar10/lc-from-conv")
    assert "starts from the weights of table5/cifar10/conv/seed0" in out
    assert "the rate is what the row is about" in told(
        capsys, "show", "fig6/cifar10/lc-ws10-lr5e-2"
    )
    # Published results are read as paper collect writes them.
    assert main(["paper", "collect", ROW, f"--runs={runs}", f"--out={tmp_path / 'paper'}"]) == 0
    capsys.readouterr()
    assert list(show.published_lines(parse_name(ROW), tmp_path / "small")) == []
    monkeypatch.setattr(show, "PUBLISHED", tmp_path)
    out = told(capsys, "show", ROW)
    assert "published with jaxws\n  top-1 87.50 %, mean of 2 runs" in out
    assert "device 1 x cpu (cpu)" in out
    assert read_published(tmp_path / "paper", print)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paper", "list", "tabel5"], "did you mean 'table5'?"),
        (["paper", "list", "--scale=tiny"], "--scale=tiny: expected one of paper, small, reduced"),
        (["paper", "list", "--state=dnoe"], "'dnoe': did you mean 'done'?"),
        (["paper", "list", "--seeds=4-0"], "'4-0': expected seeds"),
        (["paper", "list", "--seeds=a"], "'a': expected seeds such as 0,1,2 or 0-4"),
        (["paper", "list", "--seeds=0-99999999999"], "expected seeds below 10^9"),
        (["paper", "list", f"--runs={__file__}"], "expected a directory, this is a file"),
        (["paper", "list", "--runs=gs://bucket/runs"], "expected a local path"),
        (["paper", "list", "--sate=done"], "did you mean '--state'?"),
        (["paper", "show", "table5"], "such as 'table5/cifar10/conv'"),
        (["paper", "show", "table5/cifar10/lc-ws3"], "did you mean 'table5/cifar10/lc-ws1'?"),
        (["paper", "show"], "NAME"),
        (["paper", "lst"], "list"),
        (["train", "--config=paper"], "--config=paper: which row?"),
        (
            ["train", "--config=paper:table5/cifar10/lc-ws3"],
            "did you mean 'table5/cifar10/lc-ws1'?",
        ),
        (["train", "--config=paper:small/table5/digits/lc/3"], "expected a seed, as in"),
        (["train", "--config=papr:table5/cifar10/lc"], "did you mean 'paper'?"),
    ],
)
def test_mistakes_are_one_line_without_python(arguments, message, capsys):
    line = refused(capsys, *arguments)
    assert message in line
    assert "Error" not in line and "--debug" not in line and ".py" not in line.replace(__file__, "")


def test_a_row_by_config_is_the_run_that_paper_run_makes():
    for argument, seed, name in (
        ("paper:table5/cifar10/lc-ws1/seed3", 3, "table5/cifar10/lc-ws1/seed3"),
        ("configs/paper.py:small/table5/digits/lc/seed2", 2, "small/table5/digits/lc/seed2"),
        ("paper:table5/cifar10/lc", 5, "table5/cifar10/lc/seed5"),
        ("paper:untied/cifar10/lc-from-conv/seed1", 1, "untied/cifar10/lc-from-conv/seed1"),
    ):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        add_config_arguments(parser)
        given = [f"--config={argument}", *([] if "seed" in argument else [f"--config.seed={seed}"])]
        args, unknown = parse_arguments(parser, given)
        config, found = config_of(args)
        assert not unknown and config.seed == seed
        assert Path("runs") / found == RUNS / name
        first = "runs/paper/table5/cifar10/conv/seed1" if "untied" in name else None
        assert config.model.init_from == first


def test_lists_need_no_jax_and_may_lose_their_reader(runs):
    program = (
        "import sys; from jaxws.__main__ import main\n"
        f"main(['paper', 'list', '--runs={runs}']); main(['paper', 'show', '{ROW}'])\n"
        "heavy = {'jax', 'flax', 'numpy', 'matplotlib', 'orbax'}\n"
        "assert not heavy & {name.partition('.')[0] for name in sys.modules}\n"
    )
    read, write = os.pipe()
    os.close(read)
    gone = [sys.executable, "-m", "jaxws", "paper", "list"]
    with open(write, "wb") as pipe:
        without = subprocess.Popen(gone, stdout=pipe, stderr=subprocess.PIPE, text=True)
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert without.communicate(timeout=60)[1] == ""
