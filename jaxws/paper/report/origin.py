"""Where the numbers of a report come from: versions, devices, dates, rates, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from jaxws.paper.configs import fixes_rates
from jaxws.paper.labels import name_label
from jaxws.paper.report.document import Block, Heading, Table, Text
from jaxws.paper.report.lines import Line, Part
from jaxws.paper.results import FACTS, Result
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import SOURCES
from jaxws.system.terminal import duration

# By what numbers may differ; dates say nothing.
_TELLING = tuple(fact for fact in FACTS if fact != "date")
_NOT_KNOWN = "not recorded"


def differences(lines: Iterable[Line]) -> Iterator[str]:
    """What the runs of a table were not all made with.

    Args:
      lines: of it.

    Yields:
      For each fact in which they differ, its values and how many runs have them.
    """
    results = [result for line in lines for result in line.results]
    for fact in _TELLING:
        if len(counts := _counts(results, fact)) > 1:
            yield f"{fact}: {_text(counts)}"


def rates_note(part: Part, experiment: str) -> Iterator[str]:
    """Which rows have other rates than the paper's, or their scale's.

    Args:
      part: of an experiment.
      experiment: such as ``'table5'``.

    Yields:
      A sentence, if there are any rows.
    """
    lines = [line for line in part.lines if line.results]
    if not lines:
        return
    changed = list(
        dict.fromkeys(name_label(x.row, experiment) for x in lines if not x.has_usual_rates)
    )
    if SCALES[lines[0].row.scale].is_paper:
        whose = f"those of {SOURCES.get(experiment, SOURCES['table5'])[2]}"
    else:
        whose = "those of the scale"
    is_about_one = any(fixes_rates(line.row) for line in lines)
    own = " or, where the row is about a learning rate, this one" if is_about_one else ""
    starred = f", but for rows with a star, such as searched ones: {', '.join(changed)}"
    yield f"Rates (learning rate, weight decay) are {whose}{own}{starred if changed else ''}."


def footer(results: Sequence[Result]) -> Iterator[Block]:
    """The end of a report.

    Args:
      results: all that count in it.

    Yields:
      A heading, a table and the time that all took.
    """
    yield Heading(2, "Origin")
    rows = []
    for fact in _TELLING:
        rows.append([fact, _text(_counts(results, fact))])
    dates = sorted(r.facts["date"] for r in results if r.facts.get("date"))
    told = dict.fromkeys((dates[0], dates[-1])) if dates else {_NOT_KNOWN: None}
    rows.append(["dates", " to ".join(told)])
    yield Table("What the runs were made with", ["fact", "values"], rows)
    seconds = sum(result.seconds for result in results)
    yield Text(
        f"Wall time of the {len(results)} runs that count: {duration(seconds)}, compilation"
        " included; runs beside each other are summed."
    )


def _counts(results: Sequence[Result], fact: str) -> Counter[str]:
    return Counter(result.facts.get(fact) or _NOT_KNOWN for result in results)


def _text(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({number} runs)" for value, number in sorted(counts.items()))
