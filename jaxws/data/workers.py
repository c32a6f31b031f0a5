"""What keeps worker processes from outliving the program that started them.

Grain's workers end with it when it ends in an orderly way. If it is killed they would wait for
ever, and keep their shared memory. So each watches a pipe that the system closes when the parent
is gone, however it went. Once all of them have ended, Python's resource tracker, a process of its
own, removes from /dev/shm what they had shared.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def end_with_parent(worker: int = 0, workers: int = 1) -> None:
    """Make this process end when its parent has ended; to be called in a worker as it starts.

    Ctrl-C and SIGTERM are left to the parent, which ends its workers in order: terminals and job
    schedulers send them to all processes of a job. A SIGTERM of the parent's own is obeyed.

    Args:
        worker: Number of the worker, as Grain gives it.
        workers: Number of workers.

    Raises:
        RuntimeError: If `multiprocessing` has not started this process.
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
        os._exit(128 + signal.SIGTERM)

    for target in (watch, obey):
        threading.Thread(target=target, name="end-with-parent", daemon=True).start()
