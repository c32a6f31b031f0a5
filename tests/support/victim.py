"""Runs in processes of their own, which are killed at a point of their choice.

They are forked from a server that has imported everything, as that takes seconds.
"""

import multiprocessing
import os
import signal
import sys
from typing import NamedTuple

import jaxws.checkpointing.manager
from jaxws.training.loop import train
from jaxws.training.signals import Stopped
from tests.support.small_run import prepare_small

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.victim"])


class Kill(NamedTuple):
    """A signal that a run sends to itself as it prepares the input of a step, as it writes a
    checkpoint of that step or a later one, or as it evaluates after it."""

    number: int
    where: str  # "input", "save" or "evaluation"
    step: int


def in_process(target, *arguments):
    """Calls a function in a process of its own, and returns that when it has begun."""
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


def train_in_process(config, workdir, kill=None):
    """Trains until the end or a signal; returns the exit status."""
    process = in_process(_train, config, workdir, kill)
    process.join()
    return process.exitcode


def _train(config, workdir, kill):
    run = prepare_small(config, workdir)
    if kill is not None:
        run = run._replace(feed=_Feed(run.feed, kill))
        if kill.where == "save":
            _kill_in_save(kill)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        train(run)
    except Stopped:
        sys.exit(75)


def _kill_in_save(kill):
    """All files are written, and have not got their name."""
    write, sent = jaxws.checkpointing.manager.write_checksums, []

    def write_and_die(directory, **arguments):
        write(directory, **arguments)
        if int(directory.name.partition(".")[0]) >= kill.step and not sent:
            sent.append(kill)
            os.kill(os.getpid(), kill.number)

    jaxws.checkpointing.manager.write_checksums = write_and_die


class _Feed:
    """A feed that kills the process which asks for inputs, once."""

    def __init__(self, feed, kill):
        self._feed, self._kill, self._asked, self._sent = feed, kill, 0, False

    def __getattr__(self, name):
        return getattr(self._feed, name)

    def _reach(self, where, is_time):
        if where == self._kill.where and is_time and not self._sent:
            self._sent = True
            os.kill(os.getpid(), self._kill.number)

    def train_inputs(self, first_step):
        for step, inputs in enumerate(self._feed.train_inputs(first_step), start=first_step):
            self._asked = step
            self._reach("input", step == self._kill.step)
            yield inputs

    def eval_inputs(self):
        for inputs in self._feed.eval_inputs():
            self._reach("evaluation", self._asked >= self._kill.step)
            yield inputs


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
