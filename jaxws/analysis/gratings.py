"""Orientation tuning: what units respond to gratings of many orientations.

Orientations are those of the bars, counter-clockwise from horizontal as one sees the image, in
[0, 180) degrees: 0 are horizontal bars, 90 vertical ones, 45 those of a slash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from jaxws.analysis.layer_outputs import iter_activations

_ORIENTATIONS = tuple(15.0 * number for number in range(12))  # degrees


class Gratings(NamedTuple):
    """A set of sine gratings that fill the image, the same in all channels.

    Attributes:
      orientations: of the bars, in degrees.
      frequencies: spatial, in cycles per pixel; 0.5 is the most that pixels can show.
      phases: how many, equally spaced over a cycle; an even number of 4 or more.
      mean: of the pixels, in units of the range of pixels [0, 1].
      contrast: amplitude over mean (Michelson), 1 at the most.

    Example:
      >>> gratings = Gratings()
      >>> len(gratings.orientations) * len(gratings.frequencies) * gratings.phases
      384
    """

    orientations: tuple[float, ...] = _ORIENTATIONS
    frequencies: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 3 / 8)
    phases: int = 8
    mean: float = 0.5
    contrast: float = 1.0

    def check(self) -> None:
        """Looks whether responses to these can be told apart.

        Raises:
          ValueError: what is wrong.
        """
        if self.phases < 4 or self.phases % 2:
            raise ValueError(
                f"phases={self.phases}: expected an even number of 4 or more, of which the response"
                " of a linear filter does not depend on its own phase."
            )
        if len(self.orientations) < 3:
            raise ValueError(f"orientations={self.orientations}: expected 3 or more.")
        steps = np.diff(np.sort(self.orientations), append=180 + min(self.orientations))
        if not np.allclose(steps, 180 / len(self.orientations)):
            raise ValueError(
                f"orientations={self.orientations}: expected equal steps over 180 degrees; others"
                " would bias the mean orientation."
            )
        if not self.frequencies or min(self.frequencies) <= 0 or max(self.frequencies) > 0.5:
            raise ValueError(f"frequencies={self.frequencies}: expected some in (0, 0.5].")
        if not 0 < self.contrast <= 1 or not 0 < self.mean <= 0.5:
            raise ValueError(
                f"mean={self.mean}, contrast={self.contrast}: expected a mean in (0, 0.5] and a"
                " contrast in (0, 1]."
            )

    def images(
        self, image_shape: Sequence[int], orientation: float, frequency: float
    ) -> np.ndarray:
        """The gratings of all phases.

        Args:
          image_shape: (H, W, c).
          orientation: in degrees.
          frequency: in cycles per pixel.

        Returns:
          float32 (phases, H, W, c), pixels in [0, 1]. The phase is 0 in the middle of the image.

        Example:
          >>> Gratings(phases=4).images((1, 3, 1), 90.0, 0.25)[0, 0, :, 0].round(6).tolist()
          [0.5, 1.0, 0.5]
        """
        height, width, channels = image_shape
        angle = np.deg2rad(orientation)
        rows = np.arange(height)[:, None] - (height - 1) / 2
        columns = np.arange(width) - (width - 1) / 2
        across = rows * np.cos(angle) + columns * np.sin(angle)
        phases = 2 * np.pi * np.arange(self.phases) / self.phases
        wave = np.cos(2 * np.pi * frequency * across - phases[:, None, None])
        pixels = self.mean * (1 + self.contrast * wave)
        return np.repeat(pixels[..., None], channels, axis=-1).astype(np.float32)

    def blank(self, image_shape: Sequence[int]) -> np.ndarray:
        """The grey image without a grating, as many times as there are phases.

        Args:
          image_shape: (H, W, c).

        Returns:
          float32 (phases, H, W, c).

        Example:
          >>> float(Gratings().blank((2, 2, 1)).max())
          0.5
        """
        return np.full((self.phases, *image_shape), self.mean, np.float32)


def grating_responses(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: Sequence[int],
    layers: Sequence[str],
    gratings: Gratings | None = None,
    *,
    pixel_mean: Any = 0.0,
    pixel_std: Any = 1.0,
) -> dict[str, np.ndarray]:
    """How strongly units respond to gratings.

    A response is what a unit puts out above what it does for the blank grey image, rectified, and
    its root mean square over phases. A linear filter's is half the amplitude with which its output
    changes with the phase, whatever the filter's own phase.

    Args:
      model: a network of Linen, called as ``model(x)``.
      variables: its parameters and statistics.
      image_shape: (H, W, c).
      layers: names, see :func:`jaxws.analysis.layer_names`.
      gratings: to show; all defaults of :class:`Gratings` if None.
      pixel_mean: (c,) of pixels in [0, 1], which the network's normalisation subtracts.
      pixel_std: (c,), by which it divides.

    Returns:
      Arrays (orientations, frequencies, h, w, f), or what else the layer's output has after its
      batch axis, by layer.

    Raises:
      ValueError: gratings that will not do, an unknown layer.

    Example:
      >>> import jaxws
      >>> network = jaxws.models.load("small/conv")
      >>> responses = grating_responses(*network[:2], (24, 24, 1), ["conv1"])
      >>> responses["conv1"].shape
      (12, 4, 24, 24, 8)
    """
    gratings = gratings or Gratings()
    gratings.check()

    def batches() -> Iterator[np.ndarray]:
        yield gratings.blank(image_shape)
        for orientation in gratings.orientations:
            for frequency in gratings.frequencies:
                yield gratings.images(image_shape, orientation, frequency)

    normalised = (
        ((pixels - np.asarray(pixel_mean)) / np.asarray(pixel_std)).astype(np.float32)
        for pixels in batches()
    )
    found = iter_activations(model, variables, normalised, layers)
    blank = {name: each[0] for name, each in next(found).items()}
    strengths: dict[str, list[np.ndarray]] = {name: [] for name in blank}
    for outputs in found:
        for name, each in outputs.items():
            above = np.maximum(each - blank[name], 0)
            strengths[name].append(np.sqrt(np.mean(np.square(above), axis=0)))
    shape = (len(gratings.orientations), len(gratings.frequencies))
    return {
        name: np.stack(each).reshape(*shape, *each[0].shape) for name, each in strengths.items()
    }


class Tuning(NamedTuple):
    """Orientation tuning of units, arrays of the shape of a layer's output for one image.

    Attributes:
      preferred: orientation in degrees, [0, 180); NaN for units that respond to no grating.
      selectivity: 1 - circular variance, from 0 to 1; NaN likewise.
      frequency: in cycles per pixel, at which the tuning was taken: that of the largest response.
      response: the largest one.
    """

    preferred: np.ndarray
    selectivity: np.ndarray
    frequency: np.ndarray
    response: np.ndarray


def orientation_tuning(responses: np.ndarray, gratings: Gratings | None = None) -> Tuning:
    """Preferred orientation and selectivity, by the vector sum over doubled angles.

    At the spatial frequency of a unit's largest response, with r(theta) for its orientations:
    z = sum r exp(2 i theta) / sum r. The preferred orientation is half the angle of z, and its
    modulus is 1 minus the circular variance (Ringach, Shapley and Hawken, 2002).

    Args:
      responses: (orientations, frequencies, ...), of :func:`grating_responses`.
      gratings: that were shown; all defaults if None.

    Returns:
      The tuning.

    Raises:
      ValueError: other numbers of orientations and frequencies than of the gratings.

    Example:
      >>> gratings = Gratings(frequencies=(0.25,))
      >>> angles = np.deg2rad(np.array(gratings.orientations))
      >>> tuning = orientation_tuning(1 + np.cos(2 * (angles - np.pi / 5))[:, None], gratings)
      >>> float(tuning.preferred.round(3)), float(tuning.selectivity.round(3))
      (36.0, 0.5)
    """
    gratings = gratings or Gratings()
    responses = np.asarray(responses, np.float64)
    expected = (len(gratings.orientations), len(gratings.frequencies))
    if responses.shape[:2] != expected:
        raise ValueError(f"responses have shape {responses.shape}: expected {expected} first.")
    best = responses.max(axis=0).argmax(axis=0)
    curves = np.take_along_axis(responses, best[None, None], axis=1)[:, 0]
    total, largest = curves.sum(axis=0), curves.max(axis=0)
    turns = np.exp(2j * np.deg2rad(np.array(gratings.orientations)))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.tensordot(turns, curves, axes=1) / total
    preferred = np.rad2deg(np.angle(mean)) / 2 % 180
    preferred = np.where(preferred >= 180, 0.0, preferred)  # -1e-16 % 180 is 180
    return Tuning(
        np.where(total > 0, preferred, np.nan),
        np.where(total > 0, np.abs(mean), np.nan),
        np.asarray(gratings.frequencies)[best],
        largest,
    )
