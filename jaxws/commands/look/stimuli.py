"""Test images for RSA: some of each class, of the data that networks were trained on."""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

import jax
import numpy as np

from jaxws import data
from jaxws.commands.networks import feed_of
from jaxws.commands.preview import denormalise
from jaxws.core.partitioning import one_device
from jaxws.models import Loaded

_MOST_CLASSES = 10


class Stimuli(NamedTuple):
    """Images that are shown, ordered by class.

    Attributes:
      pixels: uint8 (n, H, W, c).
      labels: names of their classes, n of them.
      rows: which images of the test set they are, n of them.
      what: they are, for people.
    """

    pixels: np.ndarray
    labels: list[str]
    rows: np.ndarray
    what: str


def stimuli_of(network: Loaded, per_class: int) -> Stimuli:
    """Takes the first test images of each of the first classes.

    Args:
      network: on whose data.
      per_class: images of each class, or as many as there are.

    Returns:
      The images, as pixels: each network normalises them as it was trained.

    Raises:
      ValueError: the data cannot be read, or are others than the network's.
    """
    config = network.config.copy_and_resolve_references()
    config.model.dtype = "float32"  # so that pixels come back
    feed = feed_of(config, network.info["dataset"])
    classes = min(len(feed.class_names), _MOST_CLASSES)
    images, labels, rows = _first(feed, classes, per_class)
    order = np.argsort(labels, kind="stable")
    what = (
        f"the first {per_class} {feed.test_kind} images of each of {classes} classes of {feed.name}"
    )
    return Stimuli(
        denormalise(images[order], feed.mean, feed.std),
        [feed.class_names[label] for label in labels[order]],
        rows[order],
        what,
    )


def _first(
    feed: data.Feed, classes: int, per_class: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and rows; reads no more batches than it takes."""
    found: list[list[np.ndarray]] = [[], [], []]
    taken = np.zeros(classes, int)
    start = 0
    make = jax.jit(feed.batching.eval_batch)
    with one_device(), closing(feed.eval_inputs()) as inputs:  # type: ignore[type-var]
        for each in inputs:
            batch = make(each)
            images, labels = np.asarray(batch.image), np.asarray(batch.label)
            real = np.ones(len(labels), bool) if batch.mask is None else np.asarray(batch.mask)
            for label in range(classes):
                here = np.flatnonzero(real & (labels == label))[: per_class - taken[label]]
                taken[label] += len(here)
                new = (images[here], labels[here], start + here)
                for parts, part in zip(found, new, strict=True):
                    parts.append(part)
            start += len(labels)
            if (taken == per_class).all():
                break
    images, labels, rows = map(np.concatenate, found)
    return images, labels, rows
