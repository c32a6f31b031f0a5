"""Compares the ratios of two results: ``python -m benchmarks.check NEW.json [BASE.json]``.

Times depend on the machine and its load, ratios between peers that took turns hardly do. A ratio is
what a peer takes divided by what jaxws takes, so one that falls is a regression of jaxws. Without
BASE, NEW is compared with the result of the same name in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine

RESULTS = machine.ROOT / "benchmarks" / "results"
TOLERANCE = 0.15


def regressions(new: dict[str, Any], base: dict[str, Any], tolerance: float) -> list[str]:
    """Finds what became slower or larger relative to the peers.

    Args:
      new: results of a benchmark, of which ``ratios`` and ``groups`` are read.
      base: results to compare with.
      tolerance: how much a ratio may fall, relative.

    Returns:
      One line per regression: ratios that fell and peers that fail now. Peers that were not asked
      for are none.

    Raises:
      ValueError: results of different benchmarks, devices or networks, or without a ratio in
        common.
    """
    for name, a, b in (
        ("benchmark", new["benchmark"], base["benchmark"]),
        ("problem", new.get("problem"), base.get("problem")),
        ("device", _devices(new), _devices(base)),
    ):
        if a != b:
            raise ValueError(f"{name}: {a} in the new results, {b} in the base: not comparable.")
    found, compared = [], 0
    for key, was in base["ratios"].items():
        now = new["ratios"].get(key, {})
        for quantity in sorted(was.keys() & now.keys()):
            compared += 1
            change = now[quantity] / was[quantity] - 1
            if change < -tolerance:
                found.append(
                    f"{key}: {quantity} ratio {now[quantity]:.3f}, was {was[quantity]:.3f}"
                    f" ({100 * change:+.0f} %)"
                )
    failures = _errors(new)
    new_failures = sorted(failures.keys() - _errors(base).keys())
    found += [f"{key}: fails, {failures[key]}" for key in new_failures]
    if not compared and not found:
        raise ValueError("no ratio is in both results: measure the same peers at the same batch.")
    return found


def _errors(results: dict[str, Any]) -> dict[str, str]:
    return {
        f"batch {group['batch']}/{name}": record["error"]
        for group in results.get("groups", [])
        for name, record in group["peers"].items()
        if "error" in record
    }


def _devices(results: dict[str, Any]) -> list[str]:
    """Kinds of devices without their models: another CPU's ratios are worth comparing."""
    records = [record for group in results.get("groups", []) for record in group["peers"].values()]
    devices = [record["device"] for record in [*records, results] if "device" in record]
    return sorted({device["backend"] for device in devices})


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line per regression; returns 1 if there are any, 2 if nothing can be said."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("new", type=Path)
    parser.add_argument("base", type=Path, nargs="?")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    options = parser.parse_args(arguments)
    base = options.base or RESULTS / options.new.name
    try:
        new, old = (json.loads(path.read_text()) for path in (options.new, base))
        lines = regressions(new, old, options.tolerance)
    except (OSError, ValueError, KeyError) as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
