"""Draws results of ``benchmarks.lc_step``: ``python -m benchmarks.plot RESULTS.json OUT.png``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {
    "ours": "jaxws",
    "ours_bf16": "jaxws, bfloat16",
    "unpooled": "jaxws, unpooled",
    "slices": 'jaxws, "slices"',
    "conv_local": "Flax ConvLocal",
    "torch": "PyTorch, shifted slices",
    "torch_published": "PyTorch, unfold + einsum",
    "torch_bf16": "PyTorch, autocast",
    "torch_compile": "PyTorch, compiled",
    "torch_compile_bf16": "PyTorch, compiled, autocast",
    "conv": "convolutional: jaxws",
    "conv_flax": "convolutional: Flax",
    "conv_bf16": "convolutional: jaxws, bfloat16",
    "torch_conv": "convolutional: PyTorch",
    "torch_conv_bf16": "convolutional: PyTorch, autocast",
}
OURS, PEER, CONV = "#1b6ca8", "#b0b7bf", "#e2ddd0"


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws step time relative to ours, and peak memory, one row of panels per batch.

    Args:
      results: of ``benchmarks.lc_step``.
      path: of the PNG.
    """
    groups = [
        (group["batch"], [n for n, record in group["peers"].items() if "error" not in record])
        for group in results["groups"]
    ]
    heights = [len(names) + 1.2 for _, names in groups]
    figure = Figure(figsize=(9, 0.34 * sum(heights) + 0.9), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (batch, names), group, (left, right) in zip(groups, results["groups"], panels, strict=True):
        records = [group["peers"][name] for name in names]
        times = [record["time_ratio"] for record in records]
        seconds = [record["median_seconds"] for record in records]
        labels = [f"{t:.2g}x  ({s:.3g} s)" for t, s in zip(times, seconds, strict=True)]
        _bars(left, names, times, labels)
        left.set_title(f"batch {batch}: time of a step, jaxws = 1", fontsize=10, loc="left")
        memory = [record["peak_bytes"] / 1e9 for record in records]
        _bars(right, names, memory, [f"{gigabytes:.2f} GB" for gigabytes in memory])
        right.set_yticklabels([])
        right.set_title(f"batch {batch}: peak memory", fontsize=10, loc="left")
    problem, machine = results["problem"], results["machine"]
    devices = {
        record["device"]["kind"]
        for g in results["groups"]
        for record in g["peers"].values()
        if "device" in record
    }
    device = f"{machine['cores']} cores, {machine['cpu']}" if devices == {"cpu"} else min(devices)
    figure.suptitle(
        f"Training step of LC ResNet-{problem['depth']}, {problem['image']}x{problem['image']}"
        f" images, weights shared after it ({device})",
        fontsize=11,
    )
    figure.savefig(path, dpi=150)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], texts: Sequence[str]) -> None:
    colours = [
        CONV if LABELS[name].startswith("convolutional") else OURS if name == "ours" else PEER
        for name in names
    ]
    bars = axes.barh(range(len(names)), values, color=colours, height=0.7)
    axes.bar_label(bars, texts, padding=4, fontsize=8)
    axes.set_yticks(range(len(names)), [LABELS[name] for name in names], fontsize=9)
    axes.set_xlim(0, 1.35 * max(values))
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(left=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split(":", maxsplit=1)[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("png", type=Path)
    options = parser.parse_args(arguments)
    draw(json.loads(options.results.read_text()), options.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
