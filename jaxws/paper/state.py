"""How far a run of a row has come, as its directory tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.config.fields import flat_fields
from jaxws.config.identity import FREE_FIELDS
from jaxws.records.run_directory import RunDirectory, read_run
from jaxws.records.run_facts import is_complete, reached_epoch

MISSING, STARTED, DONE, DIVERGED = "missing", "started", "done", "diverged"
OTHER, DAMAGED = "other", "damaged"
KINDS = (MISSING, STARTED, DONE, DIVERGED, OTHER, DAMAGED)
# What a run may differ in and still be of its row: how fast its numbers are computed, and with
# which precision, which reports tell.
MAY_DIFFER = (*FREE_FIELDS, "accumulate", "model.dtype", "log_every", "model.init_from")
RATES = ("optimizer.learning_rate", "optimizer.weight_decay")


class RunState(NamedTuple):
    """What there is of a run.

    Attributes:
      kind: ``'missing'``, ``'started'``, ``'done'``, ``'diverged'``, ``'other'`` (its directory
        holds another run) or ``'damaged'``.
      epoch: that it has reached; 0.0 if none is over.
      epochs: that it shall have; 0 if that is not known.
      note: in a few words, why it is ``'other'`` or ``'damaged'``, or what diverged; else empty.
      run: what its directory holds; None where that is missing or cannot be read.
      changes: fields in which it differs from its row and may: rates, dtype.
    """

    kind: str
    epoch: float = 0.0
    epochs: int = 0
    note: str = ""
    run: RunDirectory | None = None
    changes: Mapping[str, Any] = {}


def run_state(workdir: Path, config: ConfigDict, starts_from: object = None) -> RunState:
    """Looks at the directory of a run, which may be going on.

    Args:
      workdir: the directory.
      config: of the run's row, see :func:`jaxws.paper.configs.row_config`.
      starts_from: the run whose network it starts from, if it does.

    Returns:
      Its state; never raises for what is in the directory.

    Example:
      >>> from jaxws.paper.configs import row_config
      >>> run_state(Path("nowhere"), row_config("table5/cifar10/lc")).kind
      'missing'
    """
    try:
        if not workdir.exists() or (workdir.is_dir() and not any(workdir.iterdir())):
            return RunState(MISSING)
        if not (workdir / "config.json").exists() and not (workdir / "metrics.jsonl").exists():
            return RunState(MISSING, note="has no config.json yet")
        run = read_run(workdir)
    except (ValueError, OSError) as error:
        return RunState(DAMAGED, note=str(error))
    changes = _changes(config, run.config)
    if wrong := [key for key in changes if key not in (*MAY_DIFFER, *RATES)]:
        key = wrong[0]
        there, here = changes[key], dict(flat_fields(config)).get(key)
        return RunState(
            OTHER, note=f"config.{key} is {there!r} there, {here!r} in the row", run=run
        )
    if why := _starts_otherwise(starts_from, run.config.model.init_from):
        return RunState(OTHER, note=why, run=run)
    told = {key: value for key, value in changes.items() if key not in FREE_FIELDS}
    kind, note = STARTED, ""
    if is_complete(run):
        kind = DONE
    elif run.records and run.records[-1].get("event") == DIVERGED:
        kind, note = DIVERGED, run.records[-1].get("message", "")
    return RunState(kind, reached_epoch(run), run.config.epochs, note, run, told)


def is_done(workdir: Path) -> bool:
    """Whether a run has reached the end that its own configuration says.

    Args:
      workdir: its directory, which may be missing.

    Returns:
      True or False; never raises for what is in the directory.

    Example:
      >>> is_done(Path("nowhere"))
      False
    """
    try:
        return is_complete(read_run(workdir))
    except (ValueError, OSError):
        return False


def _starts_otherwise(expected: object, given: str | None) -> str:
    """Where a run starts from says no more than whether: the path is another on each machine."""
    if bool(given) == bool(expected):
        return ""
    if given:
        return "starts from weights of another run (config.model.init_from), the row does not"
    return f"starts from new weights, the row from those of {expected}"


def _changes(row: ConfigDict, run: ConfigDict) -> dict[str, Any]:
    """What a run's configuration has in place of the row's, the seed included."""
    expected = {key: _plain(value) for key, value in flat_fields(row)}
    found = {key: _plain(value) for key, value in flat_fields(run)}
    keys = expected.keys() | found.keys()
    return {key: found.get(key) for key in sorted(keys) if expected.get(key) != found.get(key)}


def _plain(value: Any) -> Any:
    """As it is after a way through JSON."""
    return tuple(value) if isinstance(value, (list, tuple)) else value
