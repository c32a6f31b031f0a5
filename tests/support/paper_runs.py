"""Directories of runs of the paper's rows as training leaves them, without any training."""

import json
from collections.abc import Sequence

from jaxws.config.identity import to_json
from jaxws.paper.configs import row_config
from jaxws.paper.names import parse_name

STEPS_PER_EPOCH = 4
SECONDS = 60.0  # that a run says it took
DATA = {"classes": 10, "train_images": 24, "test_images": 12, "train_crc32": 1, "test_crc32": 2}
VERSIONS = {
    "python": "3.13.0",
    "jaxws": "0.1.0",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "flax": "0.12.0",
    "optax": "0.2.5",
    "orbax-checkpoint": "0.12.0",
    "numpy": "2.4.0",
}
MACHINE = {"platform": "Linux", "cores": 2, "device": "1 x cpu (cpu)", "processes": 1}


def write_run(
    runs,
    name,
    *,
    top1=0.5,
    loss=None,
    epochs=None,
    done=True,
    diverged=False,
    rates=None,
    changes=None,
    workdir=None,
):
    """Writes config.json, metrics.jsonl and provenance.json of a run.

    Args:
      runs: directory of all runs.
      name: of a run with its seed, such as 'small/table5/digits/conv/seed0'.
      top1: on test images after the last epoch, a part of 1; or one for each epoch that is over.
      loss: on test images after the last epoch; by default the lower, the better top1 is.
      epochs: of the configuration, for which those of the row make too many records.
      done: whether all of them are over; else it is stopped after half of them.
      diverged: it is not done either, and its last record says that it has diverged.
      rates: `jaxws.paper.rows.Rates` in place of the row's.
      changes: of other fields, by dotted name.
      workdir: where, if not in the directory of its name.

    Returns:
      The directory.
    """
    config = row_config(parse_name(name), rates)
    config.update_from_flattened_dict({"epochs": epochs or config.epochs} | (changes or {}))
    workdir = workdir or runs / name
    over = config.epochs if done and not diverged else config.epochs // 2
    is_local = config.model.connectivity == "local"
    records = []
    for epoch in range(1, over + 1):
        now = top1[epoch - 1] if isinstance(top1, Sequence) else top1 * epoch / over
        records += [_train(epoch, now, is_local), _epoch(epoch, now, loss)]
    if diverged:
        records.append(
            {
                "kind": "event",
                "step": over * STEPS_PER_EPOCH + 1,
                "event": "diverged",
                "message": f"the loss is not finite at step {over * STEPS_PER_EPOCH + 1}",
            }
        )
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(to_json(config, DATA))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (workdir / "provenance.json").write_text(json.dumps(_provenance(over), indent=1) + "\n")
    return workdir


def _train(epoch, top1, is_local):
    return {
        "kind": "train",
        "step": epoch * STEPS_PER_EPOCH - 1,
        "train_loss": 2.5 - 2 * top1,
        "train_top1": top1,
        "train_top5": min(1.0, 2 * top1),
        "grad_norm": 1.0,
        "learning_rate": 1e-3,
        "step_seconds": 0.1,
        "images_per_second": 60.0,
        "data_wait": 0.0,
        "device_memory_bytes": None,
        # It falls with accuracy, so that curves have something to show.
        "neg_log_snr": {"conv1": -1 - top1, "layer1_0/conv1": -2 - top1} if is_local else {},
    }


def _epoch(epoch, top1, loss):
    return {
        "kind": "epoch",
        "step": epoch * STEPS_PER_EPOCH,
        "epoch": float(epoch),
        "train_loss": 2.5 - 2 * top1,
        "train_top1": top1,
        "train_top5": min(1.0, 2 * top1),
        "skipped": 0,
        "test_loss": 2.5 - 2 * top1 if loss is None else loss,
        "test_top1": top1,
        "test_top5": min(1.0, 2 * top1),
        "step_seconds": 0.1,
        "images_per_second": 60.0,
        "data_wait": 0.0,
    }


def _provenance(over):
    session = {
        "first_step": 0,
        "started": "2026-01-02T03:04:05+00:00",
        "command": "python -m jaxws train",
        "directory": "/home/someone",
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": VERSIONS,
        "machine": MACHINE,
        "last_step": over * STEPS_PER_EPOCH,
        "seconds": SECONDS,
        "local_conv": ["native"],
    }
    data = {"name": "digits", "path": None, "checksums": DATA}
    return {"data": data, "stretches": [session]}
