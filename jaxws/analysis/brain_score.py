"""A network for Brain-Score: what its ``ActivationsExtractorHelper`` asks of a model.

Nothing of Brain-Score is imported. It keeps images and activations as PyTorch does, (n, c, H, W).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxws.analysis.layer_outputs import activations
from jaxws.core.named_leaves import named_leaves
from jaxws.data.sources.images import UndecodableImageError, decode_image, fit_image
from jaxws.models import Loaded

RESIZE = ("stretch", "crop", "none")


class BrainScoreNetwork(NamedTuple):
    """The arguments of ``ActivationsExtractorHelper``, by its names.

    Attributes:
      get_activations: (images, layer_names) to an ``OrderedDict`` of arrays (n, f, h, w) or (n, f).
      preprocessing: names of image files to float32 (n, c, H, W), normalised.
      identifier: under which Brain-Score keeps activations: of the weights, and of ``resize``.
    """

    get_activations: Callable[[Any, Sequence[str]], OrderedDict[str, np.ndarray]]
    preprocessing: Callable[[Sequence[str]], np.ndarray]
    identifier: str


def brain_score(network: Loaded, *, resize: str) -> BrainScoreNetwork:
    """Makes a network what Brain-Score can ask for activations.

    Args:
      network: of :func:`jaxws.models.load`.
      resize: how images of another size become the network's: ``'stretch'`` takes the whole image,
        whatever its shape; ``'crop'`` resizes its shorter side and cuts out the centre, as in
        training on folders of images (square networks only); ``'none'`` refuses them. Both resize
        bilinearly, antialiased. Colours become grey if the network has one channel, and grey RGB.

    Returns:
      Callables for ``ActivationsExtractorHelper(**found._asdict())``.

    Raises:
      ValueError: an unknown ``resize``, or one that the network's images do not allow. The
        callables raise it for files that are no images, and for unknown layers.

    Example:
      >>> import jaxws
      >>> found = brain_score(jaxws.models.load("small/lc-ws1"), resize="stretch")
      >>> found.identifier
      'jaxws-small-table5-digits-lc-ws1-seed0-7fa2683f-stretch'
      >>> images = np.zeros((2, 1, 24, 24), np.float32)
      >>> found.get_activations(images, ["layer3_0"])["layer3_0"].shape
      (2, 32, 6, 6)
    """
    height, width, channels = network.info["data"]["image_shape"]
    if resize not in RESIZE or (resize == "crop" and height != width):
        raise ValueError(
            f"resize={resize!r}: expected one of {RESIZE}, and 'crop' for square images only; those"
            f" of the network are {height} x {width} pixels."
        )

    def pixels(path: str) -> np.ndarray:
        try:
            image = decode_image(Path(path).read_bytes(), channels)
        except UndecodableImageError as error:
            raise ValueError(f"{path} cannot be decoded: {error}.") from error
        if image.size != (width, height) and resize == "none":
            raise ValueError(
                f"{path}: {image.width} x {image.height} pixels; the network takes {width} x"
                f" {height}: give resize='stretch' or 'crop'."
            )
        if resize == "stretch" and image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return fit_image(image, height if resize == "crop" else None)

    def preprocessing(image_filepaths: Sequence[str]) -> np.ndarray:
        images = network.normalise(np.stack([pixels(path) for path in image_filepaths]))
        return np.moveaxis(np.asarray(images, np.float32), -1, 1)

    def get_activations(images: Any, layer_names: Sequence[str]) -> OrderedDict[str, np.ndarray]:
        x = np.moveaxis(np.asarray(images), 1, -1).astype(network.config.model.dtype)
        found = activations(network.model, network.variables, x, list(layer_names))
        return OrderedDict(
            (name, np.moveaxis(found[name], -1, 1) if found[name].ndim > 3 else found[name])
            for name in layer_names
        )

    return BrainScoreNetwork(get_activations, preprocessing, f"{_identifier(network)}-{resize}")


def _identifier(network: Loaded) -> str:
    """Of the weights, so that activations of others are never taken for theirs."""
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(network.variables).items()):
        digest.update(name.encode() + np.ascontiguousarray(leaf).tobytes())
    name = network.info["name"] or Path(network.info["path"]).stem
    return f"jaxws-{name.replace('/', '-')}-{digest.hexdigest()[:8]}"
