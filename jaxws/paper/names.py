"""Names of runs, such as ``table5/cifar10/lc-ws1/seed3``: in commands, directories and results."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

from jaxws.paper.experiments import Row, experiment_rows
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import RUNS

_SEED = re.compile(r"seed(0|[1-9]\d{0,8})")
_LISTED = "python -m jaxws paper list shows all rows"


class RunName(NamedTuple):
    """The name of a run, or of a row, which has no seed.

    Attributes:
      scale: one of :data:`jaxws.paper.scales.SCALES`.
      experiment: such as ``'table5'``.
      dataset: such as ``'cifar10'``.
      row: such as ``'lc-ws1'``.
      seed: of weights, order and augmentation; None for all of a row.

    Example:
      >>> str(RunName("paper", "table5", "cifar10", "lc-ws1", 3))
      'table5/cifar10/lc-ws1/seed3'
      >>> str(RunName("small", "table5", "digits", "conv"))
      'small/table5/digits/conv'
    """

    scale: str
    experiment: str
    dataset: str
    row: str
    seed: int | None = None

    def __str__(self) -> str:
        """The name; the published scale goes without saying."""
        scale = [] if SCALES[self.scale].is_paper else [self.scale]
        seed = [] if self.seed is None else [f"seed{self.seed}"]
        return "/".join([*scale, self.experiment, self.dataset, self.row, *seed])

    def of_row(self) -> RunName:
        """The name of its row."""
        return self._replace(seed=None)

    def with_seed(self, seed: int) -> RunName:
        """The name of a run of its row."""
        return self._replace(seed=seed)

    def find(self) -> Row:
        """What the row changes."""
        rows = experiment_rows(self.scale, self.experiment, self.dataset)
        return next(row for row in rows if row.name == self.row)

    def starts_from(self) -> RunName | None:
        """The name of the run, or row, from whose trained weights it starts, if from any."""
        first = self.find().starts_from
        return self._replace(experiment="table5", row=first) if first else None


@cache
def all_rows() -> tuple[RunName, ...]:
    """The names of all rows of all scales.

    Returns:
      Names without seeds, in the order of the paper.

    Example:
      >>> str(all_rows()[0])
      'table4/cifar10/conv'
    """
    return tuple(
        RunName(scale.name, experiment, dataset, row.name)
        for scale in SCALES.values()
        for experiment in scale.experiments
        for dataset in scale.datasets
        for row in experiment_rows(scale.name, experiment, dataset)
    )


def parse_name(text: str) -> RunName:
    """Reads the name of a row or run.

    Args:
      text: such as ``'table5/cifar10/lc-ws1'`` or ``'small/table5/digits/lc-ws1/seed3'``;
        ``'paper/table5/...'`` is ``'table5/...'``.

    Returns:
      The name; without a seed where the text has none.

    Raises:
      ValueError: there is no such row, or no such seed.

    Example:
      >>> parse_name("table5/cifar10/lc-ws1/seed3").seed
      3
      >>> parse_name("table5/cifar10/lc-ws3")
      Traceback (most recent call last):
      ValueError: no row is called 'table5/cifar10/lc-ws3': did you mean 'table5/cifar10/lc-ws1'?
    """
    known = _rows_by_name()
    wanted = text.strip("/").removeprefix("paper/")
    row, _, last = wanted.rpartition("/")
    if wanted in known:
        return known[wanted]
    if row not in known:
        raise ValueError(f"no row is called {text!r}: {_hint(wanted)}")
    if not (seed := _SEED.fullmatch(last)):
        raise ValueError(f"no run is called {text!r}: expected a seed, as in '{row}/seed0'.")
    return known[row].with_seed(int(seed[1]))


@cache
def _rows_by_name() -> dict[str, RunName]:
    return {str(name): name for name in all_rows()}


def _hint(wanted: str) -> str:
    """What may have been meant by a name that there is not."""
    known = list(_rows_by_name())
    if begun := [name for name in known if name.startswith(f"{wanted}/")]:
        return f"expected a whole name, such as {begun[0]!r}."
    row = wanted.lower().rpartition("/seed")[0] or wanted.lower()
    near = difflib.get_close_matches(row, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"{_LISTED}."


def usual_seeds(name: RunName) -> range:
    """The seeds of a row, where none are asked for.

    Args:
      name: of a row or run.

    Returns:
      As many as the scale has, and no more than the paper has runs of the row.

    Example:
      >>> [usual_seeds(parse_name(name)) for name in ("table5/cifar10/lc", "table13/imagenet/lc")]
      [range(0, 5), range(0, 1)]
    """
    seeds = SCALES[name.scale].seeds
    return range(min(seeds, RUNS.get(name.experiment, seeds)))


def select(
    patterns: Sequence[str] = (), scale: str | None = None, seeds: Sequence[int] | None = None
) -> tuple[RunName, ...]:
    """The runs that a command line asks for.

    Args:
      patterns: beginnings of names, such as ``'table5'`` or ``'small/table5/digits/lc-ws1/seed3'``,
        whole parts each; ``*`` stands for anything within a part. None for all of a scale.
      scale: of which runs are taken; None for the scales that patterns name, or the paper's.
      seeds: of rows that are asked for without a seed; None for those of the scale: 0, 1, ...

    Returns:
      Names with seeds, each once, in the order of :func:`all_rows`.

    Raises:
      ValueError: a scale that there is not, or a pattern that nothing fits.

    Example:
      >>> [str(name) for name in select(["table5/*/conv"], seeds=[0])]
      ['table5/cifar10/conv/seed0', 'table5/cifar100/conv/seed0', 'table5/tiny_imagenet/conv/seed0']
      >>> len(select(scale="small"))
      105
    """
    if scale is not None and scale not in SCALES:
        raise ValueError(f"--scale={scale}: expected one of {', '.join(SCALES)}.")
    chosen: dict[RunName, None] = {}
    for pattern in patterns or ("*",):
        found = list(_matching(pattern, scale, seeds))
        if not found:
            raise ValueError(_no_match(pattern, scale))
        chosen |= dict.fromkeys(found)
    order = {name: index for index, name in enumerate(all_rows())}
    return tuple(sorted(chosen, key=lambda name: (order[name.of_row()], name.seed)))


def _matching(pattern: str, scale: str | None, seeds: Sequence[int] | None) -> Iterator[RunName]:
    """Runs of rows whose names begin with a pattern, part by part."""
    parts = pattern.strip("/").split("/")
    if parts[0] in SCALES:  # 'paper/table5' is 'table5'
        if scale not in (None, parts[0]):
            return
        scale, parts = parts[0], parts[1:]
    scale = scale or "paper"
    seed = _SEED.fullmatch(parts[3]) if len(parts) == 4 else None
    if len(parts) > 4 or (len(parts) == 4 and not seed and parts[3] != "*"):
        return
    for name in all_rows():
        if name.scale == scale and all(
            fnmatchcase(own, part) for part, own in zip(parts[:3], name[1:4], strict=False)
        ):
            numbers = [int(seed[1])] if seed else usual_seeds(name) if seeds is None else seeds
            yield from map(name.with_seed, numbers)


def _no_match(pattern: str, scale: str | None) -> str:
    """What is wrong with a pattern that nothing fits."""
    among = f" among the runs of --scale={scale}" if scale else ""
    text = f"nothing fits {pattern!r}{among}"
    if scale and pattern.strip("/").split("/")[0] in set(SCALES) - {scale}:
        return f"{text}: leave one of the two scales out."
    for other in SCALES:
        if scale is None and any(_matching(pattern, other, None)):
            return f"{text}: did you mean '{other}/{pattern}'?"
    known = sorted({part for name in all_rows() for part in name[1:4]} | set(SCALES))
    for part in pattern.strip("/").split("/"):
        if not _SEED.fullmatch(part) and not any(fnmatchcase(own, part) for own in known):
            near = difflib.get_close_matches(part.lower(), known, n=1, cutoff=0.6)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            return f"{text}: no part of a name is {part!r}{hint}; {_LISTED}."
    return f"{text}: a name is EXPERIMENT/DATASET/ROW/seedN, or the beginning of it; {_LISTED}."
