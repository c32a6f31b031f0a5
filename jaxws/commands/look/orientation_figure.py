"""Maps of preferred orientation, measured with gratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxws.analysis.gratings import Gratings, Tuning, grating_responses, orientation_tuning
from jaxws.commands.look.output import Result, bare, file_name, finish, make_grid
from jaxws.commands.look.subjects import Subject

_FULL = 0.5  # selectivity from which on a colour is full
_SILENT = 0.35  # grey of units that respond to no grating
_COLUMNS = (
    *("network", "feature", "h", "w", "preferred_deg", "selectivity", "frequency"),
    "response",
)


def orientation_figures(
    subjects: Sequence[Subject], layers: Sequence[str], features: int
) -> list[Result]:
    """Draws a figure for each layer.

    Args:
      subjects: networks and their controls.
      layers: to draw.
      features: how many of each.

    Returns:
      The figures of layers that have positions in 2-D.
    """
    gratings = Gratings()
    tunings: dict[str, list[tuple[str, Tuning]]] = {}
    for subject in subjects:
        shown = [name for name in layers if len(subject.shapes.get(name, ())) == 3]
        if not shown:
            continue
        data = subject.network.info["data"]
        responses = grating_responses(
            subject.network.model,
            subject.network.variables,
            subject.image_shape,
            shown,
            gratings,
            pixel_mean=data["mean"],
            pixel_std=data["std"],
        )
        for name, each in responses.items():
            tuning = orientation_tuning(each, gratings)
            tunings.setdefault(name, []).append((subject.title, tuning))
    return [_figure(name, found, features, gratings) for name, found in tunings.items()]


def _figure(
    layer: str, tunings: Sequence[tuple[str, Tuning]], features: int, gratings: Gratings
) -> Result:
    count = min(features, *(tuning.preferred.shape[-1] for _, tuning in tunings))
    columns = [f"feature {feature}" for feature in range(count)]
    figure, axes = make_grid([title for title, _ in tunings], columns)
    rows: list[tuple[Any, ...]] = []
    summary = []
    for (title, tuning), panels in zip(tunings, axes, strict=True):
        for feature, panel in enumerate(panels):
            selectivity = tuning.selectivity[..., feature]
            panel.imshow(
                colours(tuning.preferred[..., feature], selectivity), interpolation="nearest"
            )
            bare(panel)
            panel.set_xlabel(f"mean selectivity {_mean(selectivity)}", fontsize=7)
        rows += [
            (title, f, h, w, *(float(each[h, w, f]) for each in tuning))
            for h, w, f in np.ndindex(tuning.preferred.shape)
        ]
        heard = np.isfinite(tuning.selectivity)
        summary.append(
            {
                "network": title,
                "layer": layer,
                "mean_selectivity": float(tuning.selectivity[heard].mean())
                if heard.any()
                else None,
                "silent_units": int((~heard).sum()),
                "units": int(heard.size),
            }
        )
    _legend(figure)
    frequencies = ", ".join(f"{each:.3g}" for each in gratings.frequencies)
    note = (
        f"Gratings of {len(gratings.orientations)} orientations,"
        f" {frequencies} cycles per pixel and {gratings.phases} phases, of mean"
        f" {gratings.mean:g} and contrast {gratings.contrast:g} in units of pixels from 0 to 1."
        " Response: root mean square over phases of the rectified output above that for plain"
        " grey. At each unit's best frequency, z = sum r exp(2 i theta) / sum r. Colour: half the"
        " angle of z; paler, down to white: selectivity |z| = 1 - circular variance below"
        f" {_FULL:g}; dark grey: no response."
    )
    finish(figure, f"Preferred orientation, {layer or 'the layer'}", note)
    return Result(file_name("orientation", layer), figure, _COLUMNS, rows, summary)


def _mean(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    return f"{values.mean():.2f}" if values.size else "-"


def colours(preferred: np.ndarray, selectivity: np.ndarray) -> np.ndarray:
    """Colours of orientations, paler where units are less selective.

    Args:
      preferred: in degrees, [0, 180); NaN where there is none.
      selectivity: from 0 to 1, of the same shape.

    Returns:
      RGB, with one more axis.

    Example:
      >>> colours(np.array([0.0, 60, np.nan]), np.array([1.0, 0, np.nan])).tolist()
      [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.35, 0.35, 0.35]]
    """
    is_silent = ~np.isfinite(preferred)
    full = np.asarray(mpl.colormaps["hsv"](np.where(is_silent, 0, preferred) / 180))[..., :3]
    weight = np.clip(np.where(is_silent, 0, selectivity) / _FULL, 0, 1)[..., None]
    return np.where(is_silent[..., None], _SILENT, 1 - weight * (1 - full))


def _legend(figure: Figure) -> None:
    """Bars of all orientations in their colours."""
    bars = []
    for angle in range(0, 180, 30):
        colour: Any = colours(np.array(float(angle)), np.array(1.0))
        # A star of two rays, of which the first points upwards.
        shape: Any = (2, 2, angle - 90)
        style: dict[str, Any] = {"marker": shape, "markersize": 15, "markeredgewidth": 3.5}
        bars.append(Line2D([], [], ls="", color=colour, label=f"{angle}°", **style))
    figure.legend(
        handles=bars, loc="outside upper right", ncols=6, frameon=False, columnspacing=0.8
    )
