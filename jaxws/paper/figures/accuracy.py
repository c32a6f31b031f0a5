"""The accuracies of a table: each run, their means, and the paper's numbers or its order."""

from __future__ import annotations

from jaxws.paper.experiments import experiment_rows
from jaxws.paper.figures.canvas import Drawing, make_canvas, panels_of
from jaxws.paper.figures.dots import ROW_HEIGHT, draw_dots, rank
from jaxws.paper.figures.runs import Runs, caption_of, describe
from jaxws.paper.labels import DATASETS, title_of
from jaxws.paper.tables import RUNS, find_published

_READ = "A dot for each run, a bar at their mean."
_PAPER = "Diamonds are the paper's numbers"
_SPREAD = "; lines through them are as long as its largest minus its smallest of {} runs"
_ORDER = "Places are among the rows that have a finished run; the paper's are of {}."


def draw_accuracy(runs: Runs, experiment: str, dataset: str) -> Drawing | None:
    """Draws a table.

    Args:
      runs: results.
      experiment: a table.
      dataset: one of its data sets.

    Returns:
      A picture; None if no run is finished.
    """
    scale = runs.scale
    names = [row.name for row in experiment_rows(scale.name, experiment, dataset)]
    rows = [runs.row(experiment, dataset, name) for name in names]
    if not any(row.done for row in rows):
        return None
    title = title_of(experiment, dataset)
    canvas = make_canvas(title, 1.2 + ROW_HEIGHT * len(rows))
    (axes,) = panels_of(canvas, 1)
    if scale.is_paper:
        spread = _SPREAD.format(RUNS[experiment]) if RUNS[experiment] > 1 else ""
        ranks, read = [], f"{_READ} {_PAPER}{spread}."
    else:
        lines = [find_published(experiment, "cifar10", row.name.row) for row in rows]
        both = zip(lines, rows, strict=True)
        ranks = rank([line.top1 if line and row.done else None for line, row in both])
        read = f"{_READ} {_ORDER.format(DATASETS['cifar10'])}"
    draw_dots(axes, rows, ranks)
    alt = f"{title}. {describe(rows)}"
    return Drawing(canvas, alt, caption_of(scale, read, rows))
