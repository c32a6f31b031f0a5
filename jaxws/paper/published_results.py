"""Results as somebody published them: a directory of CSV files, one of them with a line per run.

- ``runs.csv``: a line per run that is over, with what its last epoch came to (accuracies are parts
  of 1), how long it took, what it has other than its row, and where it was made.
- ``epochs.csv``: losses and accuracies after each epoch.
- ``snr.csv``: -log SNR of each layer before sharing, a column per layer, at about
  ``SNR_POINTS`` steps of a run, evenly spaced; of runs whose curves are drawn, see
  :func:`jaxws.paper.publishing.has_curve`.
- ``searches.csv``: see :mod:`jaxws.paper.search`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxws.paper.csv_tables import Line, Tell, read_table
from jaxws.paper.names import RunName, parse_name
from jaxws.paper.results import FACTS, Result
from jaxws.paper.state import DAMAGED, DIVERGED, DONE

RUNS, EPOCHS, SNR = "runs.csv", "epochs.csv", "snr.csv"
SNR_POINTS = 100
METRICS = ("train_loss", "train_top1", "train_top5", "test_loss", "test_top1", "test_top5")
# What lines of a file begin with: together they tell a line from others.
KEYS = {RUNS: ("name",), EPOCHS: ("name", "epoch"), SNR: ("name", "step")}
COLUMNS = {
    RUNS: ("name", "state", "note", *METRICS, "steps", "seconds", "changes", *FACTS),
    EPOCHS: ("name", "epoch", "step", *METRICS),
}
_NEEDED = {RUNS: ("name", "state"), EPOCHS: ("name", "epoch", "step"), SNR: ("name", "step")}
_OVER = (DONE, DIVERGED)


def is_published(directory: Path) -> bool:
    """Whether a directory holds published results.

    Args:
      directory: any.

    Returns:
      A bool.

    Example:
      >>> is_published(Path("nowhere"))
      False
    """
    return (directory / RUNS).exists()


def read_published(directory: Path, tell: Tell) -> list[Result]:
    """Reads published results.

    Args:
      directory: of the CSV files.
      tell: takes what is wrong with a line, which is left out; a run whose numbers cannot be read
        is there as a damaged one.

    Returns:
      The results, in the order of the file.
    """
    epochs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in _lines(directory, EPOCHS, tell):
        _take(epochs, line, lambda cells: {"kind": "epoch", **_epoch(cells)}, tell)
    snr: dict[str, list[tuple[int, Mapping[str, float]]]] = defaultdict(list)
    for line in _lines(directory, SNR, tell):
        _take(snr, line, _layers, tell)
    found: dict[RunName, Result] = {}
    for line in _lines(directory, RUNS, tell):
        try:
            name = _run_name(line.cells["name"])
        except ValueError as error:
            tell(f"{line.where}: {error}")
            continue
        if name in found:
            tell(f"{line.where}: {name} comes twice; the first line counts")
            continue
        curves = epochs[str(name)], snr[str(name)]
        result = _result(name, line, *curves, source=str(directory / RUNS))
        if result.state == DAMAGED:
            tell(result.note)
        found[name] = result
    return list(found.values())


def _lines(directory: Path, file: str, tell: Tell) -> list[Line]:
    return list(read_table(directory / file, _NEEDED[file], tell))


def _take(found: Any, line: Line, read: Any, tell: Tell) -> None:
    try:
        found[str(_run_name(line.cells["name"]))].append(read(line.cells))
    except ValueError as error:
        tell(f"{line.where}: {error}")


def _run_name(text: str) -> RunName:
    name = parse_name(text)
    if name.seed is None:
        raise ValueError(f"{text!r} is the name of a row, expected that of a run, with its seed")
    return name


def _result(name: RunName, line: Line, epochs: Any, snr: Any, source: str) -> Result:
    cells = line.cells
    facts = {key: cells.get(key, "") for key in FACTS}
    try:
        if (state := cells["state"]) not in _OVER:
            raise ValueError(f"state {state!r}: expected one of {', '.join(_OVER)}")
        return Result(
            name,
            state,
            cells.get("note", ""),
            metrics=_numbers(cells, METRICS),
            steps=_whole(cells, "steps"),
            seconds=_numbers(cells, ["seconds"]).get("seconds", 0.0),
            changes=_changes(cells.get("changes", "")),
            facts=facts,
            epochs=sorted(epochs, key=lambda record: record["step"]),
            snr=sorted(snr, key=lambda point: point[0]),
            source=source,
        )
    except ValueError as error:
        note = f"{line.where}: {error}"
        return Result(name, DAMAGED, note, {}, 0, 0.0, {}, facts, [], [], source)


def _epoch(cells: Mapping[str, str]) -> dict[str, Any]:
    (epoch,) = _numbers(cells, ["epoch"]).values() or (math.nan,)
    if not epoch > 0:
        raise ValueError(f"epoch is {cells['epoch']!r}, expected a number above 0")
    means: dict[str, float | None] = dict.fromkeys(key for key in METRICS if key in cells)
    return {"epoch": epoch, "step": _whole(cells, "step"), **means, **_numbers(cells, METRICS)}


def _layers(cells: Mapping[str, str]) -> tuple[int, dict[str, float]]:
    layers = [key for key in cells if key not in KEYS[SNR]]
    return _whole(cells, "step"), _numbers(cells, layers)


def _numbers(cells: Mapping[str, str], keys: Any) -> dict[str, float]:
    """Finite numbers of columns that are not empty."""
    found = {}
    for key in keys:
        if text := cells.get(key, ""):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or (key in METRICS and not _is_mean(key, value)):
                kind = "a part of 1" if key[:-1].endswith("_top") else "a number"
                raise ValueError(f"{key} is {text!r}, expected {kind}")
            found[key] = value
    return found


def _is_mean(metric: str, value: float) -> bool:
    return 0 <= value <= 1 if metric[:-1].endswith("_top") else value >= 0


def _whole(cells: Mapping[str, str], key: str) -> int:
    text = cells.get(key, "")
    if not text.isdecimal():
        raise ValueError(f"{key} is {text!r}, expected a whole number")
    return int(text)


def changes_text(changes: Mapping[str, Any]) -> str:
    """Changed fields as they stand in ``runs.csv``.

    Args:
      changes: see :attr:`jaxws.paper.results.Result.changes`.

    Returns:
      Text that is read back.

    Example:
      >>> changes_text({"optimizer.learning_rate": 1e-3, "model.dtype": "bfloat16"})
      'model.dtype=bfloat16 optimizer.learning_rate=0.001'
    """
    return " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in sorted(changes.items())
    )


def _changes(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split():
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise ValueError(f"changes has {part!r}, expected FIELD=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
