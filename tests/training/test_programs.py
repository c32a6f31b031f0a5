"""Programs are compiled once for equal settings, for one device, with the fast kernels."""

import jax
import pytest

from jaxws.commands.evaluate import evaluate
from jaxws.core.implementations import native
from jaxws.records.run_directory import read_run
from jaxws.training.evaluation import compiled_eval_step
from jaxws.training.loop import train
from jaxws.training.optimizers import optimizer_settings
from jaxws.training.programs import compiled_initial_state, compiled_step, step_settings
from tests.support.compilations import compilations
from tests.support.small_run import Small, prepare_small


def forget_programs():
    """As in a process that has run no other test; the disk remembers what those compiled."""
    for program in (compiled_initial_state, compiled_step, compiled_eval_step):
        program.clear_cache()


@pytest.mark.parametrize("every", [1, 2])
def test_runs_of_equal_settings_share_their_programs(config, tmp_path, every, monkeypatch):
    """A seed is no setting; a run that resumes finds the programs of others, as does a command."""
    config.sharing.every, config.max_steps = every, 5
    forget_programs()
    with compilations() as names:
        train(prepare_small(config, tmp_path / "first"))
    steps = ["jit(compiled_step)"] * (2 if every == 1 else 1)  # pooled weights are another program
    assert [name for name in names if name == "jit(compiled_step)"] == steps
    with compilations() as names:
        config.max_steps, config.seed = 4, 1
        train(prepare_small(config, tmp_path / "second"))
    assert names == []
    config.max_steps = 6
    with compilations() as names:
        train(prepare_small(config, tmp_path / "second"))
    assert names == []
    model = Small(2, "float32")
    monkeypatch.setattr("jaxws.commands.evaluate.build_model", lambda *_: model)
    # It takes weights as checkpoints have them, from the host and not pooled: another program.
    for expected in (["jit(compiled_eval_step)"], []):
        with compilations() as names:
            evaluate(read_run(tmp_path / "second"))
        assert [name for name in names if "compiled" in name] == expected


def test_other_settings_are_other_programs(config, tmp_path):
    config.max_steps = 1
    forget_programs()
    train(prepare_small(config, tmp_path / "first"))
    config.data.flip = False
    with compilations() as names:
        train(prepare_small(config, tmp_path / "second"))
    assert names == ["jit(compiled_step)", "jit(compiled_eval_step)"]


def settings_of(run):
    return step_settings(run, optimizer_settings(run.config, run.feed.steps_per_epoch))


@pytest.mark.parametrize("mode", ["instant", "sleep"])
def test_settings_are_compared_by_value_and_hold_no_data(config, tmp_path, mode):
    config.sharing.mode, config.data.image_size = mode, 12
    first, second = (settings_of(prepare_small(config, tmp_path / name)) for name in "ab")
    assert first == second
    assert hash(first) == hash(second)
    assert not [leaf for leaf in jax.tree.leaves(first) if hasattr(leaf, "__array__")]
    config.optimizer.learning_rate = 0.5
    assert settings_of(prepare_small(config, tmp_path / "c")) != first


@pytest.mark.devices(8)
@pytest.mark.skipif(not native.available(), reason="needs the C++ kernels")
def test_a_step_on_one_of_several_devices_takes_the_fast_kernels(config, tmp_path):
    config.mesh.data = 1
    run = prepare_small(config, tmp_path / "run")
    settings = settings_of(run)
    with jax.set_mesh(run.mesh):
        key = jax.random.key(0)
        arguments = {"model": run.model, "image_shape": run.feed.image_shape, "dtype": "float32"}
        state = compiled_initial_state(key, optimizer=settings.optimizer, packed=False, **arguments)
        inputs = next(run.feed.train_inputs(0))
        text = compiled_step.lower(state, inputs, settings=settings).as_text()
    for name in ("forward", "kernel_gradient"):
        assert f"jaxws_{name}" in text
