"""Fields of a configuration: each is read, and some do what they say in a run."""

import pytest

from jaxws.checkpointing.directory import steps_in
from jaxws.checkpointing.manager import Checkpoints
from jaxws.config.fields import flat_fields
from jaxws.data import build_feed
from jaxws.training import loop
from jaxws.training.initial_weights import initial_weights
from jaxws.training.loop import train
from jaxws.training.run import build_model
from jaxws.training.run_mesh import run_mesh
from jaxws.training.weight_sharing import make_sharing
from tests.support.small_run import STEPS_PER_EPOCH, prepare_small


def test_rate_and_norm_of_every_step_are_recorded(config, tmp_path):
    """The rate drops after the first and the second of three epochs, unless it is said when."""
    config.optimizer.drop_epochs = None
    run = prepare_small(config, tmp_path / "run")
    train(run)
    steps = [record for record in run.workdir.records() if record["kind"] == "train"]
    rates = [1e-3] * 4 + [2.5e-4] * 4 + [6.25e-5] * 4
    assert [record["learning_rate"] for record in steps] == pytest.approx(rates)
    assert all(record["grad_norm"] > 0 for record in steps)


def test_gradients_in_parts_train_as_well(config, tmp_path):
    config.accumulate, config.max_steps = 3, 4  # of 6 images; of the last batch, 2 are real
    run = prepare_small(config, tmp_path / "run")
    assert train(run)["train_loss"] > 0


@pytest.mark.parametrize(
    ("evaluate_every", "hits", "expected", "kept"),
    [
        (1, [0.2, 0.8, 0.8, 0.6, 0.6], [4, 7, 8, 12, 14, 20], [12, 20]),
        (2, [0.8, 0.6, 0.6], [7, 8, 14, 20], [8, 20]),  # after steps 8, 16 and 20
    ],
)
def test_the_best_checkpoint_is_kept_and_others_as_often_as_asked_for(
    config, tmp_path, monkeypatch, evaluate_every, hits, expected, kept
):
    """The newest of the best that were evaluated, and the last one."""
    hits = iter(hits)
    monkeypatch.setattr(
        loop._Trainer,
        "evaluate",
        lambda _: {"test_loss": 1.0, "test_top1": next(hits), "test_top5": 1.0},
    )
    written = []
    monkeypatch.setattr(Checkpoints, "save", spy(Checkpoints.save, written))
    config.epochs, config.checkpoint.keep, config.checkpoint.every_steps = 5, 1, 7
    config.evaluate_every = evaluate_every
    run = prepare_small(config, tmp_path / "run")
    train(run)
    # Every seven steps, at the end, and after the epochs that were the best so far.
    assert written == expected
    assert steps_in(run.workdir.checkpoints) == kept


def spy(save, written):
    def wrapped(self, state, facts):
        written.append(int(state.step))
        save(self, state, facts)

    return wrapped


class Recorder:
    """A configuration that remembers which fields were read."""

    def __init__(self, config, seen, prefix=""):
        self._config, self._seen, self._prefix = config, seen, prefix

    def __getattr__(self, name):
        key, value = f"{self._prefix}{name}", getattr(self._config, name)
        if hasattr(value, "to_dict"):
            return Recorder(value, self._seen, f"{key}.")
        self._seen.add(key)
        return value


def test_every_knob_is_read(config, tmp_path):
    config.max_steps = 1
    run, seen = prepare_small(config, tmp_path / "run"), set()
    recorder = Recorder(config, seen)
    feed = build_feed(recorder)
    build_model(recorder.model, 2)
    with config.unlocked():
        model = config.model.copy_and_resolve_references()
        config.model.update(architecture="vit", width=4)
        build_model(recorder.model, 2)
        config.model = model
    for mode in ("sleep", "online"):
        config.sharing.mode = mode
        make_sharing(recorder, run.model, feed.image_shape, STEPS_PER_EPOCH)
    config.sharing.mode = "instant"
    config.model.init_from = str(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="no such file"):
        initial_weights(recorder, tmp_path / "other", run.model, feed.image_shape)
    config.model.init_from = None
    run_mesh(recorder, run.model, run.sharing, feed.image_shape)
    train(run._replace(config=recorder, feed=feed))
    assert seen == {key for key, _ in flat_fields(config)}
