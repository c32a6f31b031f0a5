"""Beyond the paper: accuracy against how often weights are shared."""

from __future__ import annotations

import numpy as np

from jaxws.paper.figures.amounts import Point, draw_amounts, how_to_read, set_amounts
from jaxws.paper.figures.canvas import FAINT, SMALL, Drawing, make_canvas, panels_of
from jaxws.paper.figures.labels import row_line
from jaxws.paper.figures.runs import Runs, caption_of, describe
from jaxws.paper.labels import title_of
from jaxws.records.lines import Band, draw_band, label_ends

_EVERY = (1, 2, 5, 10, 20, 50, 100)
_IN_TABLE = (1, 10, 100)  # which are rows of Table 5
_NEVER = 400.0  # where it stands, beyond all others


def draw_frequency(runs: Runs, experiment: str, dataset: str) -> Drawing | None:
    """Draws accuracy over n of ws(n), up to never.

    Args:
      runs: results.
      experiment: ``'frequency'``.
      dataset: one of its data sets.

    Returns:
      A picture; None if no run of the experiment itself is finished.
    """
    points = [
        Point(
            float(every),
            runs.row(
                "table5" if every in _IN_TABLE else experiment,
                dataset,
                f"lc-ws{every}",
                f"ws({every})",
            ),
        )
        for every in _EVERY
    ]
    if not any(point.row.done for point in points if point.row.name.experiment == experiment):
        return None
    never = Point(_NEVER, runs.row("table5", dataset, "lc", "never"))
    conv = runs.row("table5", dataset, "conv")
    title = title_of(experiment, dataset)
    canvas = make_canvas(title, 4.0)
    (axes,) = panels_of(canvas, 1)
    draw_amounts(axes, points, **row_line("lc-ws1"))
    lines = {"LC": draw_amounts(axes, [never], **row_line("lc"))}
    if conv.done:  # it has no n: across the figure
        across = np.array([_EVERY[0] / 1.2, _NEVER * 1.2])
        values = np.array(conv.accuracies)[:, None] * np.ones(2)
        lines["conv"] = draw_band(axes, Band(across, values), **row_line("conv"))
    ticks = {float(every): str(every) for every in _EVERY} | {_NEVER: "never"}
    set_amounts(axes, ticks, "n: weights are shared after every n-th batch (logarithmic)")
    axes.axvline((_EVERY[-1] * _NEVER) ** 0.5, color=FAINT, linewidth=0.8, linestyle=":")
    last = [point for point in points if point.row.done][-1]
    axes.annotate(
        "LC - ws(n)",
        (last.amount, last.row.mean),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
    )
    drawn = {name: line for name, line in lines.items() if line is not None}
    label_ends(axes, list(drawn.values()), list(drawn))
    rows = [*(point.row for point in points), never.row, conv]
    text = "Batches are counted anew in each epoch."
    caption = caption_of(runs.scale, f"{how_to_read(runs)} {text}", rows)
    return Drawing(canvas, f"{title}. {describe(rows)}", caption)
