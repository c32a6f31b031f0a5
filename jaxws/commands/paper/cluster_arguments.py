"""Arguments by which ``paper run`` hands its runs to a cluster, as tasks of a SLURM job array.

Each task is ``paper run`` with a share of the runs, ``--shard``. Shares are made by name and not by
what is left to do, so that tasks need not know of each other, nor lock files of a file system that
may have no locks between machines.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxws.paper.names import RunName
from jaxws.paper.shards import Shard, groups
from jaxws.system.text import say

if TYPE_CHECKING:
    from jaxws.paper.cluster import Resources

SLURM, LOCAL = "slurm", "local"
_ARRAY = re.compile(r"([1-9]\d*)(?:%([1-9]\d*))?")
# What sbatch takes for --time: minutes, with seconds, hours and days.
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<numbers>\d+(?::\d+){0,2})")
_MINUTES, _LEAST_MINUTES = 240, 5  # tasks are told to stop two to three minutes before
# Options of sbatch that have an argument of their own here, or are what the rest relies upon.
_OWN = {
    "array": "--array", "cpus-per-task": "--cpus", "gpus": "--gpus", "gpus-per-node": "--gpus",
    "mem": "--mem", "partition": "--partition", "time": "--time",
}  # fmt: skip
_FIXED = ("error", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "requeue", "signal")
_LOCAL_FILE_SYSTEMS = ("overlay", "ramfs", "tmpfs")


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds them.

    Args:
      parser: of ``paper run``.
    """
    group = parser.add_argument_group("on a cluster (docs/cluster.md)")
    group.add_argument(
        "--slurm",
        dest="executor",
        action="store_const",
        const=SLURM,
        help="submit the runs as a SLURM job array; tasks whose time is over go on in the next",
    )
    group.add_argument(
        "--executor",
        choices=(SLURM, LOCAL),
        help="slurm is --slurm; local runs the tasks here, all at once, to try it out",
    )
    group.add_argument(
        "--array",
        type=_array,
        metavar="N[%M]",
        help="number of tasks, and how many may run at once (default: a task for each run)",
    )
    group.add_argument("--partition", metavar="NAME", help="where tasks run")
    group.add_argument(
        "--time",
        type=_minutes,
        metavar="[D-]H:M:S",
        help=f"of a task until it is put back into the queue; as sbatch has it, a number alone is"
        f" minutes (default: {_MINUTES})",
    )
    group.add_argument("--gpus", metavar="[KIND:]N", help="of a task")
    group.add_argument("--cpus", type=int, metavar="N", help="of a task")
    group.add_argument("--mem", metavar="SIZE", help="of a task, such as 16G")
    group.add_argument(
        "--sbatch",
        action="append",
        type=_option,
        metavar="OPTION[=VALUE]",
        help="another option of sbatch, such as account=lab; may be given several times",
    )
    group.add_argument(
        "--print_script", action="store_true", help="print the script for sbatch, submit nothing"
    )


def submit(args: argparse.Namespace, names: Sequence[RunName]) -> int | None:
    """Hands the runs of a command to a cluster, if it asks for that.

    Args:
      args: of ``paper run``, with those of :func:`add_cluster_arguments`.
      names: of the runs.

    Returns:
      The exit status: 0; 1 where a task has failed that has run here; None if nothing is asked of
      a cluster.

    Raises:
      ValueError: arguments that contradict each other, or it cannot be submitted.
    """
    _check(args)
    if args.executor is None:
        return None
    if importlib.util.find_spec("submitit") is None:
        raise ValueError(
            f"--executor={args.executor} needs the package submitit: pip install 'jaxws[cluster]'."
        )
    from jaxws.paper import cluster  # noqa: PLC0415 - needs an optional dependency

    commands = _commands(args, names)
    folder = (args.runs / "jobs" / time.strftime("%Y%m%d-%H%M%S")).absolute()
    if args.executor == LOCAL:
        failed = cluster.run_here(commands, folder, args.time)
        for log in failed:
            say(f"a task has failed; its log is {log}", error=True)
        return 1 if failed else 0
    if args.print_script:
        say(cluster.slurm_script(commands, folder, _resources(args)))
        return 0
    if (disk := _disk_of(args.runs)) is not None:
        say(
            f"warning: --runs={args.runs} is on a file system of this machine ({disk}), which the"
            " nodes may not see; runs need a directory that all nodes share.",
            error=True,
        )
    job = cluster.submit_to_slurm(commands, folder, _resources(args))
    tasks = f"{len(commands)} tasks" if len(commands) > 1 else "one task"
    say(
        f"submitted job {job} of {tasks}; logs: {folder}\nsqueue -j {job} shows its tasks, scancel"
        f" {job} stops them, and the same command goes on with what is not done"
    )
    return 0


