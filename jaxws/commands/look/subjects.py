"""The networks that are looked at, each with its untrained control, and their layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxws.analysis.filters import position_filters
from jaxws.analysis.layer_outputs import layer_names
from jaxws.analysis.untrained import untrained
from jaxws.core.named_leaves import named_leaves
from jaxws.models import Loaded

_WEIGHTS = ("local_kernel", "masked_local_kernel", "kernel")


class Subject(NamedTuple):
    """A network that is looked at.

    Attributes:
      title: what people call it.
      network: with its weights.
      shapes: of all layers' outputs for one image, by name, in the order of computation.
      layers: those to look at.
    """

    title: str
    network: Loaded
    shapes: dict[str, tuple[int, ...]]
    layers: list[str]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, c) of an image."""
        height, width, channels = self.network.info["data"]["image_shape"]
        return height, width, channels

    def filters(self) -> dict[str, np.ndarray]:
        """Those of the layers to look at that have positions in 2-D, see ``position_filters``."""
        positions = {name: shape[:2] for name, shape in self.shapes.items() if len(shape) == 3}
        found = position_filters(self.network.variables, positions)
        return {name: found[name] for name in self.layers if name in found}


def subjects_of(
    networks: Sequence[tuple[str, Loaded]], layers: Sequence[str] | None, seed: int
) -> list[Subject]:
    """Puts controls beside networks; those of one architecture have one in common.

    Args:
      networks: titles and networks.
      layers: to look at; None for those that have weights.
      seed: of the controls.

    Returns:
      All networks, and after them the controls.

    Raises:
      ValueError: a network lacks one of the layers.
    """
    subjects: list[Subject] = []
    controls: dict[object, Subject] = {}
    for title, network in networks:
        image_shape = tuple(network.info["data"]["image_shape"])
        shapes = layer_names(network.model, network.variables, image_shape)
        if unknown := [name for name in layers or () if name not in shapes]:
            raise ValueError(f"{title} has no layer {unknown[0]!r}; there are {', '.join(shapes)}.")
        chosen = list(layers) if layers else _with_weights(network, shapes)
        subject = Subject(title, network, shapes, [name for name in shapes if name in chosen])
        subjects.append(subject)
        controls.setdefault((network.model, image_shape), subject)
    for subject in controls.values():
        which = "" if len(controls) == 1 else f" as {subject.title}"
        title = f"untrained{which}, seed {seed}"
        subjects.append(subject._replace(title=title, network=untrained(subject.network, seed)))
    return subjects


def _with_weights(network: Loaded, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    names = named_leaves(network.variables["params"])
    parts = (name.rpartition("/") for name in names)
    weighted = {path for path, _, leaf in parts if leaf in _WEIGHTS}
    return [name for name in shapes if name in weighted]
