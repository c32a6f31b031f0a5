"""Commands as tasks of a SLURM job array, which ``submitit`` writes and submits."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from submitit import Job, LocalExecutor, SlurmExecutor
from submitit.core.utils import UncompletedJobError

from jaxws.paper.cluster_task import NOTICE, Task
from jaxws.system.text import one_line

_NAME = "jaxws-paper"
# A task that has done as much as it could in its time comes back as often as it takes.
_RETURNS = 1_000_000
_YEAR = 365 * 24 * 60
_GPUS = "CUDA_VISIBLE_DEVICES"


class Resources(NamedTuple):
    """What each task of an array gets.

    Attributes:
      minutes: until it is stopped and put back into the queue.
      options: further ones of ``sbatch``, by their long names without dashes; True for those that
        take no value.
      at_once: how many tasks may run beside each other; None for as many as there is room for.
      cpus: of a task; None for the cluster's default.

    Example:
      >>> Resources(240, {"partition": "gpu", "gpus-per-node": "1"}, cpus=8).at_once
    """

    minutes: int
    options: Mapping[str, str | bool] = {}
    at_once: int | None = None
    cpus: int | None = None


def slurm_script(commands: Sequence[Sequence[str]], folder: Path, resources: Resources) -> str:
    """The script for ``sbatch``; it need not be installed.

    Args:
      commands: of a task each: a program and its arguments.
      folder: for scripts, logs and what ``submitit`` notes of tasks; all nodes must see it.
      resources: of each task.

    Returns:
      The script's text.

    Example:
      >>> script = slurm_script([["true"], ["false"]], Path("jobs"), Resources(90))
      >>> [line for line in script.splitlines() if "array" in line or "time" in line]
      ['#SBATCH --array=0-1%2', '#SBATCH --time=90']
    """
    executor = _slurm(commands, folder, resources)
    if len(commands) > 1:
        executor.parameters["map_count"] = len(commands)  # as it does itself to submit an array
    return executor._make_submission_file_text(executor._submitit_command_str, uid="")


def submit_to_slurm(commands: Sequence[Sequence[str]], folder: Path, resources: Resources) -> str:
    """Submits an array, or a single job for a single command.

    Args:
      commands: see :func:`slurm_script`.
      folder: likewise; made if missing.
      resources: likewise.

    Returns:
      The number of the job.

    Raises:
      ValueError: this machine has no SLURM, or it has refused the job.
    """
    if shutil.which("sbatch") is None:
        raise ValueError(
            "this machine has no sbatch: submit from one of a SLURM cluster, usually its login"
            " node; --print_script shows here what would be submitted."
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        jobs = _slurm(commands, folder, resources).submit_array(
            [Task(command) for command in commands]
        )
    except UncompletedJobError as error:
        raise ValueError(f"sbatch has refused the job: {error}") from error
    return jobs[0].job_id.partition("_")[0]


def run_here(
    commands: Sequence[Sequence[str]], folder: Path, minutes: int | None = None
) -> list[Path]:
    """Runs tasks on this machine as a cluster does, all at once, and waits for them.

    Args:
      commands: see :func:`slurm_script`.
      folder: likewise; made if missing.
      minutes: until a task is stopped and started again; None for no limit.

    Returns:
      Logs of the tasks that have failed.
    """
    executor = LocalExecutor(folder, max_num_timeout=_RETURNS)
    executor.update_parameters(
        timeout_min=minutes or _YEAR, signal_delay_s=NOTICE, stderr_to_stdout=True
    )
    gpus = os.environ.get(_GPUS)  # which this executor would hide
    seen = ["env", "-u", _GPUS] if gpus is None else ["env", f"{_GPUS}={gpus}"]
    tasks = [Task([*seen, *command]) for command in commands]
    jobs: list[Job[None]] = executor.submit_array(tasks)
    for job in jobs:
        job.wait()
    return [job.paths.stdout for job in jobs if not job.paths.result_pickle.exists()]


class _Slurm(SlurmExecutor):
    """Also for machines without SLURM, where its script can be looked at."""

    @classmethod
    def affinity(cls) -> int:
        """Whether it can be used here."""
        return 2


def _slurm(commands: Sequence[Sequence[str]], folder: Path, resources: Resources) -> SlurmExecutor:
    executor = _Slurm(folder, max_num_timeout=_RETURNS)
    cpus = resources.cpus
    executor.update_parameters(
        job_name=_NAME,
        time=resources.minutes,
        signal_delay_s=NOTICE,
        stderr_to_stdout=True,
        array_parallelism=resources.at_once or len(commands),
        setup=[f"# Task 0 runs: {one_line(shlex.join(commands[0]))}"],
        additional_parameters={"requeue": True, **resources.options},
        # Since SLURM 22.05, srun does not take it from the job.
        **({"cpus_per_task": cpus, "srun_args": [f"--cpus-per-task={cpus}"]} if cpus else {}),
    )
    return executor
