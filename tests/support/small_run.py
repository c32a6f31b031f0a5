"""Runs whose network compiles in a second."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from PIL import Image

from jaxws import LocalConv
from jaxws.checkpointing.directory import steps_in
from jaxws.config import base_config
from jaxws.records.metrics_file import timeless
from jaxws.training.loop import train
from jaxws.training.run import prepare
from jaxws.training.weight_sharing import make_sharing

STEPS_PER_EPOCH = 4  # of 20 images in batches of 6: the last one is ragged


class Small(nn.Module):
    """One layer of each kind, for runs of which only the bookkeeping is looked at."""

    classes: int
    dtype: str

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        x = LocalConv(2, (3, 3), use_bias=False, dtype=self.dtype, name="conv1")(x)
        mask = None if mask is None else mask[:, None, None, None]
        x = nn.relu(nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x, mask=mask))
        return nn.Dense(self.classes)(x.mean((1, 2)).astype(jnp.float32))


def prepare_small(config, workdir):
    run = prepare(config, workdir)
    feed, model = run.feed, Small(len(run.feed.class_names), config.model.dtype)
    sharing = make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    return run._replace(model=model, sharing=sharing)


def make_folder(root):
    """Two classes of noise, one bright and one dark: 20 training and 7 test images."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 10), ("test", 4)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for i in range(number - (split == "test" and label)):
                pixels = rng.integers(0, 128, (7, 7, 3)) + 127 * label
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(root / split / name / f"{i}.png")
    return root


def small_config(folder, data_dir):
    """Three epochs of four steps, weights shared after every other one."""
    config = base_config()
    config.epochs, config.batch_size, config.eval_batch_size = 3, 6, 4
    config.log_every = 1
    config.model.depth, config.model.width = 8, 2
    config.sharing.every = 2
    config.optimizer.drop_epochs = (1, 2)
    config.data.path, config.data.data_dir = str(folder), str(data_dir)
    config.data.pad = 1
    return config


def checkpoint_of(workdir):
    """The newest checkpoint of a run, as Orbax alone reads it."""
    step = max(steps_in(workdir.checkpoints))
    here = SingleDeviceSharding(jax.devices()[0])  # whatever devices have written it
    with ocp.StandardCheckpointer() as checkpointer:
        path = workdir.checkpoints / str(step) / "state"
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            checkpointer.metadata(path).item_metadata.tree,
        )
        return step, checkpointer.restore(path, like)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def timeless_lines(workdir):
    """metrics.jsonl without what depends on the clock."""
    return "".join(json.dumps(timeless(record)) + "\n" for record in workdir.records())


def train_whole_and_stopped(prepare, config, path):
    """Two runs of three epochs, one of them stopped within the second, end with the same bits."""
    whole = prepare(config, path / "whole")
    train(whole)
    for config.max_steps in (STEPS_PER_EPOCH + 1, 3 * STEPS_PER_EPOCH):
        run = prepare(config, path / "stopped")
        train(run)
    (step, expected), (_, actual) = (checkpoint_of(r.workdir) for r in (whole, run))
    assert step == 3 * STEPS_PER_EPOCH
    assert_same_bits(actual, expected)
    assert timeless_lines(run.workdir) == timeless_lines(whole.workdir)
    return whole
