"""Rates and the time left, by a clock that moves as steps, inputs and evaluations say."""

import pytest

from jaxws.records import throughput
from jaxws.records.throughput import Throughput

COMPILE, STEP, EVALUATION = 100.0, 2.0, 7.0


class Timer:
    seconds = 0.0


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: Clock.now)
    return Clock


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def meter(clock, timer):
    return Throughput(timer)


def train(clock, meter, steps, compiles=False):
    meter.begin()
    for step in range(steps):
        clock.now += STEP + (COMPILE if compiles and step == 0 else 0.0)
        meter.step(images=8)


def test_compilation_is_no_part_of_any_rate(clock, timer, meter):
    train(clock, meter, steps=1, compiles=True)
    nothing = {"step_seconds": None, "images_per_second": None, "data_wait": None}
    assert meter.since_log() == nothing
    assert meter.seconds_left(steps=5, evaluations=1) is None
    meter.end()
    train(clock, meter, steps=3)
    timer.seconds += 2
    clock.now += STEP
    meter.step(images=8)
    assert meter.since_log() == {
        "step_seconds": STEP,
        "images_per_second": 8 / STEP,
        "data_wait": 0.25,
    }
    assert meter.since_log() == nothing
    assert meter.since_epoch()["step_seconds"] == STEP


def test_logs_count_from_the_last_one_and_epochs_from_their_beginning(clock, timer, meter):
    train(clock, meter, steps=3, compiles=True)
    assert meter.since_log()["step_seconds"] == STEP
    clock.now += 6
    timer.seconds += 3
    meter.step(images=4)
    assert meter.since_log() == {"step_seconds": 6, "images_per_second": 4 / 6, "data_wait": 0.5}
    assert meter.since_epoch() == {
        "step_seconds": 10 / 3,
        "images_per_second": 20 / 10,
        "data_wait": 3 / 10,
    }


def test_the_time_left_counts_evaluations_and_forgets_what_happens_once(clock, timer, meter):
    train(clock, meter, steps=5, compiles=True)
    assert meter.seconds_left(steps=10, evaluations=2) == 10 * STEP  # no evaluation measured yet
    meter.end()
    clock.now += EVALUATION + COMPILE
    assert meter.seconds_left(steps=10, evaluations=2) == 10 * STEP
    train(clock, meter, steps=5)
    meter.end()
    clock.now += EVALUATION
    train(clock, meter, steps=2)
    assert meter.seconds_left(steps=10, evaluations=2) == 10 * STEP + 2 * EVALUATION
    meter.end()
    meter.begin(evaluated=False)  # only a checkpoint, in no time
    assert meter.seconds_left(steps=10, evaluations=2) == 10 * STEP + 2 * EVALUATION
    assert meter.seconds_left(steps=0, evaluations=0) == 0


def test_the_end_of_a_run_of_one_step(clock, timer, meter):
    train(clock, meter, steps=1, compiles=True)
    meter.end()
    assert meter.seconds_left(steps=0, evaluations=0) == 0
