"""One peer in a process of its own: ``python -m benchmarks.peer NAME PROBLEM``, as JSON.

It answers each line on its standard input by one line of JSON: ``step`` runs one training step and
tells its seconds, of wall time and of all threads' CPU time, ``memory`` the peak so far, ``rates
SHRINK`` what the machine can do in this framework, by matrices whose sides are smaller by that
factor; at the end of the input it ends. Whatever else is printed goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import machine
from benchmarks.problem import Problem

WARM_UP_STEPS = 3


def serve(name: str, problem: Problem) -> None:
    """Builds a peer, warms it up and answers until the input ends.

    Args:
      name: of the peer; those of PyTorch begin with "torch".
      problem: what to compute.
    """
    # Libraries print, so the answers get the standard output to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    framework = "torch_lc" if name.startswith("torch") else "jax_peers"
    module = importlib.import_module(f"benchmarks.{framework}")
    baseline = machine.resident_bytes()
    peer = module.Peer(name, problem)
    start = time.perf_counter()
    losses = [peer.step()]
    first = time.perf_counter() - start
    losses += [peer.step() for _ in range(WARM_UP_STEPS - 1)]
    # Compilation is over, and every step reaches the peak anew.
    machine.reset_peak_bytes()
    peer.reset_device_peak()
    answer(
        {
            "losses": losses,
            "first_step_seconds": first,
            "baseline_bytes": baseline,
            "device": peer.device(),
        }
    )
    for line in sys.stdin:
        command, *numbers = line.split()
        answer(_COMMANDS[command](peer, *map(int, numbers)))


def _step(peer: Any) -> dict[str, Any]:
    start, cpu = time.perf_counter(), time.process_time()
    peer.step()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def _memory(peer: Any) -> dict[str, Any]:
    return {"host_bytes": machine.peak_bytes(), "device_bytes": peer.device_peak_bytes()}


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "step": _step,
    "memory": _memory,
    "rates": lambda peer, shrink: peer.rates(shrink),
}


if __name__ == "__main__":
    serve(sys.argv[1], Problem(**json.loads(sys.argv[2])))
