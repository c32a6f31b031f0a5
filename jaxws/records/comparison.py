"""Several runs side by side: which differ in no more than their seed, and what groups differ in."""

from __future__ import annotations

import json
import math
import statistics
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxws.config.fields import flat_fields
from jaxws.config.identity import CONTENT, FREE_FIELDS, NOTES, place_of_data
from jaxws.records.run_directory import RunDirectory, read_run
from jaxws.records.run_facts import evaluated_epochs, is_complete, reached_epoch
from jaxws.records.summary import metric_means

# What runs of one group may differ in: seeds, and what changes no score or only where files lie.
# That a run was to stop before its last epoch does.
_ALIKE = {"seed", "log_every", "eval_batch_size", *FREE_FIELDS} - {"max_steps"}
_DATA, _START = "data", "model.init_from"


class Member(NamedTuple):
    """A run that counts.

    Attributes:
      run: the run.
      end: record of the epoch at which it is compared.
    """

    run: RunDirectory
    end: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Means over test images by name, as far as they are finite."""
        means = metric_means(self.end, "test_")
        return {name: value for name, value in means.items() if value is not None}


class Group(NamedTuple):
    """Runs that differ in their seeds alone.

    Attributes:
      label: what they differ in from other groups; of a single group, the name of a run.
      fields: the same by name: fields of the configuration, and 'data' where these are others.
      members: the runs, by seed.
    """

    label: str
    fields: Mapping[str, Any]
    members: tuple[Member, ...]

    def values(self, metric: str) -> list[float]:
        """What its runs have reached.

        Args:
          metric: such as ``'test_top1'``.

        Returns:
          A number of each run that has it.
        """
        found = (member.metrics.get(metric) for member in self.members)
        return [value for value in found if value is not None]

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """What its runs had reached after the epochs for which all of them have it.

        Args:
          metric: such as ``'test_top1'``.

        Returns:
          Epochs of shape (e,), and values of shape (runs, e).
        """
        series = [_by_epoch(member, metric) for member in self.members]
        series = [each for each in series if each]
        common = sorted(set.intersection(*map(set, series))) if series else []
        table = np.array([[each[epoch] for epoch in common] for each in series])
        return np.array(common), table.reshape(len(series), len(common))


class Comparison(NamedTuple):
    """What a number of directories can tell.

    Attributes:
      groups: of runs, in the order in which they were given.
      problems: by directory, why it does not count, or what is doubtful about it.
    """

    groups: tuple[Group, ...]
    problems: dict[str, str]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1 degrees of freedom).

    Args:
      values: at least one.

    Returns:
      Both; None for the deviation of a single value.

    Example:
      >>> mean_and_deviation([1.0, 3.0]), mean_and_deviation([2.0])
      ((2.0, 1.4142135623730951), (2.0, None))
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def compare(paths: Iterable[Path], epoch: float | None = None) -> Comparison:
    """Reads runs, which may be going on, and groups those that differ in no more than their seed.

    Args:
      paths: directories of runs; what is no run, damaged or not far enough is told, not raised.
      epoch: after which scores are compared; None for each run's last one, which it must have
        reached.

    Returns:
      Groups and problems.

    Raises:
      ValueError: no run is left to compare.

    Example:
      >>> compare([Path("nowhere")])
      Traceback (most recent call last):
      ValueError: nothing to compare: nowhere: is not a run of jaxws: it does not exist.
    """
    members: list[Member] = []
    problems: dict[str, str] = {}
    runs: list[RunDirectory] = []
    for path in dict.fromkeys(paths):
        try:
            run = read_run(path)
            runs.append(run)
            members.append(_member(run, epoch))
        except (ValueError, OSError) as error:
            problems[str(path)] = _without(path, str(error))
    if not members:
        told = "; ".join(f"{path}: {why}" for path, why in problems.items())
        raise ValueError(f"nothing to compare: {told.rstrip('.')}.{_hint(runs, epoch)}")
    groups = _grouped(members)
    for group in groups:
        for seed, count in Counter(m.run.config.seed for m in group.members).items():
            if count > 1:
                same = [str(m.run.path) for m in group.members if m.run.config.seed == seed]
                problems[", ".join(same)] = f"count as {count} runs, all of seed {seed}"
    return Comparison(groups, problems)


def _without(path: Path, text: str) -> str:
    """A message about what is in a directory, where that has been named."""
    return text.replace(f"{path.absolute()}/", "").removeprefix(f"{path.absolute()} ")


def _member(run: RunDirectory, epoch: float | None) -> Member:
    evaluated = evaluated_epochs(run)
    if epoch is not None:
        for record in evaluated:
            if math.isclose(record["epoch"], epoch):
                return Member(run, record)
        known = ", ".join(f"{record['epoch']:g}" for record in evaluated[-3:])
        why = f"the last are {known}" if known else "none was"
        raise ValueError(f"left out: not evaluated after epoch {epoch:g} ({why})")
    reached, epochs = reached_epoch(run), run.config.epochs
    if not evaluated:
        raise ValueError("left out: no epoch was evaluated yet")
    steps, end = evaluated[-1]["step"], run.config.max_steps
    if not is_complete(run) and not (end and steps >= end):
        last = run.records[-1]
        why = f"; {last['message']}" if last.get("event") == "diverged" else ""
        raise ValueError(f"left out: after {reached:g} of {epochs} epochs{why}")
    return Member(run, evaluated[-1])


def _hint(runs: Sequence[RunDirectory], epoch: float | None) -> str:
    """The last epoch that could be compared instead."""
    evaluated = [{r["epoch"] for r in evaluated_epochs(run)} for run in runs]
    common = set.intersection(*evaluated) if evaluated else set()
    if not common or epoch in common:
        return ""
    return f" --epoch={max(common):g} compares them as they were after that epoch."


def _grouped(members: Sequence[Member]) -> tuple[Group, ...]:
    by_key: dict[str, list[Member]] = {}
    fields_of: dict[str, dict[str, Any]] = {}
    for member in members:
        fields = _identity(member.run)
        key = json.dumps(fields, sort_keys=True, default=str)
        by_key.setdefault(key, []).append(member)
        fields_of[key] = fields
    names = dict.fromkeys(name for fields in fields_of.values() for name in fields)
    differ = [n for n in names if len({json.dumps(f.get(n)) for f in fields_of.values()}) > 1]
    told = [name for name in differ if name != _DATA]
    if any(name.startswith("data.") for name in told) and _tells_apart(told, fields_of.values()):
        differ = told  # other images, for which there is a field
    groups = []
    for key, found in by_key.items():
        fields = {name: fields_of[key].get(name) for name in differ}
        label = ", ".join(f"{name}={_text(value)}" for name, value in fields.items())
        ordered = tuple(sorted(found, key=lambda member: member.run.config.seed))
        groups.append(Group(label or found[0].run.path.name, fields, ordered))
    return tuple(groups)


def _tells_apart(names: Sequence[str], groups: Iterable[Mapping[str, Any]]) -> bool:
    texts = [json.dumps([fields.get(name) for name in names]) for fields in groups]
    return len(set(texts)) == len(texts)


def _identity(run: RunDirectory) -> dict[str, Any]:
    """What tells a run from others: its configuration, and its data by their checksums."""
    given = dict(flat_fields(run.config))
    fields = {name: value for name, value in given.items() if name not in _ALIKE}
    fields[_START] = fields[_START] and "given"  # each seed may start from a network of its own
    left_out = NOTES if CONTENT in run.dataset else None
    facts = {name: value for name, value in run.dataset.items() if name != left_out}
    digest = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    fields[_DATA] = f"{place_of_data(given)} with checksum {digest:08x}"
    return fields


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by_epoch(member: Member, metric: str) -> dict[float, float]:
    return {
        float(record["epoch"]): record[metric]
        for record in evaluated_epochs(member.run)
        if record.get(metric) is not None and record["epoch"] <= member.end["epoch"]
    }
