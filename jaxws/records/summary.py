"""What came out of a run, as people read it, whatever its metrics are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def metric_label(name: str) -> str:
    """What a metric is called in tables.

    Args:
      name: in metrics.jsonl, such as ``'test_top1'``.

    Returns:
      A few words.

    Example:
      >>> metric_label("test_top1"), metric_label("train_loss")
      ('test top-1', 'training loss')
    """
    words = re.sub(r"\btop(\d+)$", r"top-\1", name.replace("_", " "))
    return re.sub("^train ", "training ", words)


def is_hits(name: str) -> bool:
    """Whether a metric counts hits, so that its mean over images is a part of 1, shown in percent.

    Args:
      name: of the metric, as in :func:`metric_label`.

    Returns:
      True or False.

    Example:
      >>> is_hits("test_top1"), is_hits("test_loss")
      (True, False)
    """
    return bool(re.search(r"top\d+$", name))


def metric_number(name: str, value: float) -> float:
    """A mean over images as it is shown: in percent if it counts hits.

    Args:
      name: of the metric, as in :func:`metric_label`.
      value: the mean.

    Returns:
      The number.

    Example:
      >>> metric_number("test_top1", 0.25), metric_number("test_loss", 0.25)
      (25.0, 0.25)
    """
    return 100 * value if is_hits(name) else value


def metric_text(name: str, value: float | None, missing: str = "...") -> str:
    """A mean over images as text: in percent if it counts hits.

    Args:
      name: of the metric, as in :func:`metric_label`.
      value: the mean; None if it is not finite, or if there was nothing to measure.
      missing: stands for None.

    Returns:
      The text.

    Example:
      >>> metric_text("test_top1", 0.25), metric_text("loss", 2.30258), metric_text("loss", None)
      ('25.00 %', '2.3026', '...')
    """
    if value is None:
        return missing
    return f"{metric_number(name, value):.2f} %" if is_hits(name) else f"{value:.4f}"


def metric_means(record: Mapping[str, Any], *prefixes: str) -> dict[str, float | None]:
    """The means over images that a record of an epoch holds.

    Args:
      record: of kind ``epoch``.
      *prefixes: of the names, in the order to list them in; by default ``'train_'``, ``'test_'``.

    Returns:
      Means by name; None if they are not finite.

    Example:
      >>> metric_means({"step": 9, "train_loss": 0.5, "test_top1": 0.25}, "test_")
      {'test_top1': 0.25}
    """
    wanted = prefixes or ("train_", "test_")
    return {n: value for p in wanted for n, value in record.items() if n.startswith(p)}


def is_evaluated(record: Mapping[str, Any]) -> bool:
    """Whether there was an evaluation after an epoch.

    Args:
      record: of kind ``epoch``.

    Returns:
      Whether it has means over test images, be they finite or not.

    Example:
      >>> is_evaluated({"step": 9, "test_loss": None}), is_evaluated({"step": 9, "train_loss": 1.0})
      (True, False)
    """
    return bool(metric_means(record, "test_"))


def rate_text(record: Mapping[str, Any]) -> str:
    """Images per second as text.

    Args:
      record: whatever holds ``images_per_second``, a number or None.

    Returns:
      The text.

    Example:
      >>> rate_text({"images_per_second": 99.6}), rate_text({})
      ('100', '...')
    """
    rate = record.get("images_per_second")
    return "..." if rate is None else f"{rate:.0f}"


def summary_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table that ends a run.

    Args:
      record: the last record of kind ``epoch``; of an epoch whose steps were all skipped, means
        over training images are None.

    Returns:
      Pairs of name and text.

    Example:
      >>> summary_rows({"epoch": 2, "step": 9, "test_top1": 0.25, "images_per_second": 100.0})[1]
      ('test top-1', '25.00 %')
    """
    return [
        ("epochs, steps", f"{record['epoch']:.4g}, {record['step']}"),
        *((metric_label(n), metric_text(n, value)) for n, value in metric_means(record).items()),
        ("images/s, last epoch", rate_text(record)),
    ]
