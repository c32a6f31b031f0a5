"""``python -m jaxws paper list``: rows of the paper's tables, and how far their runs are here.

By default a line is a row; where the names leave one row only, it is a run.
"""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Sequence
from typing import Any

from jaxws.commands.arguments import add_json
from jaxws.commands.paper.selection import add_selection, check_runs, selected
from jaxws.paper.configs import published_like
from jaxws.paper.hours import hours_here
from jaxws.paper.names import RunName
from jaxws.paper.progress import RowProgress, RunProgress, look
from jaxws.paper.scales import SCALES
from jaxws.paper.state import DONE, KINDS, MISSING, OTHER
from jaxws.paper.stats import Stats
from jaxws.paper.tables import Published, find_published
from jaxws.system.terminal import print_list
from jaxws.system.text import duration_text, say

ROW_HEAD = ("row", "top-1", "top-5", "spread", "done", "ours", "time")
RUN_HEAD = ("run", "state", "epochs", "top-1", "top-5", "time")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's arguments to a parser."""
    add_selection(parser)
    parser.add_argument(
        "--state",
        type=_kinds,
        metavar="STATE,...",
        help=f"only runs that are {', '.join(KINDS[:-1])} or {KINDS[-1]}, and rows with such ones",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the list.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0, also where there is no run yet, or none in such a state.

    Raises:
      ValueError: nothing is called so, or ``--runs`` is no directory.
    """
    names = selected(args)
    check_runs(args)
    rows = [row for row in look(names, args.runs) if not args.state or set(row.kinds) & args.state]
    if args.json:
        print(json.dumps([_facts(row) for row in rows], indent=1))
    elif not rows:
        say(f"none of the {len(names)} runs in {args.runs} is {' or '.join(sorted(args.state))}.")
    elif len({name.of_row() for name in names}) == 1:
        _print_runs(rows[0], args)
    else:
        _print_rows(rows, args)
    return 0


def _print_rows(rows: Sequence[RowProgress], args: argparse.Namespace) -> None:
    scales = dict.fromkeys(row.name.scale for row in rows)
    for scale in scales:
        if not SCALES[scale].is_paper:
            say(f"{scale}, not the paper's: {SCALES[scale].about}")
    cells = [_row_cells(row) for row in rows]
    _print_without_empty(cells, ROW_HEAD)
    _explain(rows)
    said = {
        "": f"done: of the runs in {args.runs} that were asked for; +1: begun and not done",
        "top-1": "top-1, top-5, spread: the paper's, in %; from the worst top-1 of a row's runs to"
        " the best",
        "ours": "ours: mean top-1 of the runs that are done, after their last epoch",
        "time": "time: of a run on this machine, predicted from steps that were measured here",
    }
    used = {name for column, name in enumerate(ROW_HEAD) if any(row[column] for row in cells)}
    say("\n" + "\n".join(text for name, text in said.items() if not name or name in used))
    if not args.names and args.scale is None:
        others = [f"--scale={scale.name}" for scale in SCALES.values() if not scale.is_paper]
        say(f"{' and '.join(others)} have rows that take minutes to hours on a CPU")


def _row_cells(row: RowProgress) -> tuple[str, ...]:
    paper, ours, kinds = published_row(row), row.score("test_top1"), row.kinds
    done, begun = kinds.count(DONE), len(kinds) - kinds.count(DONE) - kinds.count(MISSING)
    return (
        str(row.name),
        *((_percent(paper.top1), _percent(paper.top5)) if paper else ("", "")),
        _percent(paper.top1_spread if paper else None),
        f"{done}{f'+{begun}' if begun else ''}/{len(kinds)}",
        _percent(ours.mean if ours else None),
        _time(row.name),
    )


def _print_runs(row: RowProgress, args: argparse.Namespace) -> None:
    if not (scale := SCALES[row.name.scale]).is_paper:
        say(f"{scale.name}, not the paper's: {scale.about}")
    shown = [each for each in row.runs if not args.state or each.state.kind in args.state]
    has_top5 = published_like(row.name).top5 is not None
    _print_without_empty([_run_cells(each, has_top5) for each in shown], RUN_HEAD)
    _explain([row._replace(runs=shown)])
    for each in shown:
        if changes := ", ".join(f"{key}={value!r}" for key, value in each.state.changes.items()):
            say(f"{each.name} has {changes}, other than its row")
    say(f"\nruns in {args.runs}; python -m jaxws paper show {row.name} has what the paper says")


def _run_cells(each: RunProgress, has_top5: bool) -> tuple[str, ...]:
    state = each.state
    return (
        str(each.name),
        state.kind,
        f"{state.epoch:g}/{state.epochs}" if state.epochs else "",
        _percent(each.score("test_top1"), 2),
        _percent(each.score("test_top5"), 2) if has_top5 else "",
        _time(each.name),
    )


def published_row(row: RowProgress) -> Published | None:
    """What the paper has for a row at its own scale."""
    name = row.name
    is_paper = SCALES[name.scale].is_paper
    return find_published(name.experiment, name.dataset, name.row) if is_paper else None


def _explain(rows: Sequence[RowProgress]) -> None:
    """Says what is wrong with runs that will not go on by themselves, or are slightly others."""
    for each in (run for row in rows for run in row.runs):
        if each.state.note:
            kind = "another run" if each.state.kind == OTHER else each.state.kind
            say(f"{each.name} is {kind}: {each.state.note}")


def _print_without_empty(cells: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    """Leaves out columns that say nothing."""
    kept = [column for column in range(len(head)) if any(row[column] for row in cells)]
    print_list([[row[column] for column in kept] for row in cells], [head[c] for c in kept])


def _percent(score: float | None, digits: int = 1) -> str:
    return "" if score is None else f"{score:.{digits}f}"


def _time(name: RunName) -> str:
    hours = hours_here(name)
    return "" if hours is None else duration_text(hours)


def _facts(row: RowProgress) -> dict[str, Any]:
    """A row for ``--json``; scores are in %."""
    paper, scale = published_row(row), SCALES[row.name.scale]
    scores = {name: row.score(f"test_{name}") for name in ("top1", "top5")}
    ours = {name: _score_facts(score) for name, score in scores.items() if score}
    return {
        "name": str(row.name),
        "scale": scale.name,
        "not_the_papers": None if scale.is_paper else scale.about,
        "paper": paper._asdict() if paper else None,
        "ours": ours or None,
        "hours_of_a_run": hours_here(row.name),
        "runs": [_run_facts(each) for each in row.runs],
    }


def _run_facts(each: RunProgress) -> dict[str, Any]:
    state = each.state
    return {
        "name": str(each.name),
        "state": state.kind,
        "note": state.note,
        "epoch": state.epoch,
        "epochs": state.epochs,
        "changes": dict(state.changes),
        "top1": each.score("test_top1"),
        "top5": each.score("test_top5"),
    }


def _kinds(text: str) -> frozenset[str]:
    """Reads ``'started,done'``."""
    for kind in text.split(","):
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(KINDS)}"
            raise argparse.ArgumentTypeError(f"{kind!r}: {hint}")
    return frozenset(text.split(","))


def _score_facts(score: Stats) -> dict[str, float | None]:
    spread = score.spread if score.n > 1 else None
    return {"mean": score.mean, "spread": spread, "runs": score.n}
