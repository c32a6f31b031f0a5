"""Orderly stops: signals to this process where it survives them, and to others where not."""

import hashlib
import multiprocessing
import os
import signal
import threading
import time

import pytest

from jaxws.checkpointing.directory import steps_in
from jaxws.checkpointing.manager import Checkpoints
from jaxws.training import evaluation, loop, programs
from jaxws.training.signals import Signals, Stopped
from tests.support.small_run import prepare_small
from tests.support.victim import in_process

SLOW = pytest.mark.slow


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_handlers_come_back(number, capsys):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with Signals() as signals:
        assert not signals.stop_before_next()
        os.kill(os.getpid(), number)
        wait_until(lambda: signals.stop_now)
        assert signals.stop_before_next()
        assert signals.received == number.name
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert f"{number.name}: stopping after this step" in capsys.readouterr().err


def test_what_a_process_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            assert not signals.stop_now
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_takes_no_signals():
    seen = []

    def train():
        with Signals() as signals:
            seen.append(signals.stop_before_next())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [False]


def busy(ready):
    with Signals():
        ready.send(None)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**9)  # in C, for long: as a compilation


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SLOW)])
def test_a_second_signal_stops_at_once_whatever_is_going_on(number):
    ready, other = multiprocessing.Pipe()
    process = in_process(busy, other)
    ready.recv()
    os.kill(process.pid, number)
    if number == signal.SIGTERM:  # once more, as where a scheduler and its parent tell it both
        process.join(0.1)
        os.kill(process.pid, number)
    process.join(1.2)
    assert process.exitcode is None
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number


def sends(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0.2)  # until the thread has seen it


def test_during_a_compilation(config, tmp_path, monkeypatch):
    """The step that is compiled is done, and saved."""
    programs.compiled_step.clear_cache()  # which other tests may have filled
    step = programs.train_step

    def traced(*arguments, **options):
        sends()
        return step(*arguments, **options)

    monkeypatch.setattr(programs, "train_step", traced)
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(Stopped, match="SIGTERM after step 1; the checkpoint of step 1 is written"):
        loop.train(run)
    assert steps_in(run.workdir.checkpoints) == [1]
    assert [r["step"] for r in run.workdir.records()] == [1]


def test_during_an_evaluation(config, tmp_path, monkeypatch):
    """It is broken off; the run resumes with it."""
    config.max_steps = 4
    evaluate = evaluation.compiled_eval_step

    def signalled(*arguments, **options):
        sends(signal.SIGINT)
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "compiled_eval_step", signalled)
        with pytest.raises(Stopped, match="SIGINT after step 4; the checkpoint of step 4"):
            loop.train(prepare_small(config, tmp_path / "run"))
    run = prepare_small(config, tmp_path / "run")
    record = loop.train(run)
    assert (record["step"], record["epoch"]) == (4, 1)
    assert [r["step"] for r in run.workdir.records()] == [1, 2, 3, 4, 4]
    assert loop.train(prepare_small(config, tmp_path / "run")) == record


def test_before_the_first_step_and_where_nothing_can_be_saved(config, tmp_path, monkeypatch):
    run = prepare_small(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "restore", lambda *_: sends())
        with pytest.raises(
            Stopped, match="after step 0; that step could not be saved, there is no"
        ):
            loop.train(run)
    assert steps_in(run.workdir.checkpoints) == []
