"""How much longer runs take, from what they were expected to take and what they have taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jaxws.system.terminal import duration


class Remaining:
    """An estimate that each finished run corrects.

    Example:
      >>> remaining = Remaining({"a": 10.0, "b": 20.0, "c": None}, slots=1)
      >>> remaining.text(["b"], {})
      '1 left, about 0:00:20'
      >>> remaining.ended("a", 15.0)
      >>> remaining.text(["b", "c"], {})
      '2 left, about 0:00:45'
    """

    def __init__(self, expected: Mapping[str, float | None], slots: int):
        """Knows nothing but what is expected.

        Args:
          expected: seconds of each run, None where they are not known.
          slots: how many run at once.
        """
        self._expected, self._slots = dict(expected), slots
        self._ended: dict[str, float] = {}

    def ended(self, name: str, seconds: float) -> None:
        """Takes note of a run that is done.

        Args:
          name: of the run.
          seconds: that it has taken.
        """
        self._ended[name] = seconds

    def text(self, waiting: Iterable[str], running: Mapping[str, float]) -> str:
        """Says how much is left.

        Args:
          waiting: names of runs.
          running: seconds so far, by name.

        Returns:
          A phrase; without a time where nothing is known.
        """
        each = [self._seconds(name) for name in waiting]
        each += [
            None if (whole := self._seconds(name)) is None else max(whole - so_far, 0.0)
            for name, so_far in running.items()
        ]
        known = [seconds for seconds in each if seconds is not None]
        if not each or len(known) < len(each):
            return f"{len(each)} left"
        left = max(sum(known) / self._slots, *known)
        return f"{len(each)} left, about {duration(left)}"

    def _seconds(self, name: str) -> float | None:
        """What a run takes, as those that have ended say: relative to what was expected of them."""
        expected = self._expected.get(name)
        if expected is None:
            return sum(self._ended.values()) / len(self._ended) if self._ended else None
        pairs = [(self._expected.get(done), taken) for done, taken in self._ended.items()]
        known = [(before, taken) for before, taken in pairs if before]
        if not known:
            return expected
        return expected * sum(taken for _, taken in known) / sum(before for before, _ in known)
