"""``paper run --dry_run``: what there is to do, and what it takes on this machine."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxws.paper.costs import Cost, Costs, finished_after, kind_of, program_of
from jaxws.paper.jobs import Job, job_state
from jaxws.paper.measuring import measure
from jaxws.paper.slots import Slot, free_memory
from jaxws.paper.state import DONE, MISSING, STARTED, RunState
from jaxws.system.terminal import duration, print_list
from jaxws.system.text import say, size_text

_HEAD = ("row", "done", "to go on", "to start", "cannot", "steps", "a run", "memory", "disk")


class _Planned(NamedTuple):
    """A job that is still to be done, and what it costs."""

    job: Job
    state: RunState
    cost: Cost

    def seconds(self) -> float:
        return self.cost.seconds(self.job.config, self.state.epoch)

    def steps(self) -> int:
        left = self.job.config.epochs - self.state.epoch
        return round(left * self.cost.steps_per_epoch)


def show_forecast(jobs: Sequence[Job], slots: Sequence[Slot], runs: Path) -> None:
    """Prints runs, steps, time, memory and disk, and measures what is not known yet.

    Args:
      jobs: all runs that were asked for.
      slots: where they would go on.
      runs: directory of all runs.

    Raises:
      ValueError: a run cannot be measured, as without its data.
    """
    states = {job.name: job_state(job) for job in jobs}
    todo = [job for job in jobs if states[job.name].kind in (MISSING, STARTED)]
    costs = Costs()
    measured = _measure_missing(todo, slots, costs)
    planned = [
        _Planned(job, states[job.name], cost)
        for job in todo
        if (cost := costs.cost(job.config)) is not None
    ]
    print_list(_rows(jobs, states, planned), _HEAD)
    say(_total(planned, _compiling(jobs, states, planned, measured), len(slots), runs))


def _measure_missing(todo: Sequence[Job], slots: Sequence[Slot], costs: Costs) -> set[str]:
    """Measures a run of each kind that is not known; returns programs that are compiled now."""
    unknown: dict[str, Job] = {}
    for job in todo:
        if costs.cost(job.config) is None:
            unknown.setdefault(kind_of(job.config), job)
    if unknown:
        kinds = "a kind" if len(unknown) == 1 else f"{len(unknown)} kinds"
        say(f"measuring {kinds} of runs, {len(slots)} at once ...")

    def found(job: Job, cost: Cost) -> None:
        costs.keep(job.config, cost)
        say(f"  {job.name}: {1000 * cost.step:.0f} ms a step, {cost.start:.0f} s to start")

    measure(list(unknown.values()), slots, found)
    return {program_of(job.config) for job in unknown.values()}


def _compiling(
    jobs: Sequence[Job],
    states: dict[str, RunState],
    planned: Sequence[_Planned],
    measured: set[str],
) -> dict[str, float]:
    """Seconds that runs take longer because they are the first of their programs."""
    begun = {program_of(job.config) for job in jobs if states[job.name].run is not None}
    first: dict[str, _Planned] = {}
    for each in planned:
        first.setdefault(program_of(each.job.config), each)
    return {
        each.job.name: each.cost.compile
        for program, each in first.items()
        if program not in begun | measured
    }


def _rows(
    jobs: Sequence[Job], states: dict[str, RunState], planned: Sequence[_Planned]
) -> list[tuple[object, ...]]:
    rows = []
    for row in dict.fromkeys(_row(job) for job in jobs):
        kinds = Counter(states[job.name].kind for job in jobs if _row(job) == row)
        count = [kinds.pop(kind, 0) for kind in (DONE, STARTED, MISSING)]
        own = [each for each in planned if _row(each.job) == row]
        costs: list[object] = ["", "", "", ""]
        if own:
            config, cost = own[0].job.config, own[0].cost
            steps = sum(each.steps() for each in own)
            memory, disk = size_text(cost.memory), size_text(cost.disk(config))
            costs = [steps, duration(cost.seconds(config)), memory, disk]
        rows.append((row, *count, kinds.total(), *costs))
    return rows


def _total(planned: Sequence[_Planned], compiling: dict[str, float], slots: int, runs: Path) -> str:
    if not planned:
        return "nothing is left to be done."
    seconds = [each.seconds() + compiling.get(each.job.name, 0.0) for each in planned]
    memory = sorted((each.cost.memory for each in planned), reverse=True)
    disk = sum(each.cost.disk(each.job.config) for each in planned)
    place = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    return (
        f"{len(planned)} runs, {sum(each.steps() for each in planned)} steps:"
        f" about {duration(finished_after(seconds, slots))} with {slots} at once;"
        f" {size_text(sum(memory[:slots]))} of memory ({size_text(free_memory())} free),"
        f" {size_text(disk)} on disk ({size_text(shutil.disk_usage(place).free)} free)"
    )


def _row(job: Job) -> str:
    return job.name.rpartition("/")[0]
