"""How much alike the filters of two positions are, against their distance, by pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxws.analysis.filters import (
    MOST_PAIRS,
    Distance,
    Pairs,
    position_similarity,
    similarity_by_distance,
)
from jaxws.commands.look.output import Result, finish, make_grid, spread
from jaxws.commands.look.subjects import Subject

_MOST_PANELS = 6
_CURVES = {True: ("same pool", "#d55e00"), False: ("different pools", "#0072b2")}
_COLUMNS = ("network", "layer", "same_pool", "distance", "mean", "p10", "p90", "pairs", "undefined")


def similarity_figure(subjects: Sequence[Subject], seed: int) -> list[Result]:
    """Compares filters within each layer of each network.

    Args:
      subjects: networks and their controls.
      seed: of pairs that are drawn, where there are many.

    Returns:
      The figure; none if no layer has several positions in 2-D.
    """
    rows: list[tuple[Any, ...]] = []
    summary: list[dict[str, Any]] = []
    curves: dict[tuple[str, str], list[Distance]] = {}
    sampled = False
    for subject in subjects:
        for layer, kernel in subject.filters().items():
            if kernel.shape[0] * kernel.shape[1] < 2:
                continue
            pairs = position_similarity(kernel, seed=seed)
            sampled |= pairs.sampled
            curve = curves[subject.title, layer] = similarity_by_distance(pairs)
            rows += [(subject.title, layer, *each) for each in curve]
            summary.append({"network": subject.title, "layer": layer, **_means(pairs)})
    if not curves:
        return []
    layers = spread(dict.fromkeys(layer for _, layer in curves), _MOST_PANELS)
    titles = [subject.title for subject in subjects]
    figure, axes = make_grid(titles, layers, panel=(1.9, 1.7), sharey=True, sharex="col")
    for title, panels in zip(titles, axes, strict=True):
        for layer, panel in zip(layers, panels, strict=True):
            _draw(panel, curves.get((title, layer), []))
    for panel in axes[-1]:
        panel.set_xlabel("distance (positions)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    note = (
        "Cosine of two positions' filters of one feature: mean, and 10th to 90th percentile over"
        " pairs and features, at whole distances. A pool of the grid is every k-th position of a"
        " kernel of k."
    )
    if sampled:
        note += f" Layers with more than {MOST_PAIRS:,} pairs: so many drawn, half of them within"
        note += f" pools, seed {seed}."
    finish(figure, "Similarity of filters", note)
    return [Result("similarity", figure, _COLUMNS, rows, summary)]


def _means(pairs: Pairs) -> dict[str, float | None]:
    """Over all pairs within pools, and between them; None where there are none."""
    found: dict[str, float | None] = {}
    for same, name in ((True, "same_pool"), (False, "different_pools")):
        values = pairs.similarity[pairs.same_pool == same]
        values = values[np.isfinite(values)]
        found[name] = float(values.mean()) if values.size else None
    return found


def _draw(axes: Axes, curve: Sequence[Distance]) -> None:
    for same, (label, colour) in _CURVES.items():
        points = [each for each in curve if each.same_pool == same]
        x = [each.distance for each in points]
        low, high = [each.low for each in points], [each.high for each in points]
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(x, [each.mean for each in points], ".-", color=colour, ms=3, lw=1, label=label)
    axes.set_ylim(-1.05, 1.05)
    axes.axhline(0, color="0.6", lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
