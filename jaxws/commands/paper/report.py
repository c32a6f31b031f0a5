"""``python -m jaxws paper report``: tables and figures of finished runs beside the paper's."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

from jaxws.commands.paper.selection import add_selection, selected
from jaxws.paper.collected import read_results
from jaxws.paper.names import RunName
from jaxws.paper.report.build import build, make_sections, with_companions
from jaxws.paper.report.document import Figure
from jaxws.paper.report.markdown import to_markdown
from jaxws.paper.report.rows_csv import to_csv
from jaxws.paper.report.web_page import to_html
from jaxws.paper.results import Result
from jaxws.paper.scales import SCALES
from jaxws.system.atomic import write_together
from jaxws.system.local_path import path_argument
from jaxws.system.text import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_selection(parser)
    parser.add_argument(
        "--results",
        action="append",
        type=path_argument,
        default=[],
        metavar="DIR",
        help="directory of published results, as paper collect writes them; may be given again",
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="DIR",
        help="directory of report.md, report.html, report.csv and figures (default: report/SCALE"
        " in the directory of --runs)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes a report.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0, also where runs are missing, which the report says.

    Raises:
      ValueError: there is no result at all, or several scales were asked for.
    """
    names = selected(args)
    if len(scales := dict.fromkeys(name.scale for name in names)) > 1:
        raise ValueError(f"a report is of one scale, these are of {' and '.join(scales)}.")
    scale = SCALES[names[0].scale]
    wanted = with_companions(names)
    problems: list[str] = []
    there = [args.runs] if args.runs.is_dir() else []
    rows = list(dict.fromkeys(name.of_row() for name in wanted))
    results = read_results([*there, *args.results], rows, problems.append)
    problems += _other_seeds(results, wanted)
    for problem in problems:
        say(f"warning: {problem}", error=True)
    used = [result for result in results if result.name in set(wanted)]
    if not used:
        places = ", ".join(map(str, [args.runs, *args.results]))
        raise ValueError(
            f"nothing to report: none of the {len(wanted)} runs is in {places}; python -m jaxws"
            " paper run makes them, and --results takes published ones."
        )
    out = args.out or args.runs / "report" / scale.name
    out.mkdir(parents=True, exist_ok=True)
    contents = _contents(names, used, problems)
    write_together({out / name: content for name, content in contents.items()})
    say(f"{out / 'report.html'}, and {', '.join(x for x in contents if x != 'report.html')}")
    return 0


def _contents(
    names: Sequence[RunName], results: Sequence[Result], problems: Sequence[str]
) -> dict[str, bytes]:
    from jaxws.paper.figures import draw_figures

    drawn = draw_figures(results, SCALES[names[0].scale])
    figures = [Figure(f"{name}.png", *figure) for name, figure in drawn.items()]
    document = build(names, results, figures, problems)
    return {
        "report.md": to_markdown(document).encode(),
        "report.html": to_html(document).encode(),
        "report.csv": to_csv(make_sections(names, results)).encode(),
        **{figure.name: figure.png for figure in figures},
    }


def _other_seeds(results: Sequence[Result], wanted: Sequence[RunName]) -> list[str]:
    others: dict[int | None, list[RunName]] = defaultdict(list)
    for result in results:
        if result.name not in set(wanted):
            others[result.name.seed].append(result.name.of_row())
    return [
        f"runs with seed {seed} are there too, of {', '.join(map(str, rows))}; --seeds takes them"
        " into the report"
        for seed, rows in others.items()
    ]
