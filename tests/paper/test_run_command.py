"""``paper run``, as it is typed: what it refuses, what it forecasts, and two runs that are real."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxws.__main__ import main
from jaxws.commands.paper import forecast, run_rows
from jaxws.paper import costs
from jaxws.paper.costs import Cost
from jaxws.paper.execute import Outcome
from jaxws.paper.slots import Devices
from jaxws.records.metrics_file import MetricsFile, timeless
from tests.support.paper_runs import write_run

ROOT = Path(__file__).parents[2]
CONV = "small/table4/digits/conv"
COST = Cost(5, 20, 0.1, 2, 23, 1e9, 1e6)


@pytest.fixture
def paper_run(tmp_path, monkeypatch, capfd):
    """Calls the command; nothing is trained, and the cache is empty."""
    monkeypatch.setattr(costs, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(run_rows, "probe", lambda: Devices("cpu", 1))

    def call(*arguments):
        try:
            status = main(["paper", "run", f"--runs={tmp_path / 'runs'}", *arguments])
        except SystemExit as error:
            status = error.code
        return status, "".join(capfd.readouterr())

    return call


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([f"{CONV}/seed0", "--config.epochs=3"], "--config.epochs is what makes a run one of its"),
        ([f"{CONV}/seed0", "--config.max_steps=3"], "--config.max_steps is what makes a run"),
        ([f"{CONV}/seed0", "--config.model.dtyp=x"], "config.model.dtyp: did you mean 'config.mod"),
        (["small/table4/digits/comv"], "did you mean 'conv'"),
        ([CONV, "--jobs=0"], "'0': expected a number of runs, at least 1"),
        ([CONV, "--searched"], "has no finished search in "),
        ([CONV, "--searches=docs"], "has no finished search in docs: "),
        ([CONV, "--searches=docs", "--searched"], "--searched: not allowed with argument --sea"),
    ],
)
def test_mistakes_are_told_in_one_line(paper_run, tmp_path, arguments, told):
    status, text = paper_run(*arguments)
    assert status == 2 and told in text and text.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_arguments_become_jobs(paper_run, tmp_path, monkeypatch):
    taken = []

    def run_jobs(jobs, slots, *, retry, seconds, ended):
        taken.append((jobs, slots, retry))
        assert seconds(jobs[0], forecast.job_state(jobs[0])) is None
        return Outcome((), (), (), (), tuple(job.name for job in jobs))

    monkeypatch.setattr(run_rows, "run_jobs", run_jobs)
    status, told = paper_run(
        CONV, "--seeds=0-3", "--shard=1/2", "--jobs=3", "--retry", "--config.data.data_dir=/tfds"
    )
    assert status == 75 and "2 runs are not done; the same command goes on." in told
    ((jobs, slots, retry),) = taken
    assert [job.name[-5:] for job in jobs] == ["seed1", "seed3"] and len(slots) == 3 and retry
    assert jobs[0].arguments == (f"--config=paper:{CONV}/seed1", "--config.data.data_dir=/tfds")
    assert jobs[0].workdir == tmp_path / "runs" / CONV / "seed1"


def test_a_dry_run_measures_each_kind_once_and_adds_up(paper_run, tmp_path, monkeypatch):
    measured = []

    def measure(jobs, slots, found):
        measured.append([job.name for job in jobs])
        for job in jobs:
            found(job, COST)

    monkeypatch.setattr(forecast, "measure", measure)
    runs = tmp_path / "runs"
    write_run(runs, f"{CONV}/seed0")
    write_run(runs, f"{CONV}/seed1", done=False)
    write_run(runs, f"{CONV}/seed2", diverged=True)
    dry = (CONV, "small/table6/digits/conv", "--seeds=0-3", "--dry_run", "--jobs=2")
    status, told = paper_run(*dry)
    assert status == 0 and measured == [[f"{CONV}/seed1"]]
    # 5 s, 460 steps and 4 evaluations; what goes on does half of it.
    lines = {line.split()[0]: line.split()[1:6] for line in told.splitlines() if "table" in line}
    assert lines[CONV] == ["1", "1", "1", "1", "690"]
    assert lines["small/table6/digits/conv"] == ["0", "0", "4", "0", "1840"]
    # A whole run takes 59 s, the half 32 s, and the first of Table 6 has to compile: 79 s. In two
    # slots, the longest first: 3 * 59 s, and 79 + 59 + 32 s.
    assert "6 runs, 2530 steps: about 0:02:57 with 2 at once; 2 GB of memory" in told
    assert not list(runs.rglob("lock")) and not list(runs.rglob("*.log"))
    # What is known is not measured again, and the list shows it.
    paper_run(*dry)
    assert measured[1:] == [[]]
    for seed in range(4):
        write_run(runs, f"{CONV}/seed{seed}")
    status, told = paper_run(CONV, "--seeds=0-3", "--dry_run")
    assert status == 0 and "nothing is left to be done." in told


def _paper_run(runs):
    names = [f"{CONV}/seed0", "small/table4/digits/lc-ws1/seed0"]
    return subprocess.Popen(
        [sys.executable, "-m", "jaxws", "paper", "run", *names, f"--runs={runs}"],
        cwd=ROOT,
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_real_runs_that_are_killed_end_as_those_that_are_not(tmp_path):
    """Two minutes on two cores."""
    assert _paper_run(tmp_path / "whole").wait() == 0
    for seconds in (9, 17):
        killed = _paper_run(tmp_path / "killed")
        time.sleep(seconds)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert _paper_run(tmp_path / "killed").wait() == 0
    for row in ("conv", "lc-ws1"):
        files = [
            tmp_path / name / f"small/table4/digits/{row}/seed0" for name in ("whole", "killed")
        ]
        whole, killed = (
            [*map(timeless, MetricsFile(f / "metrics.jsonl").records())] for f in files
        )
        assert whole == killed and whole[-1]["epoch"] == 20
        sessions = json.loads((files[1] / "provenance.json").read_text())["stretches"]
        assert len(sessions) > 1
