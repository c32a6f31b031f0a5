"""What runs cost: measured on steps of known lengths, kept, added up and corrected."""

import sys
from pathlib import Path

import pytest

from jaxws.paper import costs, measuring
from jaxws.paper.configs import row_config
from jaxws.paper.costs import Cost, Costs, kind_of, known_hours, program_of
from jaxws.paper.jobs import make_job
from jaxws.paper.names import parse_name
from jaxws.paper.slots import Slot
from tests.support import paced_run
from tests.support.paced_run import Clock, Pace, PacedRun

COST = Cost(5, 20, 0.1, 2, 100, 1e9, 1e6)
# Seconds; those of a large network are between those that an epoch may take and those it may not.
SMALL = Pace(start=2, compile=3, step=0.3, evaluation=2, ending=1)
LARGE = Pace(start=20, compile=60, step=9, evaluation=100, ending=10)


@pytest.fixture
def paced(monkeypatch):
    """Measures a job whose run has a pace; also, the arguments of each start."""
    clock, started = Clock(), []
    monkeypatch.setattr(measuring.time, "sleep", clock.sleep)

    def measured(job, pace):
        def start(timed, slot, state, log, command):
            started.append(timed.arguments)
            return PacedRun(pace, clock, timed, log)

        found = []
        monkeypatch.setattr(measuring, "Running", start)
        measuring.measure([job], [Slot()], lambda job, cost: found.append((job, cost)))
        assert [each for each, _ in found] == [job]
        return found[0][1]

    return measured, started


def test_a_run_of_short_epochs_is_started_twice(paced, tmp_path):
    measured, started = paced
    cost = measured(
        make_job(parse_name("small/table4/digits/conv/seed0"), tmp_path / "runs"), SMALL
    )
    # What is seen is seen up to a twentieth of a second late.
    assert cost.start == pytest.approx(SMALL.start + SMALL.ending, abs=0.15)
    assert cost.compile == pytest.approx(SMALL.compile, abs=0.15)
    assert cost.step == pytest.approx(SMALL.step)
    assert cost.evaluation == pytest.approx(SMALL.evaluation, abs=0.15)
    assert cost[4:] == (paced_run.STEPS, paced_run.MEMORY, paced_run.CHECKPOINT)
    assert len(started) == 2 and started[0] == started[1]
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_epochs_are_too_long_to_be_awaited_is_started_once(paced, tmp_path):
    """And the network that it starts from need not be there."""
    measured, started = paced
    job = make_job(parse_name("untied/cifar10/lc-from-conv/seed0"), tmp_path)
    job.config.batch_size, job.config.model.width = 8, 4000
    cost = measured(job, LARGE)
    assert cost.step == pytest.approx(LARGE.step, abs=0.15) and cost.compile == 0
    assert cost.start == pytest.approx(LARGE.start + LARGE.compile + LARGE.ending, abs=0.15)
    assert cost.steps_per_epoch == 3
    assert cost.evaluation == pytest.approx(cost.step / 3 * 12 / 8)
    assert len(started) == 1 and "--config.log_every=1" in started[0]
    assert not any("init_from" in argument for argument in started[0])


def test_a_run_that_fails_is_told_by_its_last_line(tmp_path):
    job = make_job(parse_name("small/table4/digits/conv/seed0"), tmp_path)
    failing = [sys.executable, "-c", "raise SystemExit('no such data')"]
    with pytest.raises(ValueError, match="conv/seed0 cannot be measured: no such data"):
        measuring.measure([job], [Slot()], lambda *_: None, lambda _: failing)


def test_costs_are_kept_for_each_machine_and_kind_and_corrected(tmp_path, monkeypatch):
    file, config = tmp_path / "cache" / "costs.json", row_config("small/table5/digits/lc-ws10")
    Costs(file).keep(config, COST)
    same = row_config("small/table6/digits/lc-ws100/seed4")
    assert Costs(file).cost(same) == COST
    assert Costs(file).cost(row_config("small/table5/digits/lc-ws1")) is None
    assert program_of(config) != program_of(same) and kind_of(config) == kind_of(same)
    same.data.split = "tuning"  # of a search, whose epochs are shorter
    assert kind_of(config) != kind_of(same)
    # 20 epochs of 100 steps, of which each fifth is evaluated: 5 + 200 + 4 * 2 s.
    assert COST.seconds(config) == pytest.approx(213)
    assert COST.seconds(config, epoch=17) == pytest.approx(5 + 30 + 2)
    assert COST.disk(config) == 1e6  # the last checkpoint alone
    costs_now = Costs(file)
    costs_now.learn(config, seconds=421, memory=2e9)
    assert costs_now.cost(config).seconds(config) == pytest.approx(421)
    assert Costs(file).cost(config).memory == 2e9
    monkeypatch.setattr(costs, "user_cache", lambda: file.parent)
    file.rename(file.parent / "paper-costs.json")
    assert known_hours(parse_name("small/table5/digits/lc-ws10")) == pytest.approx(421 / 3600)
    assert known_hours(parse_name("table5/cifar10/conv")) is None
    monkeypatch.setattr(costs, "machine", lambda: "another")
    assert known_hours(parse_name("small/table5/digits/lc-ws10")) is None


@pytest.mark.parametrize("content", [None, "{", "[]", "null", '{"MACHINE": []}', '{"MACHINE": {}}'])
def test_a_damaged_file_counts_as_none(tmp_path, content):
    file = tmp_path / "costs.json"
    if content is not None:
        file.write_text(content.replace("MACHINE", costs.machine()))
    config = row_config("small/table5/digits/lc")
    assert Costs(file).cost(config) is None
    Costs(file).keep(config, COST._replace(step=float("nan")))
    assert Costs(file).cost(config) is None
    Costs(file).keep(config, COST)
    assert Costs(file).cost(config) == COST


def test_a_cache_that_cannot_be_written_stops_nothing():
    Costs(Path("/dev/null/costs.json")).keep(row_config("small/table5/digits/lc"), COST)
