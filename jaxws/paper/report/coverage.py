"""Which runs a report lacks, why, and the commands that make them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from jaxws.paper.names import RunName, select
from jaxws.paper.report.lines import is_done
from jaxws.paper.results import Result
from jaxws.paper.state import DONE, STARTED
from jaxws.paper.state import MISSING as NONE


class Coverage:
    """What there is of the runs that a report is about."""

    def __init__(self, names: Sequence[RunName], results: Sequence[Result]):
        """Counts.

        Args:
          names: of runs that are wanted, with seeds.
          results: of any runs.
        """
        self._names = names
        self._found: Mapping[RunName, Result] = {result.name: result for result in results}
        self.done = sum(name in self._found and is_done(self._found[name]) for name in names)

    @property
    def wanted(self) -> int:
        """How many runs there should be."""
        return len(self._names)

    def not_counted(self) -> list[list[str]]:
        """Runs of which there is something that does not count.

        Returns:
          Name, state and reason of each.
        """
        found = [self._found[name] for name in self._names if name in self._found]
        return [[str(r.name), r.state, _reason(r)] for r in found if not is_done(r)]

    def commands(self) -> list[str]:
        """Commands that make what is missing, or go on with what was stopped.

        Returns:
          One for all rows of an experiment and data set that lack the same seeds, if these are all
          of its rows; else one for each row.
        """
        lacking: dict[RunName, list[int]] = defaultdict(list)
        for name in self._names:
            state = self._found[name].state if name in self._found else NONE
            if state in (NONE, STARTED):
                lacking[name.of_row()].append(name.seed or 0)
        tables: dict[tuple[str, ...], dict[RunName, list[int]]] = defaultdict(dict)
        for row, seeds in lacking.items():
            tables[row[:3]][row] = seeds
        return [line for table in tables.values() for line in _commands(table)]

    def summary(self) -> str:
        """How much of it is there, in a sentence."""
        states = Counter(state for _, state, _ in self.not_counted())
        others = "".join(f", {number} {state}" for state, number in sorted(states.items()))
        return f"{self.done} of {self.wanted} runs are done{others}."


def _reason(result: Result) -> str:
    return "has no accuracy on test images" if result.state == DONE else result.note


def _commands(lacking: Mapping[RunName, list[int]]) -> Iterator[str]:
    """Of one experiment and data set."""
    first = next(iter(lacking))
    table = str(first).removesuffix(f"/{first.row}")
    rows = {name.of_row() for name in select([table])}
    if rows == lacking.keys() and len(set(map(tuple, lacking.values()))) == 1:
        yield _command(table, lacking[first])
    else:
        yield from (_command(str(row), seeds) for row, seeds in lacking.items())


def _command(pattern: str, seeds: Sequence[int]) -> str:
    usual = {name.seed for name in select([pattern])} == set(seeds)
    told = "" if usual else f" --seeds {','.join(map(str, seeds))}"
    return f"python -m jaxws paper run {pattern}{told}"
