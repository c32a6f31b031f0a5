"""All that a first hour on a GPU should show, in one command that may be cut off and goes on.

``python -m benchmarks.programme --out DIR`` runs its stages one after the other, each in processes
of its own: are the kernels right, do the tests pass, how fast are layers and steps beside their
peers, how much of the memory's bandwidth does the optimizer reach, and rows of the paper's Table 5.
A stage that fails or takes too long does not stop those after it. What a stage prints is in
``DIR/STAGE.log``, what it writes beside it, and ``DIR/summary.json`` says how each has ended, with
commands, versions and machine. Run again, it leaves out what has been done, and runs go on where
they stopped. ``--dry`` tries all of it in small on any machine, a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine

Record = dict[str, Any]
SUMMARY = "summary.json"
# Several processes share the device, and tests take a CPU where nothing else is asked for.
ON_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_PLATFORMS": "cuda,cpu"}
GRACE_S = 30  # from SIGTERM, after which training has written its checkpoint, to SIGKILL
STEP_PEERS = "ours_bf16,slices,torch,torch_bf16,torch_compile,torch_compile_bf16,conv,torch_conv"
ROWS = ("conv", "lc", "lc-ws1", "lc-ws10", "lc-ws100")
SMALL_STEP = "--depth 2 --width 4 --image 8 --batch 4 --slow-batch 4 --rounds 1 --slow-rounds 1"


class Stage(NamedTuple):
    """Something to do.

    Attributes:
      name: of its log.
      minutes: that it may take at most.
      command: its arguments, without the interpreter.
    """

    name: str
    minutes: float
    command: list[str]


def stages(out: Path, data: Path | None, dry: bool) -> list[Stage]:
    """What is done, the most important first.

    Args:
      out: directory of the results.
      data: folder of CIFAR-10 as images; None leaves the rows of the paper out.
      dry: in small; a row on the built-in digits stands for those of the paper.

    Returns:
      The stages; a command is that of a full or of a small run.
    """
    small_step = f"--rates-shrink 16 {SMALL_STEP}" if dry else ""
    tests = "tests/core/test_window.py" if dry else "-m 'not slow'"
    found = [
        ("check", 4, "jaxws check" + " --size 6 --batch 4 --channels 2 --rounds 1" * dry),
        ("tests", 15, f"pytest -q -p no:cacheprovider {tests}"),
        (
            "lc_step",
            10,
            f"benchmarks.lc_step --peers {'torch' if dry else STEP_PEERS} {small_step}"
            f" --out {out / 'lc_step.json'}",
        ),
        (
            "lc_layer",
            8,
            "benchmarks.lc_layer --implementations default,slices"
            f" {'--nets resnet20 --batches 1 --image-scales 1 --rounds 1' if dry else ''}"
            f" --out {out / 'lc_layer.json'}",
        ),
        (
            "optimizer",
            3,
            f"benchmarks.optimizer {'--depth 2 --width 4 --image 8 --rounds 1' if dry else ''}"
            f" --out {out / 'optimizer.json'}",
        ),
    ]
    place, given = f"--seeds=0 --runs={out / 'runs'}", f"--config.data.path={data}"
    if dry:
        found.append(("table5", 5, f"jaxws paper run small/table5/digits/conv {place}"))
    elif data is not None:
        found += [
            (f"table5-{row}", 30, f"jaxws paper run table5/cifar10/{row} {place} {given}")
            for row in ROWS
        ]
    return [Stage(name, minutes, ["-m", *shlex.split(line)]) for name, minutes, line in found]


def run_stage(stage: Stage, out: Path, seconds: float, environment: dict[str, str]) -> Record:
    """Runs a stage, in a group of processes that ends with it.

    Args:
      stage: what to run.
      out: directory of its log.
      seconds: after which it is stopped.
      environment: variables beside those of this process.

    Returns:
      ``returncode`` (None if it was stopped), ``seconds`` and ``command``.
    """
    command = [sys.executable, *stage.command]
    start = time.perf_counter()
    with (out / f"{stage.name}.log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=machine.ROOT,
            env=environment | os.environ, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    return {
        "returncode": code,
        "seconds": round(time.perf_counter() - start, 1),
        "command": shlex.join(["python", *stage.command]),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops what is left of the process and its children."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def run(todo: Sequence[Stage], out: Path, minutes: float, environment: dict[str, str]) -> list[str]:
    """Runs the stages that have not been done, as far as the time goes.

    Args:
      todo: the stages.
      out: directory of the results.
      minutes: for all of them.
      environment: as in :func:`run_stage`.

    Returns:
      Names of the stages that are not done in the end.
    """
    end = time.monotonic() + 60 * minutes
    path = out / SUMMARY
    summary = json.loads(path.read_text()) if path.exists() else {"stages": {}}
    for stage in todo:
        if summary["stages"].get(stage.name, {}).get("returncode") == 0:
            say(f"{stage.name}: done before")
            continue
        left = end - time.monotonic()
        if left <= 0:
            say(f"{stage.name}: no time left")
            continue
        say(f"{stage.name}: {shlex.join(['python', *stage.command])}")
        record = run_stage(stage, out, min(left, 60 * stage.minutes), environment)
        summary["stages"][stage.name] = record
        machine.write_report(path, machine.metadata() | summary)
        code = record["returncode"]
        how = "stopped" if code is None else "done" if code == 0 else f"failed ({code})"
        say(f"{stage.name}: {how} after {record['seconds']:.0f} s")
    done = {name for name, record in summary["stages"].items() if record["returncode"] == 0}
    return [stage.name for stage in todo if stage.name not in done]


def say(text: str) -> None:
    """Tells what goes on."""
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a stage has failed, was stopped, or had no time."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.programme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the results")
    parser.add_argument("--data", type=Path, help="CIFAR-10 as images, for rows of the paper")
    parser.add_argument("--minutes", type=float, default=60, help="for all of it")
    parser.add_argument("--only", help="stages, by name and separated by commas")
    parser.add_argument("--dry", action="store_true", help="in small")
    options = parser.parse_args(arguments)
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data={options.data}: expected a folder.")
    todo = stages(options.out.resolve(), options.data and options.data.resolve(), options.dry)
    names = [stage.name for stage in todo]
    wanted = options.only.split(",") if options.only else names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"--only={options.only}: there is no {unknown}; choose from {names}.")
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [stage for stage in todo if stage.name in wanted]
    left = run(chosen, options.out, options.minutes, {} if options.dry else ON_GPU)
    say(f"not done: {', '.join(left)}; see their logs in {options.out}" if left else "all done")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
