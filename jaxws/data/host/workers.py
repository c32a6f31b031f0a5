"""How many worker processes there are, and what keeps them from outliving the program.

Grain's workers end with it when it ends in an orderly way. If it is killed they would wait for
ever, and keep their shared memory. So each watches a pipe that the system closes when the parent
is gone, however it went. Once all of them have ended, Python's resource tracker, a process of its
own, removes from /dev/shm what they had shared.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from multiprocessing import connection

# Their start takes seconds, in which threads decode thousands of images.
_WORTH_WORKERS = 20_000
_MOST = 16
# Batches of each worker that lie in shared memory at once, at most.
_SHARED_BATCHES = 4
# A worker has so long to end of itself.
_GRACE_SECONDS = 2.0


def suitable_workers(images: int, batch_bytes: int, shared: str = "/dev/shm") -> int:
    """How many processes decode where the configuration leaves it open.

    Threads of one process take turns at whatever is Python; processes do not. So there is one for
    each core, 16 at most, unless there are few images to decode or little shared memory, as in
    containers that are given 64 MB.

    Args:
      images: to be decoded in an epoch.
      batch_bytes: of a batch of crops, which is handed over in shared memory.
      shared: where shared memory lies.

    Returns:
      Their number; 0 for threads.

    Example:
      >>> suitable_workers(images=1_000, batch_bytes=2**20)
      0
      >>> suitable_workers(images=10**6, batch_bytes=2**60)
      0
    """
    cores = available_cores()
    if images < _WORTH_WORKERS or cores == 1 or not os.path.isdir(shared):
        return 0
    room = shutil.disk_usage(shared).free // (_SHARED_BATCHES * batch_bytes)
    return min(cores, _MOST, room)


def available_cores() -> int:
    """Cores that this process may use.

    Example:
      >>> available_cores() >= 1
      True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent(worker: int = 0, workers: int = 1) -> None:
    """Makes this process end when its parent has ended; to be called in a worker as it starts.

    Ctrl-C and SIGTERM are left to the parent, which ends its workers in order: terminals and job
    schedulers send them to all processes of a job. A SIGTERM of the parent's own is obeyed, after
    some time in which the worker may end in order and give back its shared memory.

    Args:
      worker: number of the worker, as Grain gives it.
      workers: number of workers.

    Raises:
      RuntimeError: if ``multiprocessing`` has not started this process.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("only a process that multiprocessing has started has a parent to watch")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in threads to come as well

    # At once, in both: the main thread may be decoding, or wait for the parent to read.
    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    def obey() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
            pass
        time.sleep(_GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    for target in (watch, obey):
        threading.Thread(target=target, name="end-with-parent", daemon=True).start()
