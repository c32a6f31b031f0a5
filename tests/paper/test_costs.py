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
from tests.support import paced_train

COST = Cost(5, 20, 0.1, 2, 100, 1e9, 1e6)
# Seconds: of a start, of a compilation, of a step, of an evaluation.
PACE = (0.2, 0.3, 0.03, 0.2)


def test_steps_of_known_lengths_are_measured(tmp_path, monkeypatch):
    """Of a run of short epochs, and of one whose epochs are too long to be awaited."""
    names = "small/table4/digits/conv/seed0", "untied/cifar10/lc-from-conv/seed0"
    jobs = [make_job(parse_name(name), tmp_path / "runs") for name in names]
    commands, found = [], []

    def command(arguments):
        commands.append(arguments)
        workdir = arguments[-1].removeprefix("--workdir=")
        return [sys.executable, "-I", "-S", paced_train.__file__, workdir, *map(str, PACE)]

    def measured(job):
        measuring.measure([job], [Slot()], lambda job, cost: found.append((job, cost)), command)
        assert found[-1][0] == job
        return found[-1][1]

    small = measured(jobs[0])
    assert 0.15 < small.start < 1 and 0.1 < small.compile < 0.6
    assert small.step == pytest.approx(0.03)
    assert 0.1 < small.evaluation < 0.5
    assert (small.steps_per_epoch, small.checkpoint) == (4, paced_train.CHECKPOINT)
    assert 1e6 < small.memory < 1e9
    assert len(commands) == 2 and commands[0] == commands[1]
    # A large one is started once, and the network that it starts from need not be there.
    monkeypatch.setattr(measuring, "_SECONDS", 0.05)
    jobs[1].config.batch_size, jobs[1].config.model.width = 8, 4000
    large = measured(jobs[1])
    assert large.step == pytest.approx(0.03, rel=0.9) and large.compile == 0
    assert large.steps_per_epoch == 3
    assert large.evaluation == pytest.approx(large.step / 3 * 12 / 8)
    assert len(commands) == 3 and "--config.log_every=1" in commands[2]
    assert not any("init_from" in argument for argument in commands[2])
    assert not (tmp_path / "runs").exists()


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
