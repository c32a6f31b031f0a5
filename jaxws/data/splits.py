"""Which images of the training data a run trains on, and which ones it holds out for tuning.

All of it rests on one order of the images in which every stretch, from wherever to wherever, has
the classes in their proportions. Validation images are the first stretch and training images the
next one: disjoint, stratified, and a smaller fraction is part of every larger one.
"""

import zlib
from typing import NamedTuple

import numpy as np

from jaxws.config.choices import SPLITS, check_one_of

# The paper holds out 10 % of CIFAR (5,000) and 10,000 images of TinyImageNet (10 %) and ImageNet.
VALIDATION_PARTS = 10
MOST_VALIDATION = 10_000


class SplitRows(NamedTuple):
    """Rows of the training data, sorted.

    Attributes:
      train: int64 ``(n,)`` rows to train on.
      validation: int64 ``(m,)`` rows to test on instead of the test data, or None for the latter.
    """

    train: np.ndarray
    validation: np.ndarray | None


def choose_rows(
    labels: np.ndarray, *, split: str, train_fraction: float = 1.0, seed: int = 0
) -> SplitRows:
    """Divides the training data.

    Args:
      labels: int ``(N,)``, of all training images. With labels that are all alike the choice is a
        plain random one.
      split: 'final' trains on the training data and tests on the test data. 'tuning' holds out
        a tenth of the training images, at most 10,000, and tests on them.
      train_fraction: part of the training images (in 'tuning', of those not held out) to train
        on, rounded to whole images. The images held out do not depend on it.
      seed: of the choice. Give all runs that are compared the same.

    Returns:
      The rows.

    Raises:
      ValueError: if an argument is wrong, or no image would be left.

    Example:
      >>> import numpy as np
      >>> labels = np.repeat([0, 1, 2, 3], 10)
      >>> chosen = choose_rows(labels, split="tuning", train_fraction=0.5)
      >>> labels[chosen.validation].tolist(), np.bincount(labels[chosen.train]).tolist()
      ([0, 1, 2, 3], [4, 5, 4, 5])
      >>> choose_rows(labels, split="final").train.size
      40
    """
    check_choice(split, train_fraction, seed)
    size = len(labels)
    held_out = min(size // VALIDATION_PARTS, MOST_VALIDATION) if split == "tuning" else 0
    if split == "tuning" and not held_out:
        raise ValueError(
            f"data.split 'tuning' holds out one of {VALIDATION_PARTS} training images and there "
            f"are {size}: use more images, or --config.data.split=final"
        )
    kept = round(train_fraction * (size - held_out))
    if not kept:
        raise ValueError(
            f"data.train_fraction {train_fraction:g} of {size - held_out} training images leaves "
            "none: set a larger --config.data.train_fraction"
        )
    order = stratified_order(labels, seed)
    return SplitRows(
        train=np.sort(order[held_out : held_out + kept]),
        validation=np.sort(order[:held_out]) if held_out else None,
    )


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A random order in which every stretch has the classes in their proportions.

    The images of a class come in random order, evenly spaced over the whole from a random start
    (systematic sampling). So a stretch that spans a share s of it has s * n images of a class of
    n, give or take one, and classes of one size differ by one at most.

    Args:
      labels: int ``(N,)``.
      seed: a whole number, 0 or more.

    Returns:
      int64 ``(N,)``, each of 0 to N - 1 once; the same for the same arguments on all machines
      and with all versions of NumPy.

    Example:
      >>> import numpy as np
      >>> labels = np.array([0, 0, 1, 1, 1, 1])
      >>> labels[stratified_order(labels, seed=0)].tolist()
      [1, 0, 1, 1, 0, 1]
    """
    labels = np.asarray(labels)
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Raw draws: what NumPy's shuffles make of a seed may change with its version, these may not.
    draws = np.random.PCG64(seed).random_raw(len(labels) + len(classes))
    starts = draws[len(labels) :] / 2.0**64
    by_class = np.lexsort((draws[: len(labels)], inverse))
    firsts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - np.repeat(firsts, counts)
    place = (rank + np.repeat(starts, counts)) / np.repeat(counts, counts)
    return by_class[np.argsort(place, kind="stable")]


def rows_fingerprint(chosen: SplitRows) -> dict[str, int | None]:
    """Checksums that tell one choice from another, for the record of a run.

    Args:
      chosen: rows of the training data.

    Returns:
      A CRC-32 of each of the two, None where no images are held out.

    Example:
      >>> import numpy as np
      >>> rows_fingerprint(SplitRows(np.arange(3), None))
      {'train_rows_crc32': 1334598860, 'validation_rows_crc32': None}
    """
    return {
        f"{name}_rows_crc32": None if rows is None else _crc32(rows)
        for name, rows in chosen._asdict().items()
    }


def test_kind(chosen: SplitRows) -> str:
    """What the images are that a run tests on: 'test' or 'validation'.

    Example:
      >>> import numpy as np
      >>> test_kind(SplitRows(np.arange(3), None))
      'test'
    """
    return "test" if chosen.validation is None else "validation"


def _crc32(rows: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(rows, "<i8").data)


def check_choice(split: str, train_fraction: float, seed: int) -> None:
    """Checks the arguments of ``choose_rows`` before any data is read.

    Raises:
      ValueError: if one of them is wrong.

    Example:
      >>> check_choice("final", 0.25, 0)
    """
    check_one_of("data.split", split, SPLITS)
    if not 0 < train_fraction <= 1:
        raise ValueError(
            f"data.train_fraction is {train_fraction!r}, expected a part, above 0 and at most 1"
        )
    if seed < 0 or seed != int(seed):
        raise ValueError(f"data.split_seed is {seed!r}, expected a whole number, 0 or more")
