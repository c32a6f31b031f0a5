"""How far work is: a bar on a terminal, lines in a log."""

import io

import pytest

from jaxws.system import terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_progress_is_shown_where_somebody_can_see_it(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(terminal, "LINE_SECONDS", -1.0)
    assert list(terminal.track(range(3), "Writing", total=2500, weight=1000)) == [0, 1, 2]
    lines = ["Writing: 0% of 2500", "Writing: 40% of 2500", "Writing: 80% of 2500"]
    if not stream.isatty():
        assert stream.getvalue().splitlines() == lines
    assert "Writing" in stream.getvalue()


def test_a_log_is_told_twice_a_minute(monkeypatch):
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    list(terminal.track(range(60), "Writing", total=3000, weight=50))
    assert 10 <= len(stream.getvalue().splitlines()) <= 20


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_little_work_is_done_without_a_word(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(terminal, "LINE_SECONDS", -1.0)
    assert list(terminal.track("ab", "Writing", total=2)) == ["a", "b"]
    assert not stream.getvalue()
