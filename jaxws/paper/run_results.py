"""From the directory of a run to its result, whatever state the directory is in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxws.paper.configs import row_config
from jaxws.paper.names import RunName, parse_name
from jaxws.paper.results import FACTS, Result
from jaxws.paper.state import DAMAGED, MISSING, STARTED, RunState, run_state
from jaxws.records.run_directory import RunDirectory
from jaxws.records.summary import metric_means

# Fields that change no number of a run, or are paths, which differ wherever a run is made.
_UNTOLD = ("log_every", "model.init_from")


def find_runs(runs: Path, rows: Iterable[RunName]) -> list[RunName]:
    """The runs of rows that have a directory, whatever is in it.

    Args:
      runs: directory of all runs, each in one of its name.
      rows: names without seeds.

    Returns:
      Their names.

    Example:
      >>> find_runs(Path("nowhere"), [parse_name("table5/cifar10/lc")])
      []
    """
    found = []
    for row in rows:
        for path in (runs / str(row)).glob("seed*"):
            try:
                found.append(parse_name(f"{row}/{path.name}"))
            except ValueError:  # a directory of somebody's own
                continue
    return found


def read_result(runs: Path, name: RunName) -> Result | None:
    """Reads what there is of a run.

    Args:
      runs: directory of all runs, each in one of its name.
      name: of the run, with its seed.

    Returns:
      Its result; None if nothing is there. Never raises for what is in the directory.

    Example:
      >>> read_result(Path("nowhere"), parse_name("table5/cifar10/lc/seed0")) is None
      True
    """
    workdir = runs / str(name)
    if not workdir.exists():  # most of them; configurations take their time
        return None
    try:
        state = run_state(workdir, row_config(name), name.find().starts_from)
    except OSError as error:  # no right to look
        state = RunState(DAMAGED, note=f"cannot be read: {error.strerror}")
    if state.kind == MISSING and not state.note:
        return None
    run = state.run
    return Result(
        name,
        state.kind,
        _note(state, workdir),
        metrics=_last_metrics(run) if run else {},
        steps=run.records[-1]["step"] if run and run.records else 0,
        seconds=sum(start["seconds"] for start in _starts(run)) if run else 0.0,
        changes={key: value for key, value in state.changes.items() if key not in _UNTOLD},
        facts=_facts(run) if run else {},
        epochs=run.of_kind("epoch") if run else [],
        snr=_snr(run) if run and run.config.sharing.every else [],
        source=str(workdir),
    )


def _note(state: RunState, workdir: Path) -> str:
    if state.kind == STARTED:
        return f"after {state.epoch:g} of {state.epochs} epochs"
    return state.note.replace(f"{workdir.absolute()}/", "").replace(f"{workdir.absolute()} ", "it ")


def _last_metrics(run: RunDirectory) -> dict[str, float]:
    ended = run.of_kind("epoch")
    means = metric_means(ended[-1]) if ended else {}
    return {key: value for key, value in means.items() if value is not None}


def _starts(run: RunDirectory) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.provenance.get("stretches", [])
    return found


def _facts(run: RunDirectory) -> dict[str, str]:
    """Facts of all starts; where they differ, all of them."""
    starts = [_facts_of(start) for start in _starts(run)]
    found = {
        key: " + ".join(dict.fromkeys(start[key] for start in starts if start[key]))
        for key in FACTS
    }
    found["date"] = max((start["date"] for start in starts), default="")
    return found | {"dtype": run.config.model.dtype}


def _facts_of(start: dict[str, Any]) -> dict[str, str]:
    git, machine = start["git"], start["machine"]
    commit = git["commit"][:12] + ("+changes" if git["dirty"] else "") if git else ""
    known = start["versions"] | {"commit": commit, "date": start["started"][:10]}
    known |= {"device": machine["device"], "cores": machine["cores"]}
    return {key: str(known.get(key, "")) for key in FACTS}


def _snr(run: RunDirectory) -> list[tuple[int, dict[str, float]]]:
    found = []
    for record in run.of_kind("train"):
        layers = record.get("neg_log_snr", {})
        if finite := {layer: value for layer, value in layers.items() if value is not None}:
            found.append((record["step"], finite))
    return found
