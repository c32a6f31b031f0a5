"""Lines and the bar, as a log and a terminal show them."""

import io
import re
import time

import pytest
from rich.console import Console

from jaxws.records import progress
from jaxws.records.progress import Progress
from jaxws.records.summary import summary_rows
from jaxws.system import terminal as terminal_module

EPOCH = {
    "epoch": 2.0, "step": 200, "train_loss": 1.0, "train_top1": 0.5, "test_loss": 1.5,
    "test_top1": 0.25, "test_top5": 0.75, "images_per_second": 1234.5, "data_wait": 0.125,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def step(shown, number, left=None):
    values = {"train_loss": 2.5, "images_per_second": 99.6, "data_wait": 0.02}
    shown.step(number, values, seconds_left=left)


def test_a_log_gets_a_line_every_half_minute_at_most(clock, capsys):
    with Progress(last_step=10_000) as shown:
        shown.start(0)
        for number in range(1, 1001):  # 100 s
            clock.now += 0.1
            step(shown, number, left=3661.4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 30")
    assert lines[0].endswith("/10000  loss 2.500  100 images/s  data wait 2 %  left 1:01:01")


def test_epochs_and_events_always_get_a_line(clock, capsys):
    with Progress(last_step=400) as shown:
        shown.start(150)
        shown.epoch(EPOCH, epochs=4, seconds_left=65)
        trained = {key: value for key, value in EPOCH.items() if not key.startswith("test_")}
        shown.epoch(trained, epochs=4, seconds_left=65)
        shown.note("checkpoint [200] is damaged")  # rich would take [200] for a style
        step(shown, 201)
        shown.epoch(EPOCH | {"images_per_second": None, "data_wait": None}, 4, seconds_left=None)
    first, trained, event, unknown = capsys.readouterr().out.splitlines()
    assert first == (
        "epoch 2/4  loss 1.0000  train 50.00 %  test 25.00 %  1234 images/s  data wait 12 %"
        "  left 0:01:05"
    )
    assert trained == first.replace("  test 25.00 %", " " * 14)
    assert event == "checkpoint [200] is damaged"
    assert unknown.endswith("... images/s  data wait ...  left ...")


@pytest.fixture
def terminal(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=140, color_system=None)
    monkeypatch.setattr(terminal_module, "Console", lambda **_: console)
    return file


def test_a_terminal_gets_a_bar_that_starts_where_the_run_does(terminal):
    with Progress(last_step=400) as shown:
        shown.start(150)
        step(shown, 151, left=65)
        shown.epoch(EPOCH, epochs=4, seconds_left=65)
    text = terminal.getvalue()
    assert "151/400" in text
    assert "loss 2.500 data wait 2 % elapsed 0:00:00 left 0:01:05" in text
    assert "epoch 2/4" in text
    assert "step 151/400  loss" not in text  # the line of logs


def test_a_run_that_has_nothing_to_do_shows_no_bar(terminal):
    with Progress(last_step=400):
        pass
    assert "400" not in terminal.getvalue()


def test_a_terminal_says_how_long_a_compilation_takes(terminal, monkeypatch):
    """Before the first step; from the first second on, here the first hundredth."""
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    now = time.monotonic
    with Progress(last_step=400) as shown:
        with shown.compiling("the training step"):
            wait_until(lambda: re.search(r"compiling 0 s +0/400", terminal.getvalue()))
            monkeypatch.setattr(progress.time, "monotonic", lambda: now() + 12)
            wait_until(lambda: re.search(r"compiling 12 s +0/400", terminal.getvalue()))
        shown.start(0)
        step(shown, 1)
    assert re.findall(r"(step|compiling \d+ s) +\d+/400", terminal.getvalue())[-1] == "step"


def wait_until(condition):
    deadline = time.perf_counter() + 30
    while not condition():
        assert time.perf_counter() < deadline
        time.sleep(0.01)


def test_a_log_says_that_something_is_compiled_where_that_takes_long(capsys, monkeypatch):
    with Progress(last_step=400) as shown:
        with shown.compiling("the evaluation"):
            pass  # fast
        monkeypatch.setattr(progress, "PATIENCE", 0.01)
        with shown.compiling("the training step"):
            time.sleep(0.1)
        with pytest.raises(KeyboardInterrupt), shown.compiling("what is interrupted"):
            time.sleep(0.1)
            raise KeyboardInterrupt
    assert capsys.readouterr().out.splitlines() == [
        "compiling the training step ...",
        "compiled the training step in 0 s",
        "compiling what is interrupted ...",
    ]


def test_the_summary_of_a_run_without_rates():
    assert dict(summary_rows(EPOCH | {"images_per_second": None}))["images/s, last epoch"] == "..."
