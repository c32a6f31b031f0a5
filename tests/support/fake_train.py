"""Stands in for ``python -m jaxws train`` where only processes and directories are looked at.

``python fake_train.py CONFIG WORKDIR SECONDS STATUS`` trains nothing for three epochs of some
seconds each, from the last one that is recorded; SIGTERM ends it in order after one. Its numbers
are those of the epoch. A STATUS that is not 0 is its own after the first epoch.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path


def main(config, workdir, seconds, status):
    workdir, stopped = Path(workdir), []
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143) if stopped else stopped.append(1))
    workdir.mkdir(parents=True, exist_ok=True)
    lock = open(workdir / "lock", "w")  # noqa: SIM115 - until the end
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("workdir is in use")
    if not (workdir / "config.json").exists():
        (workdir / "config.tmp").write_bytes(Path(config).read_bytes())
        (workdir / "config.tmp").rename(workdir / "config.json")
    metrics = workdir / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    records = [record for record in records if record["kind"] == "epoch"]
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(f"cores {sorted(os.sched_getaffinity(0))}, from epoch {len(records)}", flush=True)
    for epoch in range(len(records) + 1, 4):
        time.sleep(float(seconds))
        record = {"kind": "epoch", "step": epoch * 4, "epoch": float(epoch), "test_top1": epoch / 4}
        with metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")
            if status == "3":
                end = {"kind": "event", "step": epoch * 4, "event": "diverged", "message": "nan"}
                file.write(json.dumps(end) + "\n")
        if status != "0":
            print("what went wrong", flush=True)
            sys.exit(int(status))
        if stopped and epoch < 3:
            sys.exit(75)


if __name__ == "__main__":
    main(*sys.argv[1:])
