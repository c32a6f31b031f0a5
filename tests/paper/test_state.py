"""How far a run is, whatever its directory holds."""

import json

import pytest

from jaxws.paper.configs import row_config
from jaxws.paper.jobs import job_state, make_job, make_jobs, resume_arguments
from jaxws.paper.names import parse_name
from jaxws.paper.rows import Rates
from jaxws.paper.state import is_done, run_state
from tests.support.paper_runs import STEPS_PER_EPOCH, write_run

NAME = "small/table4/digits/conv/seed0"
EPOCHS = 4


@pytest.fixture
def config():
    config = row_config(NAME)
    config.epochs = EPOCHS
    return config


def kind(runs, config):
    return run_state(runs / NAME, config).kind


def test_states(tmp_path, config):
    assert kind(tmp_path, config) == "missing"
    (tmp_path / NAME).mkdir(parents=True)
    assert kind(tmp_path, config) == "missing"
    workdir = write_run(tmp_path, NAME, epochs=EPOCHS, done=False)
    state = run_state(workdir, config)
    assert (state.kind, state.epoch, state.epochs, is_done(workdir)) == ("started", 2, 4, False)
    write_run(tmp_path, NAME, epochs=EPOCHS, diverged=True)
    state = run_state(workdir, config)
    assert state.kind == "diverged" and state.note.startswith("the loss is not finite")
    write_run(tmp_path, NAME, epochs=EPOCHS)
    assert kind(tmp_path, config) == "done" and is_done(workdir)


def test_a_run_is_done_once_its_last_network_is_kept(tmp_path, config):
    """A process may be killed between the last record and the last checkpoint."""
    workdir = write_run(tmp_path, NAME, epochs=EPOCHS)
    (workdir / "checkpoints").mkdir()
    assert kind(tmp_path, config) == "started" and not is_done(workdir)
    (workdir / "checkpoints" / str(EPOCHS * STEPS_PER_EPOCH)).mkdir()
    assert kind(tmp_path, config) == "done" and is_done(workdir)


def test_a_run_that_was_to_stop_early_is_not_done(tmp_path, config):
    workdir = write_run(tmp_path, NAME, epochs=EPOCHS, done=False, changes={"max_steps": 9})
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "epoch", "step": 9, "epoch": 2.25}) + "\n")
    state = run_state(workdir, config)
    assert (state.kind, state.epoch) == ("started", 2.25)


@pytest.mark.parametrize(
    ("file", "content", "note"),
    [
        ("config.json", "[1]", "config.json cannot be read"),
        ("config.json", '{"config": {"epochs": "4"}, "dataset": {}}', "config.json cannot be read"),
        ("metrics.jsonl", '{"kind": "epoch", "step": 4, "epoch": "4"}\n\n', "line 1"),
        ("metrics.jsonl", '{"kind": "epoch", "step": 4, "epoch": null}\n\n', "line 1"),
        ("provenance.json", "{", "provenance.json"),
    ],
)
def test_damage_is_told(tmp_path, config, file, content, note):
    workdir = write_run(tmp_path, NAME, epochs=EPOCHS)
    (workdir / file).write_text(content)
    state = run_state(workdir, config)
    assert state.kind == "damaged" and note in state.note
    assert is_done(workdir) is False


def test_what_is_no_directory(tmp_path, config):
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_text("")
    assert kind(tmp_path, config) == "damaged" or kind(tmp_path, config) == "missing"


def test_a_run_goes_on_as_it_began_and_not_as_another_one(tmp_path, config):
    """With the dtype and the rates that it has; unless others are asked for."""
    found = {"model.dtype": "bfloat16", "model.width": config.model.width}
    write_run(tmp_path, NAME, changes=found, done=False, rates=Rates(0.5, 0.25))
    name = parse_name(NAME)
    state = job_state(make_job(name, tmp_path))
    assert state.kind == "started"
    assert set(resume_arguments(state)) == {
        "--config.model.dtype=bfloat16",
        "--config.optimizer.learning_rate=0.5",
        "--config.optimizer.weight_decay=0.25",
    }
    assert job_state(make_job(name, tmp_path, {"model.dtype": "bfloat16"})).kind == "started"
    other = job_state(make_job(name, tmp_path, {"model.dtype": "float16"}))
    assert other.kind == "other" and "'bfloat16' there and asked to be 'float16'" in other.note
    searched = job_state(make_job(name, tmp_path, rates=Rates(0.5, 0.1)))
    assert searched.kind == "other" and "weight_decay is 0.25 there" in searched.note
    assert job_state(make_job(name, tmp_path, rates=Rates(0.5, 0.25))).kind == "started"


@pytest.mark.parametrize("starts_from", [None, "small/table5/digits/conv"])
@pytest.mark.parametrize("given", ["", "/home/me/weights"])
def test_a_run_starts_from_weights_where_its_row_does(tmp_path, config, starts_from, given):
    workdir = write_run(tmp_path, NAME, epochs=EPOCHS, changes={"model.init_from": given})
    state = run_state(workdir, config, starts_from)
    assert state.kind == ("done" if bool(given) == bool(starts_from) else "other")
    if state.kind == "other":
        assert state.note.startswith(f"starts from {'weights of another' if given else 'new'}")


def test_fields_that_tell_rows_apart_are_not_set(tmp_path):
    for field in ("epochs", "model.init_from", "max_steps", "optimizer.learning_rate"):
        with pytest.raises(ValueError, match=rf"--config\.{field} is what makes a run one of its"):
            make_jobs([parse_name(NAME)], tmp_path, {field: 1})
    fixed = make_job(parse_name("fig6/cifar10/lc-ws10-lr5e-2/seed0"), tmp_path, rates=Rates(1, 1))
    assert fixed.config.optimizer.learning_rate == 0.05
