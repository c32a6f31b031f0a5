"""Runs that are killed and resumed end like one that never was: real processes, real signals."""

import json
import signal

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from jaxws.records.workdir import Workdir
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    assert_same_bits,
    checkpoint_of,
    make_folder,
    small_config,
    timeless_lines,
)
from tests.support.victim import SIGNALS, Kill, train_in_process

LAST_STEP = 3 * STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Its first epoch is not evaluated."""
    root = tmp_path_factory.mktemp("data")
    config = small_config(make_folder(root / "images"), root / "tfds")
    config.evaluate_every = 2
    return config


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """What a run leaves that was never stopped: its last state and its metrics."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert train_in_process(config, path) == 0
    return results(config, path)


def results(config, path):
    workdir = Workdir(path, config, _facts(path))
    step, state = checkpoint_of(workdir)
    assert step == LAST_STEP
    workdir.close()
    return state, timeless_lines(workdir)


def _facts(path):
    return json.loads((path / "config.json").read_text())["dataset"]


def check_kills(config, path, kills, whole):
    """Kills a run again and again; returns the exit statuses."""
    statuses = []
    for kill in kills:
        status = train_in_process(config, path, kill)
        assert status in (0, -signal.SIGKILL if kill.number == signal.SIGKILL else 75)
        statuses.append(status)
    assert train_in_process(config, path) == 0
    state, metrics = results(config, path)
    assert_same_bits(state, whole[0])
    assert metrics == whole[1]
    return statuses


def test_a_run_that_is_killed_again_and_again(config, whole, tmp_path):
    """Within an epoch, between two batches that share, during a save and during an evaluation."""
    config = config.copy_and_resolve_references()
    config.checkpoint.every_steps = 3
    kills = [
        Kill(signal.SIGTERM, "input", 3),
        Kill(signal.SIGKILL, "save", 4),
        Kill(signal.SIGINT, "evaluation", 6),
        Kill(signal.SIGKILL, "input", 11),
    ]
    statuses = check_kills(config, tmp_path / "run", kills, whole)
    assert statuses == [75, -9, 75, -9]


KILLS = st.lists(
    st.builds(
        Kill,
        st.sampled_from(SIGNALS),
        st.sampled_from(["input", "input", "save", "evaluation"]),
        st.integers(0, LAST_STEP - 1),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_run_that_is_killed_at_random(config, whole, tmp_path_factory, part):
    """Twenty runs in all, in parts that take a minute or so."""

    @seed(part)
    @settings(max_examples=5, derandomize=False, database=None, phases=[Phase.generate])
    @given(kills=KILLS, every=st.sampled_from([None, 1, 3]))
    def check(kills, every):
        changed = config.copy_and_resolve_references()
        changed.checkpoint.every_steps = every
        statuses = check_kills(changed, tmp_path_factory.mktemp("random") / "run", kills, whole)
        for kill, status in zip(kills, statuses, strict=True):
            print(f"every={every} {kill.where} {kill.step} {kill.number} -> {status}")

    check()
