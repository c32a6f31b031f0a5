"""The filters of a layer, each drawn at the place of its neuron in the visual field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxws.commands.look.output import Result, bare, file_name, finish, make_grid
from jaxws.commands.look.subjects import Subject

_MOST = 32  # positions along an axis that are drawn
_BETWEEN = (0.7, 0.82, 1.0)  # a colour that no grey filter has


def filters_figures(
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
    kernels = [(subject, subject.filters()) for subject in subjects]
    return [
        _figure(name, [(s, found[name]) for s, found in kernels if name in found], features)
        for name in layers
        if any(name in found for _, found in kernels)
    ]


def _figure(layer: str, kernels: Sequence[tuple[Subject, np.ndarray]], features: int) -> Result:
    count = min(features, *(kernel.shape[-1] for _, kernel in kernels))
    titles = [subject.title for subject, _ in kernels]
    columns = [f"feature {feature}" for feature in range(count)]
    figure, axes = make_grid(titles, columns, panel=(2.6, 2.4))
    rows: list[tuple[Any, ...]] = []
    steps, notes = set(), set()
    for (subject, kernel), panels in zip(kernels, axes, strict=True):
        step = drawn_step(kernel.shape)
        steps.add(step)
        for feature, panel in enumerate(panels):
            filters = kernel[:: step[0], :: step[1], ..., feature]
            channels, filters = _shown(filters)
            if channels is not None:
                notes.add("of many channels, the one of the largest weights is drawn, by number")
                panel.set_xlabel(f"channel {channels}", fontsize=7)
            panel.imshow(mosaic(filters), interpolation="nearest")
            bare(panel)
            places = np.ndindex(filters.shape)
            first = channels or 0
            rows += [
                (subject.title, feature, h * step[0], w * step[1], i, j, first + c, float(value))
                for (h, w, i, j, c), value in zip(places, filters.ravel(), strict=True)
            ]
    for down, across in steps - {(1, 1)}:
        notes.add(f"every {down} x {across}th position is drawn")
    note = "; ".join(
        [
            "One patch per position, at its place; mid-grey is 0, scaled to the largest weight of"
            " each panel",
            *sorted(notes),
        ]
    )
    finish(figure, f"Filters of {layer or 'the layer'} over the visual field", f"{note}.")
    names = ("network", "feature", "h", "w", "i", "j", "channel", "weight")
    return Result(file_name("filters", layer), figure, names, rows, [])


def drawn_step(shape: Sequence[int]) -> tuple[int, int]:
    """Which positions of a large layer are drawn: every n-th, and of all pools in turn.

    Args:
      shape: (h, w, i, j, c, f).

    Returns:
      A step along each axis, without a common divisor with the kernel's size there.

    Example:
      >>> drawn_step((24, 24, 3, 3, 1, 8)), drawn_step((112, 96, 7, 3, 3, 32))
      ((1, 1), (4, 4))
    """
    steps = []
    for positions, period in zip(shape[:2], shape[2:4], strict=True):
        step = -(-positions // _MOST)
        while math.gcd(step, period) > 1:
            step += 1
        steps.append(step)
    return steps[0], steps[1]


def _shown(filters: np.ndarray) -> tuple[int | None, np.ndarray]:
    """Filters (h, w, i, j, c) of 1 or 3 channels; of others the one with the largest weights."""
    if filters.shape[-1] in (1, 3):
        return None, filters
    channel = int(np.argmax(np.square(filters).sum(axis=(0, 1, 2, 3))))
    return channel, filters[..., channel : channel + 1]


def mosaic(filters: np.ndarray) -> np.ndarray:
    """Puts filters at their places, with a line between them.

    Args:
      filters: (h, w, i, j, c), of 1 or 3 channels.

    Returns:
      RGB (h (i + 1) + 1, w (j + 1) + 1, 3) from 0 to 1, 0.5 for a weight of 0.

    Example:
      >>> mosaic(np.array([-2.0, 1]).reshape(1, 2, 1, 1, 1))[1, :, 2].tolist()
      [1.0, 0.0, 1.0, 0.75, 1.0]
    """
    largest = np.abs(filters).max() or 1.0
    pixels = np.repeat(0.5 + filters / (2 * largest), 3 // filters.shape[-1], axis=-1)
    h, w, i, j, _ = pixels.shape
    padded = np.tile(_BETWEEN, (h, w, i + 1, j + 1, 1))
    padded[:, :, :i, :j] = pixels
    sheet = np.tile(_BETWEEN, (h * (i + 1) + 1, w * (j + 1) + 1, 1))
    sheet[1:, 1:] = padded.transpose(0, 2, 1, 3, 4).reshape(h * (i + 1), w * (j + 1), 3)
    return sheet
