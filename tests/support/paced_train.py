"""Stands in for ``python -m jaxws train`` where time is measured: steps of known lengths.

``python paced_train.py WORKDIR START COMPILE STEP EVALUATION``: seconds until the first step, more
of them where there is no checkpoint yet, and of each step and evaluation; four steps an epoch.
"""

import json
import signal
import sys
import time
from pathlib import Path

STEPS, CHECKPOINT = 4, 1000


def main(workdir, start, compiling, step_seconds, evaluation):
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    checkpoints = workdir / "checkpoints"
    done = max((int(path.name) for path in checkpoints.glob("*")), default=0)
    checkpoints.mkdir(parents=True, exist_ok=True)
    facts = {"data": {"train_images": 24, "test_images": 12}, "stretches": []}
    (workdir / "provenance.json").write_text(json.dumps(facts))
    time.sleep(start + (0 if done else compiling))
    with (workdir / "metrics.jsonl").open("a", buffering=1) as metrics:
        while not stopped:
            done += 1
            time.sleep(step_seconds)
            metrics.write(json.dumps({"kind": "train", "step": done}) + "\n")
            if done % STEPS == 0:
                time.sleep(evaluation)
                record = {"kind": "epoch", "step": done, "epoch": done / STEPS}
                metrics.write(json.dumps(record | {"step_seconds": step_seconds}) + "\n")
    (checkpoints / str(done)).mkdir()
    (checkpoints / str(done) / "state").write_bytes(b"0" * CHECKPOINT)
    sys.exit(75)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:]))
