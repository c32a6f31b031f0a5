"""A program in several processes: started together, and ended by whatever ends one of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import jax

from jaxws.parallel import processes
from jaxws.parallel.launch import Cluster
from jaxws.parallel.links import Ended, Links
from jaxws.system.text import one_line, say

# JAX notices a process that hangs by itself; one that is gone, we do sooner (jaxws.parallel.links).
_HANG_SECONDS = 300
# What went wrong on the devices may be that another process has gone: its end is told by then.
_TOLD_BY_THEN_SECONDS = 3.0
_STATUS_OF: Mapping[type[BaseException], int] = {ValueError: 2, OSError: 2, KeyboardInterrupt: 130}
_BUG = 1


def run_together(
    work: Callable[[], int],
    cluster: Cluster,
    *,
    timeout: float,
    status_of: Mapping[type[BaseException], int] = MappingProxyType({}),
    debug: bool = False,
) -> NoReturn:
    """Does work with the other processes of a cluster, and ends this process.

    An error in one of them ends them all, with one line that names it.

    Args:
      work: to be done; returns the exit status.
      cluster: who is who.
      timeout: seconds to wait for the others to come.
      status_of: exit statuses of more errors that are told in one line.
      debug: show tracebacks of errors.
    """
    links = Links(cluster, timeout)
    try:
        links.open()
    except Ended as ended:
        say(f"error: {ended}", error=True)
        _leave(ended.status)
    if cluster.index:  # the terminal is that of process 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # of compiled code as well
    try:
        _start_jax(cluster, links.service)
        status = work()
        _stop_jax()
    except BaseException as error:
        status = _status(error, {**_STATUS_OF, **status_of})
        if status == _BUG:
            time.sleep(_TOLD_BY_THEN_SECONDS)
        if status == _BUG or debug:
            traceback.print_exc()
        links.fail(one_line(error) or type(error).__name__, status)
    links.close()
    _leave(status)


def check_same(facts: Mapping[str, Any]) -> None:
    """Sees to it that all processes have the same facts.

    Args:
      facts: for JSON, by names that tell people what they are.

    Raises:
      ValueError: process 0 has another one.

    Example:
      >>> check_same({"version of jax": "0.10.2"})  # alone
    """
    first = json.loads(processes.broadcast(json.dumps(dict(facts))))
    for name in sorted(first.keys() | facts.keys()):
        if (here := facts.get(name)) != (there := first.get(name)):
            raise ValueError(f"{name} is {here!r} here, and {there!r} in process 0.")
    processes.barrier("same")  # here the others hear of one that differs


def _start_jax(cluster: Cluster, service: str) -> None:
    jax.distributed.initialize(
        service,
        num_processes=cluster.count,
        process_id=cluster.index,
        local_device_ids=cluster.local_devices,
        cluster_detection_method="deactivate",
        coordinator_bind_address=service,
        heartbeat_timeout_seconds=_HANG_SECONDS,
    )
    # JAX takes it for a notice that is looked at between steps; while there are none, it ends this
    # process as any other. A run in training takes it itself.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop_jax() -> None:
    processes.barrier("end")  # process 0 may still be writing
    jax.distributed.shutdown()


def _status(error: BaseException, known: Mapping[type[BaseException], int]) -> int:
    return next((status for kind, status in known.items() if isinstance(error, kind)), _BUG)


def _leave(status: int) -> NoReturn:
    """Ends the process; not in the order of an interpreter, in which JAX waits for others."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
