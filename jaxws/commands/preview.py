"""``python -m jaxws preview``: a sheet of images, exactly as the network sees them.

The batch is that of a step of training, made by the same functions from the same seed and step, or
the first one of evaluation; normalisation is undone for display.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from jaxws import data
from jaxws.commands.arguments import add_out, check_out
from jaxws.commands.flags import add_config_arguments, config_of
from jaxws.config.checks import check_config
from jaxws.config.fields import images_per_step
from jaxws.core.partitioning import one_device
from jaxws.system.atomic import replacing
from jaxws.system.text import say

_CELL = 96  # pixels of a small image on the sheet, about
_TEXT = 11
_MARGIN = 4


class View(NamedTuple):
    """Images to show.

    Attributes:
      images: uint8 (n, H, W, c).
      labels: names of their classes, n of them.
      title: what they are.
    """

    images: np.ndarray
    labels: list[str]
    title: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_config_arguments(parser)
    add_out(parser, "the sheet to write, a .png")
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="images to train or to test on"
    )
    parser.add_argument(
        "--step", type=int, default=0, help="step of training (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=8, help="rows of images (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=8, help="(default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Writes the sheet.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: what is wrong with the configuration, the data or the arguments.
    """
    check_out(args.out, (".png",))
    for name, minimum in (("rows", 1), ("columns", 1), ("step", 0)):
        if getattr(args, name) < minimum:
            raise ValueError(f"--{name}={getattr(args, name)}: expected {minimum} or more.")
    config, name = config_of(args)
    view = preview(config, args.split, args.step, args.rows * args.columns)
    sheet = draw_sheet(view._replace(title=f"{name}, {view.title}"), args.columns)
    with replacing(args.out) as temporary:
        sheet.save(temporary, format="png", optimize=True)
    say(f"{args.out}: {len(view.images)} images of {view.title}")
    return 0


def preview(config: ConfigDict, split: str, step: int, number: int) -> View:
    """The first images of a batch, with normalisation undone.

    Args:
      config: of a run; no run is started.
      split: ``'train'`` or ``'test'``.
      step: of training, from 0.
      number: how many images to show at most.

    Returns:
      The images, as many as the batch has.

    Raises:
      ValueError: what is wrong with the configuration or the data.
    """
    check_config(config)
    config = config.copy_and_resolve_references()
    config.data.workers = 0  # one batch is not worth starting processes
    feed = data.build_feed(config)
    with one_device():
        batch = _batch(feed, split, step)
    real = np.ones(len(batch.label), bool) if batch.mask is None else np.asarray(batch.mask)
    shown = np.flatnonzero(real)[:number]
    settings = config.data
    size = "x".join(map(str, batch.image.shape[1:3]))
    title = f"{feed.name}: {split} images, {size} pixels, as seen by the network"
    if split == "train":
        title += f" in step {step} (seed {config.seed}, pad {settings.pad}"
        views = f", {settings.n_reps} views of each" if settings.n_reps > 1 else ""
        title += ", flipped" if settings.flip else ""
        title += f"; {images_per_step(config)} images{views})"
    return View(
        images=denormalise(np.asarray(batch.image[shown], np.float32), feed.mean, feed.std),
        labels=[feed.class_names[label] for label in np.asarray(batch.label)[shown]],
        title=title,
    )


def _batch(feed: data.Feed, split: str, step: int) -> data.Batch:
    """The batch as the training loop makes it."""
    if split == "test":
        with closing(feed.eval_inputs()) as inputs:  # type: ignore[type-var]
            return jax.jit(feed.batching.eval_batch)(next(inputs))
    with closing(feed.train_inputs(step)) as inputs:  # type: ignore[type-var]
        return jax.jit(feed.batching.train_batch)(next(inputs), jnp.asarray(step))


def denormalise(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Turns what a network sees into pixels; rounding apart, those that were normalised.

    Args:
      images: float (n, H, W, c).
      mean: (c,) in [0, 1] units.
      std: (c,) in the same units.

    Returns:
      uint8 (n, H, W, c).

    Example:
      >>> denormalise(np.zeros((1, 1, 1, 1)), np.array([0.4]), np.array([0.2])).item()
      102
    """
    return np.clip(np.rint((images * std + mean) * 255), 0, 255).astype(np.uint8)


def draw_sheet(view: View, columns: int) -> Image.Image:
    """Puts images in rows, each with its label beneath.

    Args:
      view: what to show.
      columns: images in a row.

    Returns:
      The sheet. Small images are enlarged by whole numbers, so that every pixel can be seen.

    Example:
      >>> view = View(np.zeros((3, 32, 32, 1), np.uint8), ["cat", "dog", "cat"], "a title")
      >>> draw_sheet(view, columns=2).size
      (204, 248)
    """
    height, width = view.images.shape[1:3]
    scale = max(1, _CELL // max(height, width))
    cell = (width * scale + _MARGIN, height * scale + _TEXT + 2 + _MARGIN)
    rows = -(-len(view.labels) // columns)
    font = ImageFont.load_default(_TEXT)
    title = _wrap(view.title, font, columns * cell[0] - _MARGIN)
    top = len(title) * (_TEXT + 3) + _MARGIN
    sheet = Image.new("RGB", (columns * cell[0] + _MARGIN, top + rows * cell[1] + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((_MARGIN, 1), "\n".join(title), fill="black", font=font, spacing=2)
    for index, (pixels, label) in enumerate(zip(view.images, view.labels, strict=True)):
        row, column = divmod(index, columns)
        corner = (_MARGIN + column * cell[0], top + row * cell[1])
        tile = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
        sheet.paste(Image.fromarray(tile.squeeze(-1) if tile.shape[-1] == 1 else tile), corner)
        text = _cut(label, font, width * scale)
        draw.text((corner[0], corner[1] + height * scale + 1), text, fill="black", font=font)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of a text as fits."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
