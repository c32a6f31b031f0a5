"""Beyond the paper: accuracy against the number of training images."""

from __future__ import annotations

from jaxws.data.sources.official import OFFICIAL
from jaxws.paper.experiments import PERCENT
from jaxws.paper.figures.amounts import Point, draw_amounts, how_to_read, set_amounts
from jaxws.paper.figures.canvas import Drawing, make_canvas, panels_of
from jaxws.paper.figures.labels import row_line
from jaxws.paper.figures.runs import Runs, caption_of, describe
from jaxws.paper.labels import row_label, title_of
from jaxws.records.lines import label_ends

_ROWS = ("conv", "lc-ws1", "lc-4reps", "lc")


def draw_images(runs: Runs, experiment: str, dataset: str) -> Drawing | None:
    """Draws accuracy over numbers of images.

    Args:
      runs: results.
      experiment: ``'images'``.
      dataset: one of its data sets.

    Returns:
      A picture; None if no run of the experiment itself is finished.
    """
    total = _training_images(runs, dataset)
    lines = {name: _points(runs, experiment, dataset, name, total) for name in _ROWS}
    points = [point for line in lines.values() for point in line]
    if not any(point.row.done for point in points if point.row.name.experiment == experiment):
        return None
    title = title_of(experiment, dataset)
    canvas = make_canvas(title, 4.0)
    (axes,) = panels_of(canvas, 1)
    drawn = {name: draw_amounts(axes, line, **row_line(name)) for name, line in lines.items()}
    ticks = {point.amount: f"{point.amount:,.0f}" for point in points}
    set_amounts(axes, ticks, "training images (logarithmic)")
    ends = {name: line for name, line in drawn.items() if line is not None}
    label_ends(axes, list(ends.values()), [row_label(name) for name in ends])
    rows = [point.row for point in points]
    text = "All train for as many epochs, so in fewer steps with fewer images."
    caption = caption_of(runs.scale, f"{how_to_read(runs)} {text}", rows)
    return Drawing(canvas, f"{title}. {describe(rows)}", caption)


def _points(runs: Runs, experiment: str, dataset: str, name: str, total: float) -> list[Point]:
    """A row with parts of the images, and with all of them, which is a row of Table 5."""
    parts = [
        Point(
            total * percent / 100,
            runs.row(experiment, dataset, f"{name}-{percent}pct", f"{row_label(name)} {percent} %"),
        )
        for percent in PERCENT
    ]
    return [*parts, Point(total, runs.row("table5", dataset, name, f"{row_label(name)} 100 %"))]


def _training_images(runs: Runs, dataset: str) -> float:
    """How many images the rows of the scale's Table 5 train on."""
    fields = runs.scale.datasets[dataset]
    return OFFICIAL[fields["data.name"]].images["train"] * fields.get("data.train_fraction", 1.0)
