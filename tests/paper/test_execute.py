"""Many runs from one command: each once, whatever stops it; what cannot be done is told."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxws.paper.execute import run_jobs
from jaxws.paper.jobs import job_state
from jaxws.paper.running import Running, claim, log_of
from jaxws.paper.slots import Slot, cores
from jaxws.paper.state import RunState
from tests.support.paper_parent import ROW, fake_command, fake_jobs
from tests.support.paper_runs import write_run

ROOT = Path(__file__).parents[2]
SLOTS = (Slot((cores()[0],)), Slot())


def names(*seeds):
    return [f"{ROW}/seed{seed}" for seed in seeds]


def start(runs, seconds, seeds):
    """A process that runs jobs, see paper_parent.py."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.paper_parent", str(runs), str(seconds), str(seeds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def records(runs, count):
    return [(runs / ROW / f"seed{seed}" / "metrics.jsonl").read_text() for seed in range(count)]


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_process_has_its_own_memory(tmp_path):
    """Not that of the process which has started it, here one with JAX in it."""
    (job,) = fake_jobs(tmp_path, names(0))
    sleeps = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
    running = Running(job, Slot(), RunState("missing"), claim(job.workdir), lambda _: sleeps)
    wait_for(lambda: running.ended() or running._memory > 1e6)
    running.stop()
    wait_for(running.ended)
    running.close()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert running.ended().was_stopped and 1e6 < running.ended().memory < own / 2


def test_each_run_ends_as_it_can_and_no_other_is_touched(tmp_path, capsys):
    """One is done before, one goes on, one diverges, one fails, two are not what they should be."""
    runs = tmp_path / "runs"
    jobs = fake_jobs(runs, names(0, 1, 2, 3, 4, 5, 6))
    write_run(runs, jobs[0].name, epochs=3)
    write_run(runs, jobs[1].name, epochs=3, done=False)
    write_run(runs, jobs[4].name, epochs=3, changes={"model.width": 9})
    write_run(runs, jobs[5].name, epochs=3)
    (jobs[5].workdir / "metrics.jsonl").write_text("[]\n{}\n")
    before = (jobs[4].workdir / "metrics.jsonl").read_bytes()
    command = fake_command(jobs, 0, {"seed2": 3, "seed3": 7})
    ended = []
    outcome = run_jobs(jobs, SLOTS, ended=lambda *how: ended.append(how), command=command)
    told = "".join(capsys.readouterr())
    short = [[name[-1] for name in group] for group in outcome]
    assert short == [["0", "1", "6"], ["2"], ["4", "5"], ["3"], []]
    assert outcome.status == 2
    assert "1 of 7 runs are done already, 2 cannot be done" in told
    assert "config.model.width is 9 there, 8 in the row" in told
    assert "line 1 of" in told
    assert f"{jobs[1].name}: goes on at epoch 1 of 3" in told
    assert f"{jobs[2].name}: has diverged: nan" in told
    assert "failed (exit status 7)" in told and "    what went wrong" in told
    assert "[7/7]" in told and "75.00 % right" in told
    assert (jobs[4].workdir / "metrics.jsonl").read_bytes() == before
    assert sorted(job.name[-1] for job, _, _ in ended) == ["1", "6"]
    assert all(how.memory > 1e6 and how.seconds > 0 for _, _, how in ended)
    assert "from epoch 1" in log_of(jobs[1].workdir).read_text()
    assert [job_state(job).kind for job in jobs[:4]] == ["done", "done", "diverged", "started"]
    # Once more: what diverged is told, and tried again only if that is asked for.
    again = run_jobs(jobs[:3], SLOTS, command=command)
    assert (again.diverged, again.status) == ((jobs[2].name,), 3)
    assert "--retry" in capsys.readouterr().out
    command = fake_command(jobs, 0)
    assert run_jobs(jobs[:3], SLOTS, retry=True, command=command).status == 0


def test_a_slot_keeps_a_run_to_its_cores(tmp_path):
    jobs = fake_jobs(tmp_path / "runs", names(0))
    run_jobs(jobs, SLOTS[:1], command=fake_command(jobs, 0))
    assert f"cores [{cores()[0]}], from epoch 0" in log_of(jobs[0].workdir).read_text()


def test_long_runs_come_first_and_networks_before_what_starts_from_them(tmp_path, capsys):
    runs = tmp_path / "runs"
    conv, untied = "reduced/table5/cifar10/conv/seed0", "reduced/untied/cifar10/lc-from-conv/seed0"
    jobs = fake_jobs(runs, [untied, conv, *names(0)])
    assert jobs[0].after == runs / conv
    assert f"--config.model.init_from={runs / conv}" in jobs[0].arguments
    length = {untied: 9.0, conv: 1.0}
    command = fake_command(jobs, 0)
    refused = run_jobs(jobs[:1], SLOTS, command=command)
    assert refused.refused == (untied,)
    assert f"starts from {runs / conv}, which is not done" in capsys.readouterr().err
    failing = fake_command(jobs, 0, {"seed0": 3})
    assert run_jobs(jobs[:2], SLOTS, command=failing).refused == (untied,)
    capsys.readouterr()
    outcome = run_jobs(
        jobs, SLOTS[:1], retry=True, seconds=lambda job, _: length.get(job.name, 5.0),
        command=command,
    )  # fmt: skip
    assert outcome.status == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "epoch" in line or ": st" in line
    ]
    order = [line.split()[1].split("/")[1] for line in lines]
    assert order == ["table4", "table5", "untied"]


