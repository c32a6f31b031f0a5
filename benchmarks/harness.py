"""Peers in processes of their own, that take turns: interleaved samples, memory, ratios.

A machine's speed drifts. So all peers are alive at a time and run one step each in turn; in every
round each meets the same drift, and ratios are between samples of one run only. The order is turned
round in every other round.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import machine

Record = dict[str, Any]
# Wall time, and the CPU time of all threads, which a machine with other work to do blurs less.
_TIMES = ("seconds", "cpu_seconds")


class PeerError(Exception):
    """A peer ended, or computes something else than it should; the message says which."""


class Process:
    """A peer's process, and the line protocol of :mod:`benchmarks.peer`.

    Args:
      name: of the peer.
      command: what to run.
      environment: added to the environment.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None
    ):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until close()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=machine.ROOT,
            env={**os.environ, **(environment or {})},
        )

    def read(self) -> Record:
        """Waits for the next answer.

        Returns:
          The answer.

        Raises:
          PeerError: the process ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:]
        killed = " (killed; out of memory?)" if code == -9 else ""
        raise PeerError(f"ended with exit code {code}{killed}: {' '.join(last)[-300:]}")

    def ask(self, command: str) -> Record:
        """Sends a command and waits for its answer.

        Args:
          command: one of :mod:`benchmarks.peer`.

        Returns:
          The answer.

        Raises:
          PeerError: the process ended.
        """
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: reading tells how
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """Ends the process, by the end of its input or else by force."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def take_turns(
    processes: Sequence[Process],
    rounds: int,
    pause: float = 0.0,
    kept: Callable[[dict[str, Record]], None] = lambda records: None,
) -> dict[str, Record]:
    """Times one step of each peer per round, then asks for their peaks of memory.

    Args:
      processes: ready to answer.
      rounds: number of samples of each.
      pause: seconds to wait before each step, for threads of the one before to fall asleep.
      kept: is given the samples so far after each round.

    Returns:
      By name ``seconds`` and ``cpu_seconds`` of each step, ``peak_bytes`` (of the device, if it
      has memory of its own) and ``host_peak_bytes``, or ``error`` for one that ended.
    """
    records: dict[str, Record] = {
        process.name: {key: [] for key in _TIMES} for process in processes
    }
    for index in range(rounds):
        for process in processes if index % 2 == 0 else reversed(processes):
            record = records[process.name]
            if "error" in record:
                continue
            time.sleep(pause)
            try:
                step = process.ask("step")
            except PeerError as error:
                record["error"] = str(error)
                continue
            for key in _TIMES:
                record[key].append(step[key])
        kept(records)
    for process in processes:
        record = records[process.name]
        if "error" not in record:
            memory = process.ask("memory")
            record["peak_bytes"] = memory["device_bytes"] or memory["host_bytes"]
            record["host_peak_bytes"] = memory["host_bytes"]
    return records


def add_ratios(records: dict[str, Record], reference: str) -> None:
    """Adds to every peer its median and what it takes relative to the reference, in place.

    Args:
      records: as of :func:`take_turns`, or after any of its rounds, when there is no memory yet;
        those with an ``error`` are left alone.
      reference: name of the peer to divide by.
    """
    done = {name: record for name, record in records.items() if "error" not in record}
    for record in done.values():
        for key in _TIMES:
            record[f"median_{key}"] = statistics.median(record[key])
    if reference not in done:
        return
    ours = done[reference]
    for record in done.values():
        per_round = [a / b for a, b in zip(record["seconds"], ours["seconds"], strict=True)]
        record["time_ratio"] = record["median_seconds"] / ours["median_seconds"]
        record["median_of_round_ratios"] = statistics.median(per_round)
        record["cpu_ratio"] = record["median_cpu_seconds"] / ours["median_cpu_seconds"]
        if "peak_bytes" in record:
            record["memory_ratio"] = record["peak_bytes"] / ours["peak_bytes"]


def disagreement(losses: Sequence[float], expected: Sequence[float], rtol: float) -> str | None:
    """Says how the losses of the first steps differ from those of another peer, if they do.

    The first loss tests the network's output, the next ones its gradients, the optimizer and the
    sharing of weights; rounding grows from step to step, as AdamW divides small gradients by their
    own size.

    Args:
      losses: of the peer.
      expected: of the other.
      rtol: of the first loss; later ones may differ 30 times as much.

    Returns:
      A message or None.
    """
    for step, (a, b) in enumerate(zip(losses, expected, strict=True)):
        if not abs(a - b) <= rtol * (30 if step else 1) * abs(b):
            return f"computes something else: the loss of step {step} is {a:.6g}, expected {b:.6g}"
    return None


def start(names: Sequence[str], problem: Record, environment: dict[str, str]) -> list[Process]:
    """Starts peers, which get ready one after the other once they are read from.

    Args:
      names: of peers.
      problem: fields of :class:`benchmarks.problem.Problem`.
      environment: added to the environment.

    Returns:
      Their processes.
    """
    module = [sys.executable, "-m", "benchmarks.peer"]
    return [Process(name, [*module, name, json.dumps(problem)], environment) for name in names]
