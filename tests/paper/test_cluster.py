"""Runs of the paper as tasks of a SLURM job array: what is submitted, and what a task does."""

import argparse
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from jaxws.__main__ import main
from jaxws.paper.cluster import run_here
from jaxws.paper.cluster_task import Task
from jaxws.paper.names import select
from jaxws.paper.shards import Shard, groups
from jaxws.parallel.launch import add_launch_arguments, cluster_of

ROWS = ["paper", "run", "small/table4/digits/conv", "--seeds=0-3"]
# Of task 1 of an array of SLURM 22.05, in the step that srun has made for it.
ARRAY_TASK = {
    "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_JOB_ID": "2", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "1",
    "SLURM_LOCALID": "0", "SLURM_NPROCS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
    "SLURM_STEP_NODELIST": "node1", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1", "SUBMITIT_EXECUTOR": "slurm",
}  # fmt: skip


def run(capsys, *arguments):
    """What `paper run` prints with --slurm: its status, stdout and stderr."""
    try:
        status = main([*ROWS, *arguments])
    except SystemExit as error:
        status = error.code
    return status, *capsys.readouterr()


def test_the_script(capsys, tmp_path):
    runs = tmp_path / "runs here"
    status, script, _ = run(
        capsys, "--jobs", "3", "--config.log_every=7", f"--runs={runs}", "--slurm",
        "--print_script", "--array=2%1", "--time=1-0:30", "--partition=gpu", "--gpus=a100:1",
        "--cpus", "4", "--mem=16G", "--sbatch=account=lab", "--sbatch", "exclusive", "--retry",
    )  # fmt: skip
    assert status == 0
    assert not runs.exists()  # nothing is submitted
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.M))
    wanted = {
        "array": "0-1%1", "time": "1470", "partition": "gpu", "gpus-per-node": "a100:1",
        "cpus-per-task": "4", "mem": "16G", "account": "lab", "exclusive": "", "requeue": "",
        "signal": "USR2@120", "nodes": "1",
    }  # fmt: skip
    assert options | wanted == options
    assert str(runs / "jobs") in shlex.split(options["output"])[0]
    [srun] = [line for line in script.splitlines() if line.startswith("srun ")]
    assert "--cpus-per-task=4" in shlex.split(srun)
    [task] = [line for line in script.splitlines() if line.startswith("# Task 0 runs: ")]
    command = shlex.split(task.partition(": ")[2])
    assert command[1:] == [
        "-m", "jaxws", *ROWS, "--jobs", "3", "--config.log_every=7", f"--runs={runs}", "--retry",
        "--shard=0/2",
    ]  # fmt: skip
    script = run(capsys, "--executor=slurm", "--print_script")[1]
    assert "--array=0-3%4\n" in script  # a task for each run
    assert "--time=240\n" in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--array=2", "--array is for runs on a cluster: add --slurm, or leave it out."),
        ("--print_script", "--print_script is for runs on a cluster: add --slurm"),
        ("--executor=local --mem=1G", "--mem is for --slurm, and --executor=local is given."),
        ("--slurm --shard=0/2", "--shard with --executor=slurm: leave it out; each task gets"),
        ("--slurm --array=5", "--array=5: expected at most 4, a task for each run."),
        ("--slurm --array=0", "'0': expected a number of tasks, such as 8 or 8%2"),
        ("--slurm --cpus=0", "--cpus=0: expected a number of CPUs for each task."),
        ("--slurm --time=4h", "'4h': expected a time such as 90 (minutes), 4:00:00 or 1-12"),
        ("--slurm --time=4", "at least 5 minutes"),
        ("--slurm --sbatch=mem=1G", "'mem=1G': give it as --mem"),
        ("--slurm --sbatch=--nodes=2", "'--nodes=2': expected an option of sbatch"),
        ("--slurm --shard=2/2", "'2/2': expected INDEX/COUNT, such as 0/4"),
        ("--slurm --config.epochs=3", "--config.epochs is what makes a run one of its row"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, arguments, message):
    status, out, error = run(capsys, f"--runs={tmp_path}/runs", *arguments.split())
    assert (status, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_times(capsys):
    for text, minutes in (
        ("90", 90), ("5:01", 6), ("2:00:00", 120), ("1-12", 2160), ("1-0:30:1", 1471),
    ):  # fmt: skip
        script = run(capsys, "--slurm", "--print_script", f"--time={text}")[1]
        assert f"--time={minutes}\n" in script


def test_submission(capsys, tmp_path, monkeypatch):
    """With an sbatch that accepts, one that refuses, and none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    flags = ("--slurm", "--array=2", f"--runs={tmp_path}/runs")
    status, _, error = run(capsys, *flags)
    assert status == 2
    assert "this machine has no sbatch: submit from one of a SLURM cluster" in error
    for name, text in (("srun", ""), ("sbatch", "echo Submitted batch job 12")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    status, out, error = run(capsys, *flags)
    assert status == 0
    assert out.startswith("submitted job 12 of 2 tasks; logs: ")
    [folder] = (tmp_path / "runs" / "jobs").iterdir()
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert found == {"12_0_submitted.pkl", "12_1_submitted.pkl", "12_submission.sh"}
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2; exit 1")
    status, _, error = run(capsys, *flags)
    assert status == 2
    assert error.splitlines()[-1] == (
        "error: sbatch has refused the job: sbatch: error: invalid partition"
    )


def test_without_submitit(capsys, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, find=importlib.util.find_spec: None if name == "submitit" else find(name),
    )
    status, _, error = run(capsys, "--slurm")
    assert status == 2
    assert error == (
        "error: --executor=slurm needs the package submitit: pip install 'jaxws[cluster]'.\n"
    )


# Stops in order, once it is told to; what it sends comes from SLURM otherwise.
STOPS = """
trap 'echo stopped; exit 75' TERM
[ -e {marker} ] && {{ echo goes on; exit 0; }}
touch {marker}
kill -{signal}
for i in $(seq 200); do sleep 0.05; done
"""


def test_a_task_whose_time_is_over_comes_back(tmp_path, monkeypatch):
    """The signal before stops its command in order; the next time, that goes on."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    # Some clusters signal all processes of a task.
    script = STOPS.format(marker=tmp_path / "marker", signal="USR2 $$ $PPID")
    failed = run_here(
        [["bash", "-c", script], ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exit 3"]], tmp_path
    )
    assert len(failed) == 1
    assert "\n3\n" in failed[0].read_text()
    [log] = set(tmp_path.glob("*_log.out")) - set(failed)
    words = [line for line in log.read_text().splitlines() if not line.startswith("submitit")]
    assert words == ["stopped", "goes on"]


def test_a_task_that_is_told_to_end_waits_for_its_end(tmp_path):
    """One that ended by itself would not come back after it has made room for another."""
    script = STOPS.format(marker=tmp_path / "marker", signal="TERM $PPID")
    program = f"from jaxws.paper.cluster_task import Task; Task(['sh', '-c', {script!r}])()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.read(8) == "stopped\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 75


def test_a_signal_finds_the_command_that_is_just_being_started(monkeypatch):
    """Else it would go on beside the one that takes its place."""
    popen, ended = subprocess.Popen, []
    task = Task(["sleep", "60"])

    def slow(command):
        process = popen(command)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.2)
        return process

    def asked(*_):
        task.checkpoint()
        ended.append(task._process and task._process.poll())
        sys.exit(7)  # as submitit does

    monkeypatch.setattr(subprocess, "Popen", slow)
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    signal.signal(signal.SIGUSR1, asked)
    try:
        with pytest.raises(SystemExit) as end:
            task()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended == [-signal.SIGTERM] and end.value.code == 7


def test_a_task_trains_alone():
    parser = argparse.ArgumentParser()
    add_launch_arguments(parser)
    assert cluster_of(parser.parse_args([]), ARRAY_TASK) is None


def test_shares():
    """They are all runs, each once, and a run is with the one that it starts from."""
    names = select(["table5/cifar10", "untied"])
    shares = [Shard(index, 7).of(names) for index in range(7)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    for share in shares:
        for name in share:
            if first := name.find().starts_from:
                assert name._replace(experiment="table5", row=first) in share
    assert len(groups(names)) == len(select(["table5/cifar10"]))
