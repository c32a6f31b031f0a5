"""What identifies a run beside its scores: seed, rates, machine, kernels, time, the best score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jaxws.records.run_directory import RunDirectory
from jaxws.records.summary import is_evaluated, metric_text
from jaxws.system.terminal import duration

Rows = list[tuple[str, str]]


def evaluated_epochs(run: RunDirectory) -> list[dict[str, Any]]:
    """Records of the epochs after which there was an evaluation.

    Args:
      run: any.

    Returns:
      The records, in their order.
    """
    return [record for record in run.of_kind("epoch") if is_evaluated(record)]


def best_epoch(run: RunDirectory) -> dict[str, Any] | None:
    """The epoch with the best top-1 accuracy on test images; of equals, the first.

    Args:
      run: any.

    Returns:
      Its record; None if there was no evaluation yet.
    """
    evaluated = evaluated_epochs(run)
    return max(evaluated, key=lambda r: r.get("test_top1") or 0.0) if evaluated else None


def reached_epoch(run: RunDirectory) -> float:
    """How far a run has come.

    Args:
      run: any.

    Returns:
      Its last epoch that is recorded, also within one where it was to stop after some steps; 0.0 if
      none is over.
    """
    ended = run.of_kind("epoch")
    return float(ended[-1].get("epoch", 0)) if ended else 0.0


def is_complete(run: RunDirectory) -> bool:
    """Whether the last of all epochs is recorded and its network kept, which comes after.

    Args:
      run: any. Its checkpoints may have been removed since, all of them, to save space.

    Returns:
      True or False.
    """
    if reached_epoch(run) < run.config.epochs:
        return False
    last = run.of_kind("epoch")[-1]["step"]
    return not run.checkpoints.is_dir() or (run.checkpoints / str(last)).is_dir()


def wall_seconds(run: RunDirectory) -> float:
    """How long a run took, summed over all of its sessions.

    Args:
      run: any.

    Returns:
      Seconds, compilation and steps that were done again included.
    """
    return sum(session["seconds"] for session in _sessions(run))


def kernels_of(sessions: Iterable[dict[str, Any]]) -> str:
    """The implementations that computed locally connected layers.

    Args:
      sessions: out of a run's provenance.

    Returns:
      Their names.

    Example:
      >>> kernels_of([{"local_conv": ["native"]}, {"local_conv": ["native", "slices"]}])
      'native, slices'
      >>> kernels_of([{"local_conv": []}]), kernels_of([{}])
      ('none', 'not recorded')
    """
    noted = [session["local_conv"] for session in sessions if session.get("local_conv") is not None]
    names = dict.fromkeys(name for names in noted for name in names)
    return ", ".join(names) or ("none" if noted else "not recorded")


def fact_rows(run: RunDirectory) -> Rows:
    """What a table about a run says beside its last scores.

    Args:
      run: any.

    Returns:
      Pairs of name and text: best top-1 accuracy, seed, learning rate, and as far as that was
      recorded device, implementation of LC layers and wall time.
    """
    rows: Rows = []
    if best := best_epoch(run):
        text = metric_text("top1", best.get("test_top1"), "not finite")
        rows.append(("best test top-1", f"{text} after epoch {best['epoch']:.4g}"))
    rows.append(("seed", str(run.config.seed)))
    rows.append(("learning rate, at first", f"{run.config.optimizer.learning_rate:g}"))
    if sessions := _sessions(run):
        devices = dict.fromkeys(session["machine"]["device"] for session in sessions)
        rows.append(("device", "; ".join(devices)))
        if run.config.model.connectivity == "local":
            rows.append(("kernels of LC layers", kernels_of(sessions)))
        starts = f"{len(sessions)} start{'s' if len(sessions) > 1 else ''}"
        rows.append(("wall time", f"{duration(wall_seconds(run))} in {starts}"))
    return rows


def _sessions(run: RunDirectory) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = run.provenance.get("stretches", [])
    return found
