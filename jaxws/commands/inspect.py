"""``python -m jaxws inspect``: which checkpoints a run has, whether they are whole, how good.

The run may go on meanwhile. Every file of every checkpoint is read, to compare its checksum.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jaxws.checkpointing.directory import steps_in, unrecognised_entries, verify
from jaxws.commands.arguments import add_json, add_workdir, run_of
from jaxws.records.run_directory import RunDirectory
from jaxws.records.run_facts import wall_seconds
from jaxws.records.summary import metric_label, metric_means, metric_text
from jaxws.system.terminal import print_table
from jaxws.system.text import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_workdir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what there is.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0, also if checkpoints are damaged: the listing says so.

    Raises:
      ValueError: there is no run.
    """
    found = inspect(run_of(args))
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        _show(found)
    return 0


def inspect(past: RunDirectory) -> dict[str, Any]:
    """Looks at a run's checkpoints.

    Args:
      past: the run.

    Returns:
      What can be written as JSON: ``checkpoints`` (each with ``step``, ``health``, ``detail``,
      ``bytes``, and ``epoch`` and metrics where an epoch ended at its step), ``other`` names in
      their directory, ``last_step`` recorded, ``epochs``, ``events`` and ``wall_seconds``.
    """
    ends = {record["step"]: record for record in past.of_kind("epoch")}
    epochs = past.of_kind("epoch")
    # Not all epochs are evaluated, and a metric that was added to a run is not in earlier ones.
    metrics = list(dict.fromkeys(name for each in reversed(epochs) for name in metric_means(each)))
    return {
        "workdir": str(past.path),
        "epochs": epochs[-1]["epoch"] if epochs else 0,
        "of_epochs": past.config.epochs,
        "last_step": max((record["step"] for record in past.records), default=0),
        "wall_seconds": wall_seconds(past),
        "checkpoints": [
            found
            for step in steps_in(past.checkpoints)
            if (found := _checkpoint(past.checkpoints / str(step), step, ends.get(step), metrics))
        ],
        "other": unrecognised_entries(past.checkpoints),
        "events": past.of_kind("event"),
    }


def _checkpoint(
    directory: Path, step: int, end: dict[str, Any] | None, metrics: list[str]
) -> dict[str, Any] | None:
    size, health, detail = 0, "unreadable", ""
    try:
        detail = verify(directory)
        health = "damaged" if detail else "good"
        files = [path for path in directory.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    except FileNotFoundError:
        return None  # removed by the run, meanwhile
    except (ValueError, OSError) as error:
        detail = str(error)
    if detail and not directory.exists():
        return None
    found = {
        "step": step,
        "path": str(directory),
        "health": health,
        "detail": detail,
        "bytes": size,
        "epoch": end["epoch"] if end else None,
    }
    return found | {name: (end or {}).get(name) for name in metrics}


def _show(found: dict[str, Any]) -> None:
    say(
        f"{found['workdir']}: {found['epochs']:.4g} of {found['of_epochs']} epochs,"
        f" {found['last_step']} steps recorded"
    )
    metrics = list(metric_means((found["checkpoints"] or [{}])[0], "train_loss", "test_"))
    rows = [
        (
            each["step"],
            _text(each["epoch"], "{:.4g}"),
            *(metric_text(name, each[name], missing="") for name in metrics),
            f"{each['bytes'] / 1e6:.1f}",
            each["health"],
        )
        for each in found["checkpoints"]
    ]
    if rows:
        print_table(rows, head=("step", "epoch", *map(metric_label, metrics), "MB", "health"))
    else:
        say("no checkpoint yet")
    lines = [
        f"step {each['step']} is {each['health']}: {each['detail']}"
        for each in found["checkpoints"]
        if each["detail"]
    ]
    lines += [f"beside them: {name}" for name in found["other"]]
    lines += [f"{e['event']} at step {e['step']}: {e['message']}" for e in found["events"]]
    for line in lines:
        say(line)


def _text(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
