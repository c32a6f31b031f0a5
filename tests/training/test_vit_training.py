"""The vision transformer in runs: configuration, mistakes, resume, and what reads a run."""

import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxws import LocalDense
from jaxws.checkpointing.described import describe
from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.commands.evaluate import evaluate
from jaxws.commands.export_weights import flat_arrays
from jaxws.config.checks import check_config
from jaxws.models import ViT
from jaxws.records.report import write_report
from jaxws.records.run_directory import read_run
from jaxws.training.run import build_model, prepare
from tests.support.small_run import STEPS_PER_EPOCH, small_config, train_whole_and_stopped


@pytest.fixture
def config(folder, tmp_path):
    config = small_config(folder, tmp_path / "tfds")
    config.model.architecture, config.model.depth, config.model.width = "vit", 1, 4
    config.model.heads, config.model.mlp_ratio = 2, 1
    config.data.image_size = 8
    return config


def test_a_configuration_is_built(config):
    config.model.local_projections, config.model.dtype = ("out", "mlp"), "bfloat16"
    config.model.same_start = True
    check_config(config)
    model = build_model(config.model, 7)
    expected = ViT(4, 1, 4, 2, 1, 7, LocalDense, ("out", "mlp"), True, jnp.dtype("bfloat16"))
    assert model == expected
    config.model.connectivity = "conv"
    assert build_model(config.model, 7) == expected.copy(dense=nn.Dense, same_start=False)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("patch_size", 0, "config.model.patch_size=0: expected at least 1"),
        ("patch_size", 3, "images of 8 x 8 pixels cannot be cut into patches of 3 x 3: choose a"),
        ("heads", 3, "width=4 with heads=3"),
        ("mlp_ratio", 0, "config.model.mlp_ratio=0: expected at least 1"),
        ("depth", 0, "config.model.depth=0: expected at least 1"),
        ("local_projections", (), "name some projections, or set connectivity='conv'"),
        ("local_projections", ("mlp", "key"), "'key' is no projection"),
        ("first_layer_conv", True, "leaves 'embedding' out"),
    ],
)
def test_what_is_impossible_is_said_before_a_directory_is_made(config, tmp_path, key, value, match):
    config.model[key] = value
    with pytest.raises(ValueError, match=match):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_ends_like_one_never_stopped(config, tmp_path):
    config.sharing.every = 2
    whole = train_whole_and_stopped(prepare, config, tmp_path)
    past = read_run(whole.workdir.path)
    assert evaluate(past)["top1"] == past.of_kind("epoch")[-1]["test_top1"]
    arrays = flat_arrays(read_weights(checkpoint_dir(past.checkpoints, None)))
    described = describe(past, 3 * STEPS_PER_EPOCH, arrays)["arrays"]
    assert described["params/block0/mlp1/local_kernel"]["axes"] == "hicf"
    assert all(entry["axes"] for entry in described.values())
    text = write_report(past).read_text()
    assert "local embedding, qkv, out, mlp of a vit-1, width 4" in text
