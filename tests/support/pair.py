"""Programs in several processes of one machine, forked from a server that has imported everything.

Each has fake devices, and files for what it writes: ``out.0``, ``err.0`` and so on.
"""

import os
import signal
import socket
from functools import partial

import jax

from jaxws.parallel import processes
from jaxws.parallel.launch import Cluster
from jaxws.parallel.together import run_together
from jaxws.training.loop import train
from jaxws.training.signals import RESUMABLE, Stopped
from tests.support.small_run import prepare_small
from tests.support.victim import in_process


class Group:
    """Processes that are started one by one, to do the same work."""

    def __init__(self, folder, work, *arguments, count=2, devices=4, timeout=60):
        """Starts none.

        Args:
          folder: where they write what they print.
          work: a function of a module, which returns the exit status.
          arguments: of the function.
          count: number of processes.
          devices: of each.
          timeout: seconds that each waits for the others.
        """
        self._folder, self._work, self._count = folder, partial(work, *arguments), count
        self._settings, self._address = (devices, timeout), f"127.0.0.1:{free_port()}"
        self.processes = {}

    def start(self, number, count=None):
        """Starts a process, as one of so many; by default, of all."""
        folder = self._folder
        cluster = Cluster(self._address, count or self._count, number)
        self.processes[number] = in_process(_main, cluster, folder, self._work, *self._settings)
        return self.processes[number]

    def end(self):
        """Starts those that have not been, waits for all, and returns their exit statuses."""
        for number in set(range(self._count)) - set(self.processes):
            self.start(number)
        for process in self.processes.values():
            process.join(120)
        return [process.exitcode for _, process in sorted(self.processes.items())]

    def lines(self, stream="err"):
        """What each has written, without what gloo says of itself."""
        texts = [(self._folder / f"{stream}.{n}").read_text() for n in sorted(self.processes)]
        return [[x for x in text.splitlines() if not x.startswith("[Gloo]")] for text in texts]


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _main(cluster, folder, work, devices, timeout):
    for descriptor, stream in ((1, "out"), (2, "err")):
        file = os.open(folder / f"{stream}.{cluster.index}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    jax.config.update("jax_num_cpu_devices", devices)
    if cluster.count == 1:
        os._exit(work())
    run_together(work, cluster, timeout=timeout)


def train_small(config, workdir, hurt=None):
    """Trains a small run; ``hurt`` is a process, a signal to it, and the step when it comes."""
    run = prepare_small(config, workdir)
    if hurt is not None and hurt[0] == processes.index():
        run = run._replace(feed=_Hurt(run.feed, *hurt[1:]))
    try:
        train(run)
    except Stopped as stopped:
        print(stopped, flush=True)
        return RESUMABLE
    return 0


class _Hurt:
    """A feed that sends a signal to its process as the input of a step is asked for."""

    def __init__(self, feed, number, step):
        self.__dict__.update(feed=feed, number=number, step=step)

    def __getattr__(self, name):
        return getattr(self.feed, name)

    def train_inputs(self, first_step):
        for step, inputs in enumerate(self.feed.train_inputs(first_step), start=first_step):
            if step == self.step:
                os.kill(os.getpid(), self.number)
            yield inputs


TERM, KILL = signal.SIGTERM, signal.SIGKILL