def test_two_commands_divide_the_runs_and_leave_those_in_use_to_others(tmp_path, capsys):
    runs = tmp_path / "runs"
    first = start(runs, 0.15, 4)
    second = start(runs, 0.15, 4)
    told = first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]
    assert (first.returncode, second.returncode) == (0, 0), told
    assert sum(text.count(": done, ") for text in told) == 4, told
    assert all(job_state(job).kind == "done" for job in fake_jobs(runs, names(0, 1, 2, 3)))
    jobs = fake_jobs(runs, names(7))
    with claim(jobs[0].workdir):
        assert claim(jobs[0].workdir) is None


def test_a_signal_stops_all_in_order_and_the_same_command_goes_on(tmp_path):
    runs = tmp_path / "runs"
    parent = start(runs, 0.5, 3)
    wait_for(lambda: len(list(runs.glob(f"{ROW}/*/config.json"))) == 2)
    time.sleep(0.2)
    parent.send_signal(signal.SIGINT)
    told = parent.communicate(timeout=60)[0]
    assert parent.returncode == 75, told
    assert "SIGINT: stopping (2 running)" in told
    assert told.count("stopped at epoch 1 of 3") == 2
    assert not (runs / ROW / "seed2").exists()
    again = start(runs, 0, 3)
    told = again.communicate(timeout=60)[0]
    assert again.returncode == 0, told
    assert told.count("goes on at epoch 1 of 3") == 2


def test_killed_at_any_time_the_same_command_ends_as_if_it_had_not_been(tmp_path):
    """Its runs stop with it, and are taken up where they were."""
    whole = start(tmp_path / "whole", 0, 4)
    assert whole.communicate(timeout=60)[0].count(": done, ") == 4
    runs, rng = tmp_path / "runs", random.Random(0)
    for _ in range(3):
        parent = start(runs, 0.2, 4)
        wait_for(lambda: list(runs.glob(f"{ROW}/*.log")))
        time.sleep(rng.uniform(0, 1.0))
        parent.kill()
        parent.communicate()
    last = start(runs, 0.01, 4)
    told = last.communicate(timeout=60)[0]
    assert last.returncode == 0, told
    assert records(runs, 4) == records(tmp_path / "whole", 4)
    assert json.loads(records(runs, 4)[0].splitlines()[-1])["epoch"] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a signal when a parent ends")
def test_runs_end_with_the_command(tmp_path):
    runs = tmp_path / "runs"
    parent = start(runs, 0.3, 2)
    wait_for(lambda: len(list(runs.glob(f"{ROW}/*/lock"))) == 2)
    parent.kill()
    parent.communicate()
    wait_for(lambda: all(_is_free(runs / ROW / f"seed{seed}") for seed in range(2)))
    assert all(text.count("\n") < 3 for text in records(runs, 2))


def _is_free(workdir):
    log = claim(workdir)
    if log is not None:
        log.close()
    return log is not None
