"""RDMs of layers, and how much alike they are within networks and between them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxws.analysis.layer_outputs import activations
from jaxws.analysis.rsa import rdm, rdm_similarity
from jaxws.commands.look.output import Result, bare, finish, make_grid, spread
from jaxws.commands.look.stimuli import Stimuli
from jaxws.commands.look.subjects import Subject
from jaxws.system.text import printable

_MOST_PANELS = 6
_PIXELS = ("pixels", "")  # the RDM of the images themselves
_Key = tuple[str, str]


def rsa_figures(subjects: Sequence[Subject], stimuli: Stimuli) -> list[Result]:
    """Draws RDMs, and the matrix of their similarity.

    Args:
      subjects: networks and their controls.
      stimuli: shown to all of them.

    Returns:
      Both figures.

    Raises:
      ValueError: a network takes images of another shape; fewer than 3 images.
    """
    shape = stimuli.pixels.shape[1:]
    if others := [each for each in subjects if each.image_shape != shape]:
        raise ValueError(
            f"{others[0].title} takes images of {others[0].image_shape}, and these are of {shape}:"
            " networks are compared on the same images. Leave it out, or rsa out of --figures."
        )
    if len(stimuli.pixels) < 3:
        raise ValueError(f"rsa of {len(stimuli.pixels)} images: expected 3 or more; --per_class.")
    rdms = {_PIXELS: rdm(stimuli.pixels)}
    for subject in subjects:
        network = subject.network
        images = network.normalise(stimuli.pixels)
        found = activations(network.model, network.variables, images, subject.layers)
        rdms |= {(subject.title, layer): rdm(each) for layer, each in found.items()}
    return [_rdms(subjects, rdms, stimuli), _second_order(rdms, stimuli)]


def _rdms(subjects: Sequence[Subject], rdms: dict[_Key, np.ndarray], stimuli: Stimuli) -> Result:
    layers = spread(dict.fromkeys(layer for s in subjects for layer in s.layers), _MOST_PANELS - 1)
    titles = [subject.title for subject in subjects]
    figure, axes = make_grid(titles, ["pixels", *layers], panel=(1.85, 1.5))
    for title, (first, *panels) in zip(titles, axes, strict=True):
        _draw(first, rdms[_PIXELS])
        for layer, panel in zip(layers, panels, strict=True):
            if (title, layer) in rdms:
                _draw(panel, rdms[title, layer])
            bare(panel)
    for panel in axes[:, 0]:
        _name_classes(panel, stimuli.labels)
    bar = figure.colorbar(axes[0][0].images[0], ax=axes, shrink=0.5, aspect=30)
    bar.set_label("percentile of dissimilarity")
    note = (
        f"{len(stimuli.labels)} images: {stimuli.what}, by class. 1 - Pearson correlation of a"
        " layer's responses to two images; colours are percentiles within each matrix."
    )
    finish(figure, "Representational dissimilarity matrices", note)
    upper = np.triu_indices(len(stimuli.labels), k=1)
    rows: list[tuple[Any, ...]] = [
        (network, layer, *_pair(stimuli.rows, a, b), *_pair(stimuli.labels, a, b), value)
        for (network, layer), matrix in rdms.items()
        for a, b, value in zip(*upper, matrix[upper], strict=True)
    ]
    columns = ("network", "layer", "image_a", "image_b", "class_a", "class_b", "dissimilarity")
    return Result("rdms", figure, columns, rows, [])


def _pair(values: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return values[a], values[b]


def _draw(axes: Axes, matrix: np.ndarray) -> None:
    upper = np.triu_indices(len(matrix), k=1)
    known = np.sort(matrix[upper][np.isfinite(matrix[upper])])
    share = np.searchsorted(known, matrix, side="right") / max(len(known), 1)
    shown = np.where(np.isfinite(matrix), 100 * share, np.nan)
    np.fill_diagonal(shown, np.nan)
    axes.imshow(shown, cmap="viridis", vmin=0, vmax=100, interpolation="nearest")


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    names = list(dict.fromkeys(labels))
    middles = [np.mean([k for k, label in enumerate(labels) if label == name]) for name in names]
    axes.set_xticks([])
    axes.set_yticks(middles, [printable(name)[:8] for name in names], fontsize=5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _second_order(rdms: dict[_Key, np.ndarray], stimuli: Stimuli) -> Result:
    keys = list(rdms)
    similarity = rdm_similarity(list(rdms.values()))
    side = min(max(4.5, 0.2 * len(keys) + 2), 14)
    figure = Figure(figsize=(side + 1.6, side + 0.6))
    axes = figure.subplots()
    image = axes.imshow(similarity, cmap="viridis", vmin=min(0, np.nanmin(similarity)), vmax=1)
    names = [layer or network for network, layer in keys]
    ticks = range(len(keys))
    axes.set_xticks(ticks, [printable(name) for name in names], rotation=90, fontsize=6)
    axes.set_yticks(ticks, [printable(name) for name in names], fontsize=6)
    _between_networks(axes, [network for network, _ in keys])
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("Spearman correlation of RDMs")
    note = (
        f"Between the upper triangles of RDMs of {len(stimuli.labels)} images: {stimuli.what}."
        " White lines separate networks."
    )
    finish(figure, "Second-order similarity of layers", note)
    pairs = [(a, b) for a in ticks for b in ticks if a <= b]
    rows = [(*keys[a], *keys[b], float(similarity[a, b])) for a, b in pairs]
    columns = ("network_a", "layer_a", "network_b", "layer_b", "spearman")
    values = [[None if np.isnan(v) else round(float(v), 6) for v in row] for row in similarity]
    summary = {"networks": [k[0] for k in keys], "layers": [k[1] for k in keys], "spearman": values}
    return Result("rsa", figure, columns, rows, [summary])


def _between_networks(axes: Axes, networks: Sequence[str]) -> None:
    """A line before each network, and its name on the right."""
    starts = [k for k, name in enumerate(networks) if k == 0 or networks[k - 1] != name]
    for start, end in zip(starts, [*starts[1:], len(networks)], strict=True):
        if start:
            axes.axhline(start - 0.5, color="white", lw=1.2)
            axes.axvline(start - 0.5, color="white", lw=1.2)
        if end - start > 1:
            name = textwrap.fill(printable(networks[start]), 4 * (end - start))
            middle = (start + end - 1) / 2
            axes.text(len(networks), middle, name, rotation=270, va="center", fontsize=7)
