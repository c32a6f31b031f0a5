"""Builds the report of a scale from results: which tables, in which order, and what is around them.

Nothing in it depends on when or where it is made, so that the same results make the same report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jaxws.paper.experiments import experiment_rows
from jaxws.paper.labels import title_of
from jaxws.paper.names import RunName
from jaxws.paper.report.coverage import Coverage
from jaxws.paper.report.document import (
    Block,
    Code,
    Document,
    Figure,
    Heading,
    Items,
    Text,
)
from jaxws.paper.report.lines import is_done, make_parts
from jaxws.paper.report.origin import differences, footer, rates_note
from jaxws.paper.report.overview import Section, overview
from jaxws.paper.report.tables import part_tables
from jaxws.paper.report.verdicts import ORDER_RULE, RULE
from jaxws.paper.results import Result, sort_key
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import SOURCES


def with_companions(names: Iterable[RunName]) -> tuple[RunName, ...]:
    """The runs of a report: those that are asked for, and what they are compared with.

    Args:
      names: of runs, with seeds, of one scale.

    Returns:
      Names in the order of the paper: with the same seeds also conv of the same table or, of an
      experiment beyond the tables, the rows of Table 5 that its rows are variants of.

    Example:
      >>> from jaxws.paper.names import select
      >>> [str(name) for name in with_companions(select(["pools"], seeds=[0]))]
      ['table5/cifar10/conv/seed0', 'table5/cifar10/lc/seed0', 'table5/cifar10/lc-ws1/seed0',
       'pools/cifar10/lc-ws1-global/seed0']
    """
    found = dict.fromkeys(names)
    for name in list(found):
        found |= dict.fromkeys(row.with_seed(name.seed or 0) for row in _companions(name))
    return tuple(sorted(found, key=sort_key))


def _companions(name: RunName) -> Iterator[RunName]:
    """Rows that a row is shown with, in any order."""
    is_table = name.experiment in SOURCES
    table = name.experiment if is_table else "table5"
    row = name.find()
    wanted = {"conv"} if is_table else {"conv", "lc", row.like, row.starts_from}
    for each in experiment_rows(name.scale, table, name.dataset):
        if each.name in wanted:
            yield name.of_row()._replace(experiment=table, row=each.name)
    if not is_table:
        base = f"conv{name.row.removeprefix(row.like)}"
        for each in experiment_rows(name.scale, name.experiment, name.dataset):
            if each.name == base:
                yield name.of_row()._replace(row=base)


def make_sections(names: Sequence[RunName], results: Sequence[Result]) -> list[Section]:
    """Sorts results into tables.

    Args:
      names: of the runs that were asked for.
      results: of any runs; others than these and their companions are left out.

    Returns:
      A section for each experiment and data set.
    """
    tables: dict[tuple[str, str], list[RunName]] = {}
    for name in names:
        tables.setdefault((name.experiment, name.dataset), []).append(name)
    sections = []
    for (experiment, _), own in tables.items():
        wanted = with_companions(own)
        sections.append(Section(experiment, make_parts(wanted, results)))
    return sections


def build(
    names: Sequence[RunName],
    results: Sequence[Result],
    figures: Sequence[Figure],
    problems: Sequence[str] = (),
) -> Document:
    """Builds a report.

    Args:
      names: of the runs that were asked for, of one scale.
      results: of runs, among which theirs are looked for.
      figures: of these results.
      problems: with where results come from, one line each.

    Returns:
      The report.
    """
    scale = SCALES[names[0].scale]
    wanted = with_companions(names)
    used = [result for result in results if result.name in set(wanted)]
    coverage = Coverage(wanted, used)
    blocks: list[Block] = []
    if scale.is_paper:
        title = "The paper's tables, and ours"
    else:
        title = f"The paper's tables at the scale {scale.name}: not the paper's"
        blocks.append(Text(f"Not the paper's: {scale.about}.", strong=True))
    sections = make_sections(names, results)
    blocks += [Text(coverage.summary()), overview(sections)]
    for section in sections:
        blocks += _section(section)
    blocks += [Heading(2, "Figures"), *figures] if figures else []
    blocks += _gaps(coverage, problems)
    blocks += _how(scale.is_paper)
    blocks += footer([result for result in used if is_done(result)])
    return Document(title, blocks)


def _how(is_paper: bool) -> Iterator[Block]:
    yield Heading(2, "How rows are judged")
    yield Text(
        "Accuracies are those on test images after the last epoch: means over n seeds; spread is"
        " largest minus smallest, Diff the difference to conv with the same data."
    )
    yield from (Text(rule) for rule in ((RULE, ORDER_RULE) if is_paper else (ORDER_RULE,)))


def _section(section: Section) -> Iterator[Block]:
    first = section.parts[0].rows[-1]
    yield Heading(2, title_of(section.experiment, first.dataset))
    if len(section.parts) > 1:
        yield Text("Runs that differ in more than rates are not mixed: each kind has its tables.")
    for part in section.parts:
        yield from part_tables(part, section.experiment)
        yield from map(Text, rates_note(part, section.experiment))
        if told := list(differences(part.lines)):
            yield Text("The runs of this table were not all made with the same:")
            yield Items(told)


def _gaps(coverage: Coverage, problems: Sequence[str]) -> Iterator[Block]:
    not_counted, commands = coverage.not_counted(), coverage.commands()
    if not_counted or commands or problems:
        yield Heading(2, "What is missing")
    if not_counted:
        yield Text("These runs do not count:")
        yield Items([f"{name}: {state}, {why}" for name, state, why in not_counted])
    if commands:
        yield Text("These commands make what is missing, or go on with it where it was stopped:")
        yield Code(commands)
    if problems:
        yield Text("Of the results that this was made from:")
        yield Items(problems)
