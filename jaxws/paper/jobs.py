"""From names of runs to jobs: what to train where, with which arguments, after what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.config.fields import base_config, flat_fields, unknown_field
from jaxws.config.identity import FREE_FIELDS
from jaxws.paper.configs import fixes_rates, row_config
from jaxws.paper.names import RunName
from jaxws.paper.rows import Rates
from jaxws.paper.state import MAY_DIFFER, OTHER, RunState, run_state

_INIT_FROM = "model.init_from"
# What is set for all runs of a command. Where a run starts from belongs to its row; one that stops
# early is never done.
SETTABLE = tuple(field for field in MAY_DIFFER if field not in (_INIT_FROM, "max_steps"))


class Job(NamedTuple):
    """A run to be trained in a process of its own.

    Attributes:
      name: of the run.
      workdir: its directory.
      arguments: of ``python -m jaxws train``, without ``--workdir``.
      config: what its directory must hold, see :func:`job_state`.
      after: directory of a run whose network it starts from, which must be done first.
    """

    name: str
    workdir: Path
    arguments: tuple[str, ...]
    config: ConfigDict
    after: Path | None = None


def make_job(
    name: RunName, runs: Path, given: Mapping[str, Any] | None = None, rates: Rates | None = None
) -> Job:
    """The job of a run.

    Args:
      name: of the run, with its seed.
      runs: directory of all runs.
      given: values of fields in ``SETTABLE``, see :func:`check_settable`.
      rates: that were searched; None for the usual ones.

    Returns:
      The job.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> job = make_job(parse_name("table5/cifar10/lc/seed3"), Path("runs"), {"mesh.data": 1})
      >>> job.arguments
      ('--config=paper:table5/cifar10/lc/seed3', '--config.mesh.data=1')
      >>> str(job.workdir), job.config.seed
      ('runs/table5/cifar10/lc/seed3', 3)
    """
    fields = dict(given or {})
    if rates is not None and not fixes_rates(name):
        fields |= rates.fields
    after = None
    if (first := name.find().starts_from) is not None:
        after = runs / str(name._replace(experiment="table5", row=first))
        fields[_INIT_FROM] = str(after)
    config = row_config(name)
    config.update_from_flattened_dict(fields)
    arguments = (f"--config=paper:{name}", *(_argument(*item) for item in fields.items()))
    return Job(str(name), runs / str(name), arguments, config, after)


def make_jobs(
    names: Sequence[RunName],
    runs: Path,
    given: Mapping[str, Any] | None = None,
    rates: Callable[[RunName], Rates | None] = lambda name: None,
) -> tuple[Job, ...]:
    """The jobs of runs.

    Args:
      names: of the runs.
      runs: directory of all runs.
      given: values of fields, for all of them.
      rates: what was found for a run, or None for the usual ones.

    Returns:
      A job each, in their order.

    Raises:
      ValueError: a field that tells rows from each other.
    """
    check_settable(given or {})
    return tuple(make_job(name, runs, given, rates(name)) for name in names)


def check_settable(fields: Mapping[str, Any]) -> None:
    """Sees to it that a run with these fields changed is still of its row.

    Args:
      fields: values by dotted name.

    Raises:
      ValueError: one would make another run of it, or is none.

    Example:
      >>> check_settable({"epochs": 3})  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: --config.epochs is what makes a run one of its row: ...
    """
    known = dict(flat_fields(base_config()))
    for field in fields:
        if field not in known:
            raise ValueError(unknown_field(field, known))
        if field not in SETTABLE:
            raise ValueError(
                f"--config.{field} is what makes a run one of its row: leave it out, or train a"
                f" run of your own with python -m jaxws train --config=paper:NAME"
                f" --config.{field}=... --workdir=DIR (here may be set: {', '.join(SETTABLE)})."
            )


def job_state(job: Job) -> RunState:
    """How far a job is.

    Args:
      job: the job.

    Returns:
      As :func:`jaxws.paper.state.run_state`; a run that has another value of a field that the job
      sets is ``'other'``.
    """
    state = run_state(job.workdir, job.config, job.after)
    for field in _fields_set(job):
        if field in state.changes and field != _INIT_FROM:
            there, here = state.changes[field], dict(flat_fields(job.config)).get(field)
            return state._replace(
                kind=OTHER, note=f"config.{field} is {there!r} there and asked to be {here!r}"
            )
    return state


def resume_arguments(state: RunState) -> tuple[str, ...]:
    """What a run goes on with as it began, where that is not what its row says.

    Args:
      state: of the run.

    Returns:
      Arguments of ``train``, to be added to those of the job.

    Example:
      >>> resume_arguments(RunState("started", changes={"model.dtype": "bfloat16"}))
      ('--config.model.dtype=bfloat16',)
    """
    kept = {key: value for key, value in state.changes.items() if key not in FREE_FIELDS}
    return tuple(_argument(key, value) for key, value in kept.items() if value is not None)


def _argument(field: str, value: Any) -> str:
    return f"--config.{field}={value}"


def _fields_set(job: Job) -> list[str]:
    names = [argument.partition("=")[0] for argument in job.arguments]
    return [name.removeprefix("--config.") for name in names if name.startswith("--config.")]
