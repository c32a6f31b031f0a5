"""Lines and the bar, as a log and a terminal show them."""

import io

import pytest
from rich.console import Console

from jaxws import progress
from jaxws.progress import Progress, summary_rows

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
    with Progress(last_step=10_000, first_step=0) as shown:
        for number in range(1, 1001):  # 100 s
            clock.now += 0.1
            step(shown, number, left=3661.4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 30")
    assert lines[0].endswith("/10000  loss 2.500  100 images/s  data wait 2 %  left 1:01:01")


def test_epochs_and_events_always_get_a_line(clock, capsys):
    with Progress(last_step=400, first_step=150) as shown:
        shown.epoch(EPOCH, epochs=4, seconds_left=65)
        shown.note("checkpoint [200] is damaged")  # rich would take [200] for a style
        step(shown, 201)
        shown.epoch(EPOCH | {"images_per_second": None, "data_wait": None}, 4, seconds_left=None)
    first, event, unknown = capsys.readouterr().out.splitlines()
    assert first == (
        "epoch 2/4  loss 1.0000  train 50.00 %  test 25.00 %  1234 images/s  data wait 12 %"
        "  left 0:01:05"
    )
    assert event == "checkpoint [200] is damaged"
    assert unknown.endswith("... images/s  data wait ...  left ...")


def test_a_terminal_gets_a_bar_that_starts_where_the_run_does(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    with Progress(last_step=400, first_step=150) as shown:
        step(shown, 151, left=65)
        shown.epoch(EPOCH, epochs=4, seconds_left=65)
    text = file.getvalue()
    assert "151/400" in text
    assert "loss 2.500 data wait 2 %" in text
    assert "left 0:01:05" in text
    assert "epoch 2/4" in text
    assert "step 151/400  loss" not in text  # the line of logs


def test_the_summary_of_a_run_without_rates():
    assert dict(summary_rows(EPOCH | {"images_per_second": None}))["images/s, last epoch"] == "..."
