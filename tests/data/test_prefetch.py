"""The thread that makes the next inputs, and the measure of how long steps wait for them."""

import threading
import time

import pytest

from jaxws.data import Prefetch
from jaxws.records import throughput
from jaxws.records.throughput import InputTimer


class Source:
    """Counts up to an end, and notes how far it has been asked."""

    def __init__(self, end, error=StopIteration):
        self.made, self.closed, self._end, self._error = 0, False, end, error

    def __iter__(self):
        return self

    def __next__(self):
        if self.made == self._end:
            raise self._error
        self.made += 1
        return self.made

    def close(self):
        self.closed = True


def settle(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert condition()


def test_items_come_in_order_and_to_an_end():
    with Prefetch(Source(5), ahead=2) as items:
        assert list(items) == [1, 2, 3, 4, 5]
        with pytest.raises(StopIteration):
            next(items)


def test_no_more_than_asked_for_are_held():
    source = Source(100)
    with Prefetch(source, ahead=3) as items:
        settle(lambda: source.made == 3)
        time.sleep(0.02)
        assert source.made == 3
        assert next(items) == 1
        settle(lambda: source.made == 4)


@pytest.mark.parametrize("taken", [0, 1])
def test_closing_ends_the_thread_and_the_source(taken):
    source, before = Source(100), threading.active_count()
    items = Prefetch(source, ahead=1)
    for _ in range(taken):
        next(items)
    items.close()
    assert source.closed
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(items)
    items.close()


def test_errors_reach_the_one_who_asks_after_what_came_before():
    source = Source(2, ZeroDivisionError("of the source"))
    with Prefetch(source, ahead=9) as items:
        assert [next(items), next(items)] == [1, 2]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="of the source"):
                next(items)
    assert source.closed


def test_an_exception_in_the_middle_closes():
    source = Source(100)
    with pytest.raises(KeyboardInterrupt), Prefetch(source, ahead=2) as items:
        next(items)
        raise KeyboardInterrupt
    assert source.closed


def test_nothing_ahead_is_refused():
    with pytest.raises(ValueError, match="prefetch is 0"):
        Prefetch(Source(1), ahead=0)


def test_only_time_with_nothing_to_compute_counts(monkeypatch):
    """By a clock that moves as inputs and steps say."""
    clock = 0.0

    def pass_time(seconds):
        nonlocal clock
        clock += seconds

    class Inputs:
        """Each is there `late` seconds after it was asked for."""

        def __init__(self, late):
            self._late = iter(late)

        def ready(self):
            self._next = next(self._late)
            return self._next == 0

        def __next__(self):
            pass_time(self._next)

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock)
    monkeypatch.setattr(throughput.jax, "block_until_ready", pass_time)
    timer = InputTimer(Inputs([1, 0, 2, 0]))
    timer.next(pending=3)  # the device computes for 3 s, then the input is 1 s late
    assert timer.seconds == 1
    timer.next(pending=3)  # ready: nobody waits for the device
    pass_time(4)
    assert (timer.seconds, clock) == (1, 8)
    timer.next(pending=0)
    timer.next(pending=5)
    assert timer.seconds == 3
