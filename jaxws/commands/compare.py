"""``python -m jaxws compare``: several runs or seeds side by side, in a table and in a figure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from jaxws.commands.arguments import add_json, check_out
from jaxws.paper.matching import published_of
from jaxws.records.comparison import Comparison, Group, compare, mean_and_deviation
from jaxws.records.comparison_plot import plot_comparison
from jaxws.records.run_facts import wall_seconds
from jaxws.records.summary import is_hits, metric_label, metric_number
from jaxws.system.atomic import replacing
from jaxws.system.local_path import path_argument
from jaxws.system.terminal import duration, print_list
from jaxws.system.text import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.epilog = (
        "Runs that differ in no more than their seed are a group: a line with the mean and sample"
        " standard deviation of its scores. Runs that have not ended, and what is no run or"
        " damaged, are named and left out."
    )
    parser.add_argument(
        "workdirs", metavar="WORKDIR", type=path_argument, nargs="+", help="directories of runs"
    )
    parser.add_argument(
        "--epoch",
        type=float,
        metavar="N",
        help="compare scores after this epoch, also of runs that go on; by default at their end",
    )
    parser.add_argument(
        "--metric",
        default="test_top1",
        help="what the figure shows, a name of metrics.jsonl (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=path_argument, metavar="FILE", help="a .png to draw curves over epochs in"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the comparison, and draws it where that is asked for.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0, also if some of the directories were left out, which is told.

    Raises:
      ValueError: no run is left to compare, or no score of them has the metric's name.
    """
    if args.out is not None:
        check_out(args.out, (".png",))
    found = compare(args.workdirs, args.epoch)
    metrics = _metrics(found)
    if args.metric not in metrics:
        raise ValueError(f"--metric={args.metric}: expected one of {', '.join(metrics)}.")
    if args.out is not None:
        with replacing(args.out) as file:
            file.write_bytes(plot_comparison(found.groups, args.metric))
    if args.json:
        print(json.dumps(_as_json(found, metrics), indent=1))
    else:
        _show(found, metrics)
    for path, problem in found.problems.items():
        say(f"{path}: {problem}", error=True)
    if args.out is not None and not args.json:
        say(f"figure: {args.out}")
    return 0


def _metrics(found: Comparison) -> list[str]:
    """Names of all scores, in the order in which runs record them."""
    members = [member for group in found.groups for member in group.members]
    return list(dict.fromkeys(name for member in members for name in member.metrics))


def _show(found: Comparison, metrics: Sequence[str]) -> None:
    head = ["runs", "n", "seeds", "epoch", *map(metric_label, metrics), "wall time"]
    rows = [_row(group, metrics) for group in found.groups]
    papers = [_paper(group) for group in found.groups]
    if any(papers):
        head.append("the paper's top-1")
        rows = [[*row, paper] for row, paper in zip(rows, papers, strict=True)]
    print_list(rows, head)
    if any(len(group.members) > 1 for group in found.groups):
        say("Means over seeds \N{PLUS-MINUS SIGN} sample standard deviations.")


def _row(group: Group, metrics: Sequence[str]) -> list[str]:
    """A group's line of the table."""
    runs = [member.run for member in group.members]
    seeds = ",".join(str(run.config.seed) for run in runs)
    seconds, _ = mean_and_deviation([wall_seconds(run) for run in runs])
    epochs = sorted({member.end["epoch"] for member in group.members})
    reached = " to ".join(f"{epoch:g}" for epoch in dict.fromkeys((epochs[0], epochs[-1])))
    return [
        group.label,
        str(len(runs)),
        seeds,
        reached,
        *_scores(group, metrics),
        duration(seconds),
    ]


def _scores(group: Group, metrics: Sequence[str]) -> list[str]:
    cells = []
    for metric in metrics:
        digits = 2 if is_hits(metric) else 4
        values = [metric_number(metric, value) for value in group.values(metric)]
        numbers = mean_and_deviation(values) if values else ()
        known = [f"{number:.{digits}f}" for number in numbers if number is not None]
        cells.append(" \N{PLUS-MINUS SIGN} ".join(known))
    return cells


def _paper(group: Group) -> str:
    """What the paper has for a configuration that is one of its rows."""
    found = published_of(group.members[0].run.config)
    return "" if found is None else f"{found.top1:.1f}"


def _as_json(found: Comparison, metrics: Sequence[str]) -> dict[str, Any]:
    groups = []
    for group in found.groups:
        scores = {name: values for name in metrics if (values := group.values(name))}
        both = {name: mean_and_deviation(values) for name, values in scores.items()}
        groups.append(
            {
                "label": group.label,
                "fields": dict(group.fields),
                "n": len(group.members),
                "mean": {name: mean for name, (mean, _) in both.items()},
                "standard_deviation": {name: deviation for name, (_, deviation) in both.items()},
                "runs": [
                    {
                        "workdir": str(member.run.path),
                        "seed": member.run.config.seed,
                        "epoch": member.end["epoch"],
                        "wall_seconds": wall_seconds(member.run),
                        **member.metrics,
                    }
                    for member in group.members
                ],
            }
        )
    return {"groups": groups, "problems": dict(found.problems)}
