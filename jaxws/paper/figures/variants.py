"""Beyond the paper: ways to share weights, and to start, beside the rows they are held against."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from jaxws.paper.experiments import experiment_rows
from jaxws.paper.figures.canvas import Drawing, make_canvas, panels_of
from jaxws.paper.figures.curves import READ, draw_epochs, without_curves
from jaxws.paper.figures.dots import ROW_HEIGHT, draw_dots
from jaxws.paper.figures.runs import Runs, caption_of, describe
from jaxws.paper.labels import title_of

# What each row is called in its figure, from the top; those that the experiment lacks are of
# Table 5.
_ROWS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "pools": {
            "conv": "conv",
            "lc-ws1": "ws(1), k x k grids",
            "lc-ws1-global": "ws(1), all positions",
            "lc": "LC",
        },
        "modes": {
            "lc-ws1": "instant",
            "lc-ws1-sleep": "sleep",
            "lc-ws1-online": "online",
            "lc": "never (LC)",
        },
        "untied": {
            "conv": "conv",
            "lc-from-conv": "LC, from conv",
            "lc-ws1-from-conv": "ws(1), from conv",
            "lc-ws1": "ws(1)",
            "lc": "LC",
        },
        "longer": {
            "conv": "conv",
            "conv-4x": "conv, 4x",
            "lc-ws1": "ws(1)",
            "lc-ws1-4x": "ws(1), 4x",
            "lc-ws10": "ws(10)",
            "lc-ws10-4x": "ws(10), 4x",
            "lc-ws100": "ws(100)",
            "lc-ws100-4x": "ws(100), 4x",
            "lc-4reps": "LC, 4 reps",
            "lc-4x": "LC, 4x",
            "lc": "LC",
        },
    }
)
_WITH_CURVES = ("untied",)  # where the way to the end is what it is about
_ABOUT = MappingProxyType(
    {
        "pools": "Weights are shared after every batch, within each of k x k interleaved grids of"
        " positions, or over all positions of a layer.",
        "modes": "Weights are shared after every batch: at once, as means of their pools; in a"
        " sleep phase of the Hebbian rule on noise; by one step of that rule.",
        "untied": "Networks 'from conv' start as the trained convolutional network of the same"
        " seed, one copy of its filters at each position.",
        "longer": "Networks marked 4x are trained for 4 times as many epochs, which makes as many"
        " steps as 4 reps have.",
    }
)


def draw_variants(runs: Runs, experiment: str, dataset: str) -> Drawing | None:
    """Draws accuracies of an experiment's rows and of those of Table 5, and curves of some.

    Args:
      runs: results.
      experiment: one of pools, modes, untied, longer.
      dataset: one of its data sets.

    Returns:
      A picture; None if no run of the experiment itself is finished.
    """
    own = {row.name for row in experiment_rows(runs.scale.name, experiment, dataset)}
    rows = [
        runs.row(experiment if name in own else "table5", dataset, name, label)
        for name, label in _ROWS[experiment].items()
    ]
    if not any(row.done for row in rows if row.name.row in own):
        return None
    title = title_of(experiment, dataset)
    dots = 0.8 + ROW_HEIGHT * len(rows)
    has_curves = experiment in _WITH_CURVES
    heights = [dots, 2.9] if has_curves else [dots]
    canvas = make_canvas(title, 0.5 + sum(heights))
    panels = panels_of(canvas, len(heights), height_ratios=heights)
    draw_dots(panels[0], rows)
    read = f"{_ABOUT[experiment]} A dot for each run, a bar at their mean."
    if runs.scale.is_paper:
        read += " Diamonds are the paper's means and spreads."
    if has_curves:
        draw_epochs(panels[1], rows)
        panels[1].set_xlabel("epoch")
        read += f" {READ}{without_curves(rows)}"
    alt = f"{title}. {describe(rows)}"
    return Drawing(canvas, alt, caption_of(runs.scale, read, rows))
