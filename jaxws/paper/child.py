"""What the process of a run does before it becomes that run; started as a file, by its path.

``python child.py PARENT CPUS COMMAND...`` lets the run end in order when the process PARENT ends,
however that ends, keeps it to some CPUs (``0,1``; empty for all) and turns into COMMAND.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main(parent: int, cpus: str, command: list[str]) -> None:
    """Becomes a command.

    Args:
      parent: number of the process that has started this one.
      cpus: numbers, with commas.
      command: a program by its path, and its arguments.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it has ended before it could be watched
            sys.exit(128 + signal.SIGTERM)
        if cpus:
            os.sched_setaffinity(0, map(int, cpus.split(",")))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
