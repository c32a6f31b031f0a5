"""How far the runs of a row are, and what those that are done have come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from jaxws.paper.configs import row_config
from jaxws.paper.names import RunName
from jaxws.paper.state import DONE, MISSING, RunState, run_state
from jaxws.paper.stats import Stats, stats_of


class RunProgress(NamedTuple):
    """A run.

    Attributes:
      name: with its seed.
      state: what there is of it.
    """

    name: RunName
    state: RunState

    def score(self, metric: str) -> float | None:
        """A score after the last epoch so far.

        Args:
          metric: such as ``'test_top1'``.

        Returns:
          In %; None where there is none yet, or the directory holds another run.
        """
        epochs = self.state.run.of_kind("epoch") if self.state.run and self.state.epochs else []
        value = epochs[-1].get(metric) if epochs else None
        return None if value is None else 100 * value


class RowProgress(NamedTuple):
    """A row.

    Attributes:
      name: without a seed.
      runs: those that were asked for.
    """

    name: RunName
    runs: Sequence[RunProgress]

    @property
    def kinds(self) -> list[str]:
        """Of what kind the states of its runs are."""
        return [run.state.kind for run in self.runs]

    def score(self, metric: str) -> Stats | None:
        """The score of the runs that are done.

        Args:
          metric: such as ``'test_top1'``.

        Returns:
          The score; None where no run is done.
        """
        return stats_of(run.score(metric) for run in self.runs if run.state.kind == DONE)


def look(names: Iterable[RunName], runs: Path) -> list[RowProgress]:
    """Looks how far runs are.

    Args:
      names: of runs, those of a row one after another.
      runs: directory of all runs, each in one of its name.

    Returns:
      Their rows.

    Example:
      >>> from jaxws.paper.names import select
      >>> [row] = look(select(["table5/cifar10/lc"], seeds=[0, 1]), Path("nowhere"))
      >>> row.kinds
      ['missing', 'missing']
    """
    return [
        RowProgress(row, _look_at_row(row, list(of_row), runs))
        for row, of_row in groupby(names, RunName.of_row)
    ]


def _look_at_row(row: RunName, names: Sequence[RunName], runs: Path) -> list[RunProgress]:
    # A configuration takes longer to make than it takes to see that there is nothing.
    config = row_config(row) if any((runs / str(name)).exists() for name in names) else None
    found = []
    for name in names:
        state = RunState(MISSING)
        if config is not None:
            config.seed = name.seed
            state = run_state(runs / str(name), config, name.find().starts_from)
        found.append(RunProgress(name, state))
    return found
