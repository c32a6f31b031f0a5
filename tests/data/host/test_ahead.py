"""Workers that are killed, and waits for workers that are cut short."""

import logging
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from jaxws.data import Prefetch
from jaxws.data.host import ahead
from jaxws.data.host.ahead import MadeAhead
from jaxws.data.host.batches import HostBatch

KILLED = "Worker process was terminated unexpectedly with exit code -9. Search the logs."


class Workers:
    """What is asked of Grain, with workers that end at some batches."""

    def __init__(self, ends, starts=None, first=0):
        self.ends, self.starts, self.first = ends, starts if starts is not None else [], first

    def __getitem__(self, part):
        return Workers(self.ends, self.starts, self.first + part.start)

    def to_iter_dataset(self, options):
        return self

    def mp_prefetch(self, options, worker_init_fn):
        return self

    def __iter__(self):
        self.starts.append(self.first)
        return self

    def __next__(self):
        number, self.first = self.first, self.first + 1
        if number in self.ends:
            raise RuntimeError(self.ends.pop(number))
        if number == 6:
            raise StopIteration
        return HostBatch(np.zeros(1), np.full(1, number))

    def close(self):
        pass


def test_killed_workers_are_started_anew_at_the_batch_that_is_missing(caplog):
    workers = Workers({0: KILLED, 2: KILLED, 5: KILLED})
    with caplog.at_level(logging.WARNING):
        batches = list(MadeAhead(workers, workers=2))
    assert [int(batch.label[0]) for batch in batches] == list(range(6))
    assert workers.starts == [0, 0, 2, 5]
    assert [record.getMessage()[-13:] for record in caplog.records] == ["exit code -9)"] * 3


@pytest.mark.parametrize("message", [KILLED.replace("-9", "1"), "no room"])
def test_workers_that_fail_of_themselves_end_the_run(message):
    made = MadeAhead(Workers({1: message}), workers=2)
    next(made)
    with pytest.raises(ValueError, match=r"broke off .*--config\.data\.workers"):
        next(made)


def test_workers_that_are_killed_again_and_again_end_the_run():
    made = MadeAhead(Workers(dict.fromkeys(range(6), KILLED)), workers=2)
    with pytest.raises(ValueError, match="broke off"):
        list(made)
    assert made._restarts == 3


class Starting:
    """Workers that take for ever to start, unless they are told to end."""

    def __init__(self):
        self.told = threading.Event()

    def __next__(self):
        assert self.told.wait(60)
        raise ValueError("the input pipeline broke off")

    def interrupt(self):
        self.told.set()


def test_a_wait_for_workers_can_be_cut_short():
    class Told(Exception):
        pass

    def stop():
        raise Told

    begin = time.monotonic()
    with pytest.raises(Told), Prefetch(Starting(), 2, stop) as inputs:
        next(inputs)
    assert time.monotonic() - begin < 30
    Prefetch(Starting(), 2).close()


def test_only_workers_of_its_own_are_ended(monkeypatch):
    """Of those that were there before, and of other processes that came later, none is."""
    ended = []
    names = ["grain-before", "grain-own", "other"]
    processes = [
        SimpleNamespace(name=name, terminate=partial(ended.append, name)) for name in names
    ]
    there = processes[:1]
    monkeypatch.setattr(ahead.multiprocessing, "active_children", lambda: there)
    made = MadeAhead(Workers({}), workers=2)
    there = processes
    next(made)  # The other worker may still be starting.
    made.interrupt()
    assert ended == ["grain-own"]
    next(made)
    made.interrupt()
    assert ended == ["grain-own"]
