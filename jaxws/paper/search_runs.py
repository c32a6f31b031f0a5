"""The runs of a search: as jobs, as scores once they have ended, and which is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxws.paper.configs import row_config
from jaxws.paper.jobs import Job, job_state
from jaxws.paper.names import RunName
from jaxws.paper.scales import SCALES
from jaxws.paper.search import Candidate, candidates
from jaxws.paper.searches import Score
from jaxws.paper.state import DAMAGED, DIVERGED, DONE, RunState

ENDED = (DONE, DIVERGED)
_TOP1, _LOSS = "test_top1", "test_loss"  # of the held-out images, in a run for tuning


def search_job(candidate: Candidate, runs: Path, given: Mapping[str, Any] | None = None) -> Job:
    """The job of a run of a search.

    Args:
      candidate: the run.
      runs: directory of all runs.
      given: values of fields, see :func:`jaxws.paper.jobs.check_settable`.

    Returns:
      The job.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> job = search_job(candidates(parse_name("table5/tiny_imagenet/lc"))[0], Path("runs"))
      >>> job.config.epochs, job.config.data.split
      (50, 'tuning')
    """
    fields = {**(given or {}), **candidate.changes}
    config = row_config(candidate.row)
    config.update_from_flattened_dict(fields)
    changes = (f"--config.{key}={value}" for key, value in fields.items())
    workdir = candidate.workdir(runs)
    name = workdir.relative_to(runs).as_posix()
    return Job(name, workdir, (f"--config=paper:{candidate.row}", *changes), config)


def search_scores(runs: Path, row: RunName) -> tuple[list[Score], dict[str, list[str]]]:
    """What has come out of the runs of a search so far.

    Args:
      runs: directory of all runs.
      row: see :func:`jaxws.paper.search.searched_row`.

    Returns:
      A score for each run that the search needs, none of them chosen; and what the finished ones
      were made with: versions by package, and devices.
    """
    states = [(each, job_state(search_job(each, runs))) for each in candidates(row)]
    scores = [_score(each, state) for each, state in states]
    if SCALES[row.scale].decays_last:
        scores = _without_needless(scores)
    return scores, _made_with([state for _, state in states if state.kind == DONE])


def choose(scores: Sequence[Score], *, allow_partial: bool = False) -> list[Score]:
    """Marks the best run of a search.

    Args:
      scores: of its runs.
      allow_partial: also if some of them have not ended.

    Returns:
      The scores. Chosen is the run of the highest top-1; among equals that of the lowest loss, then
      that of the smallest learning rate and weight decay. None if a run has not ended, or if all
      have diverged.

    Example:
      >>> fast = Score("lc", 1e-2, 0.0, 9, "diverged")
      >>> slow = Score("lc", 1e-3, 0.0, 9, "done", 0.5, 1.5)
      >>> [score.chosen for score in choose([fast, slow])]
      [False, True]
      >>> any(score.chosen for score in choose([fast._replace(state="started"), slow]))
      False
    """
    best = _best(scores) if allow_partial or _have_ended(scores) else None
    return [score._replace(chosen=score is best) for score in scores]


def at_border(scores: Sequence[Score]) -> list[str]:
    """Where the choice of a search lies at a border of its grid, so that beyond it may be better.

    Args:
      scores: of all its runs.

    Returns:
      A phrase for each; none of an axis of two values, which lie at its borders both.

    Example:
      >>> scores = [Score("lc", rate, 0.0, 9, "done", rate, 1.0) for rate in (0.1, 0.2, 0.3)]
      >>> at_border(choose(scores))
      ['the largest learning rate of the grid, 0.3']
    """
    found = []
    for score in (score for score in scores if score.chosen):
        for axis in ("learning_rate", "weight_decay"):
            values = sorted({getattr(each, axis) for each in scores})
            for end, value in (("smallest", values[0]), ("largest", values[-1])):
                if len(values) > 2 and getattr(score, axis) == value:
                    found.append(f"the {end} {axis.replace('_', ' ')} of the grid, {value:g}")
    return found


def _score(candidate: Candidate, state: RunState) -> Score:
    epochs = candidate.changes["epochs"]
    score = Score(str(candidate.row), *candidate.rates, epochs, state.kind, note=state.note)
    if state.kind != DONE or state.run is None:
        return score
    last = state.run.of_kind("epoch")[-1]
    if last.get(_TOP1) is None or last.get(_LOSS) is None:
        return score._replace(state=DAMAGED, note=f"its last epoch has no {_TOP1} or {_LOSS}")
    return score._replace(validation_top1=last[_TOP1], validation_loss=last[_LOSS])


def _best(scores: Sequence[Score]) -> Score | None:
    def order(score: Score) -> tuple[float, ...]:
        assert score.validation_top1 is not None and score.validation_loss is not None
        return (-score.validation_top1, score.validation_loss, *score.rates)

    return min((score for score in scores if score.state == DONE), key=order, default=None)


def _have_ended(scores: Sequence[Score]) -> bool:
    return all(score.state in ENDED for score in scores)


def _without_needless(scores: Sequence[Score]) -> list[Score]:
    """All rates at the first decay; once these have ended, the other decays at the best."""
    first = [score for score in scores if score.weight_decay == scores[0].weight_decay]
    best = _best(first) if _have_ended(first) else None
    return [s for s in scores if s in first or (best and s.learning_rate == best.learning_rate)]


def _made_with(states: Sequence[RunState]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for state in states:
        sessions = state.run.provenance.get("stretches", []) if state.run else []
        for session in sessions[-1:]:
            facts = {**session["versions"], "device": session["machine"]["device"]}
            for key, value in facts.items():
                found.setdefault(key, set()).add(str(value))
    return {key: sorted(found[key]) for key in sorted(found)}
