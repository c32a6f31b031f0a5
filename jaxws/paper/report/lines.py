"""The lines of a table: runs of a row that may be averaged, and the paper's numbers beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxws.paper.configs import usual_rates
from jaxws.paper.names import RunName
from jaxws.paper.published_results import changes_text
from jaxws.paper.results import Result
from jaxws.paper.scales import SCALES
from jaxws.paper.state import DONE, RATES
from jaxws.paper.stats import Stats, stats_of
from jaxws.paper.tables import Published, find_published

METRICS = ("top1", "top5")
# What smaller scales, which have no numbers of their own in the paper, are shown beside.
REFERENCE = "cifar10"


class Line(NamedTuple):
    """Runs that differ in nothing but the seed.

    Attributes:
      row: their name, without a seed.
      changes: fields in which all of them differ from the row.
      results: those that are done, by seed; may be none.
    """

    row: RunName
    changes: Mapping[str, Any]
    results: Sequence[Result]

    @property
    def has_usual_rates(self) -> bool:
        """Whether learning rate and weight decay are the row's: the paper's, or the scale's."""
        return not any(key in self.changes for key in RATES)

    @property
    def rates(self) -> str:
        """Learning rate and weight decay, with a star where they are not the row's."""
        usual = {**usual_rates(self.row).fields, **self.row.find().fields}
        used = {key: self.changes.get(key, usual[key]) for key in RATES}
        star = "" if self.has_usual_rates else " *"
        return ", ".join(f"{value:g}" for value in used.values()) + star

    def stats(self, metric: str) -> Stats | None:
        """Accuracies on test images.

        Args:
          metric: ``'top1'`` or ``'top5'``.

        Returns:
          They, in %; None if there are none.
        """
        key = f"test_{metric}"
        return stats_of(100 * r.metrics[key] for r in self.results if key in r.metrics)


class Part(NamedTuple):
    """The rows of an experiment on one data set, all computed alike but for their rates.

    Attributes:
      wanted: numbers of seeds by row, without seeds, in their order; rows of Table 5 that others
        are compared with come first.
      kind: what its runs have that is not in their rows, beside rates, such as
        ``'model.dtype=bfloat16'``; or empty.
      lines: of each row at least one; several where there are runs with other rates.
    """

    wanted: Mapping[RunName, int]
    kind: str
    lines: Sequence[Line]

    @property
    def rows(self) -> list[RunName]:
        """All of them, without seeds."""
        return list(self.wanted)

    def find(self, row: RunName | None) -> Line | None:
        """The line of a row that has most seeds, the first one of equals; None if it has none."""
        lines = [line for line in self.lines if line.row == row and line.results]
        return max(lines, key=lambda line: len(line.results), default=None)


def is_done(result: Result) -> bool:
    """Whether a result counts in a table.

    Args:
      result: any.

    Returns:
      A bool.
    """
    return result.state == DONE and "test_top1" in result.metrics


def make_parts(names: Iterable[RunName], results: Iterable[Result]) -> list[Part]:
    """Sorts the runs of an experiment and data set into lines, mixing none that differ.

    Args:
      names: of the runs that are to be shown, with seeds.
      results: of any runs.

    Returns:
      One part for each kind of run: that of most runs first, in which rows without any are too.
    """
    names = list(names)
    rows = Counter(name.of_row() for name in names)
    kinds: dict[str, list[Result]] = {}
    for result in results:
        if is_done(result) and result.name in names:
            kinds.setdefault(_kind(result), []).append(result)
    largest_first = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    parts = [Part(rows, kind, _lines(rows, found)) for kind, found in largest_first or [("", [])]]
    others = [part._replace(lines=[line for line in part.lines if line.results]) for part in parts]
    return [parts[0], *others[1:]]


def _kind(result: Result) -> str:
    return changes_text({k: v for k, v in result.changes.items() if k not in RATES})


def _lines(rows: Iterable[RunName], results: Sequence[Result]) -> list[Line]:
    lines = []
    for row in rows:
        found: dict[str, list[Result]] = {}
        for result in results:
            if result.name.of_row() == row:
                found.setdefault(changes_text(result.changes), []).append(result)
        lines += [Line(row, runs[0].changes, runs) for _, runs in sorted(found.items())]
        lines += [] if found else [Line(row, {}, [])]
    return lines


def paper_line(row: RunName) -> Published | None:
    """What the paper has of a row: of a smaller scale, its numbers for CIFAR-10.

    Args:
      row: any.

    Returns:
      Its line; None if it has none.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> paper_line(parse_name("small/table5/digits/lc-ws1")).top1
      87.4
    """
    dataset = row.dataset if SCALES[row.scale].is_paper else REFERENCE
    return find_published(row.experiment, dataset, row.row)


def base_row(row: RunName, shown: Iterable[RunName]) -> RunName | None:
    """The convolutional network that a row is compared with: of as many images where that is told.

    Args:
      row: any.
      shown: rows of its table.

    Returns:
      One of them; None if it is not there, or is the row itself.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> rows = [parse_name(f"images/cifar10/{row}-10pct") for row in ("conv", "lc")]
      >>> str(base_row(rows[1], rows))
      'images/cifar10/conv-10pct'
    """
    like = row.find().like
    suffix = row.row.removeprefix(like) if row.row.startswith(f"{like}-") else ""
    found = {name.row: name for name in shown}
    base = found.get(f"conv{suffix}") or found.get("conv")
    return None if base == row else base