def _check(args: argparse.Namespace) -> None:
    """Sees to it that arguments fit together."""
    only_slurm = ("partition", "gpus", "cpus", "mem", "sbatch", "print_script")
    given = [name for name in (*only_slurm, "array", "time") if getattr(args, name)]
    if args.executor is None and given:
        raise ValueError(f"--{given[0]} is for runs on a cluster: add --slurm, or leave it out.")
    if args.executor is None:
        return
    if args.executor == LOCAL and (wrong := [name for name in given if name in only_slurm]):
        raise ValueError(f"--{wrong[0]} is for --slurm, and --executor=local is given.")
    for name, is_given, instead in (
        ("dry_run", args.dry_run, "--print_script shows what --slurm would submit"),
        ("shard", args.shard.count > 1, "each task gets its share by it"),
    ):
        if is_given:
            raise ValueError(f"--{name} with --executor={args.executor}: leave it out; {instead}.")
    if args.cpus is not None and args.cpus < 1:
        raise ValueError(f"--cpus={args.cpus}: expected a number of CPUs for each task.")


def _commands(args: argparse.Namespace, names: Sequence[RunName]) -> list[list[str]]:
    """The command of each task."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    add_cluster_arguments(parser)
    given = args.argv[args.argv.index("run") + 1 :]
    _, rest = parser.parse_known_args(given)  # the others, in their order
    most = len(groups(names))
    tasks, _ = args.array or (most, None)
    if tasks > most:
        raise ValueError(f"--array={tasks}: expected at most {most}, a task for each run.")
    run = [sys.executable, "-m", "jaxws", "paper", "run", *rest]
    return [[*run, f"--shard={Shard(index, tasks)}"] for index in range(tasks)]


def _resources(args: argparse.Namespace) -> Resources:
    from jaxws.paper.cluster import Resources  # noqa: PLC0415

    given = {"partition": args.partition, "gpus-per-node": args.gpus, "mem": args.mem}
    options = {key: value for key, value in given.items() if value} | dict(args.sbatch or ())
    _, at_once = args.array or (None, None)
    return Resources(args.time or _MINUTES, options, at_once, args.cpus)


def _disk_of(path: Path) -> str | None:
    """The kind of a path's file system if it is of this machine alone, as far as can be told."""
    place = path.absolute()
    best: tuple[int, str | None] = (0, None)
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for mount in mounts:
        device, where, kind = mount.split()[:3]
        if place.is_relative_to(where) and len(where) >= best[0]:
            is_own = device.startswith("/dev/") or kind in _LOCAL_FILE_SYSTEMS
            best = (len(where), kind if is_own else None)
    return best[1]


def _array(text: str) -> tuple[int, int | None]:
    """Reads ``'8'`` or ``'8%2'``."""
    if not (found := _ARRAY.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of tasks, such as 8 or 8%2")
    return int(found[1]), int(found[2]) if found[2] else None


def _minutes(text: str) -> int:
    """Reads a time as ``sbatch`` does, up to whole minutes."""
    found = _TIME.fullmatch(text)
    numbers = [int(number) for number in found["numbers"].split(":")] if found else []
    if found and (found["days"] or len(numbers) == 3):  # they begin with hours
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0, 0][:2]
    total = hours * 60 + minutes + math.ceil(seconds / 60)
    total += int(found["days"]) * 24 * 60 if found and found["days"] else 0
    if total < _LEAST_MINUTES:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time such as 90 (minutes), 4:00:00 or 1-12 (days-hours), at"
            f" least {_LEAST_MINUTES} minutes"
        )
    return total


def _option(text: str) -> tuple[str, str | bool]:
    """Reads ``'account=lab'`` or ``'exclusive'``."""
    name, equals, value = text.lstrip("-").partition("=")
    name = name.replace("_", "-")
    if name in _OWN:
        raise argparse.ArgumentTypeError(f"{text!r}: give it as {_OWN[name]}")
    if not name or name in _FIXED:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected an option of sbatch by its long name that is not one of"
            f" {', '.join(_FIXED)}, which are set already"
        )
    return name, value if equals else True
