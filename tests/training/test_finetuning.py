"""Runs that start from weights of others, and leave some of them as they are."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.commands.export_weights import flat_arrays, write
from jaxws.core.named_leaves import named_leaves
from jaxws.records import provenance
from jaxws.training.fit_weights import fit_weights
from jaxws.training.loop import train
from jaxws.training.run import prepare
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    assert_same_bits,
    checkpoint_of,
    small_config,
)

FROZEN = ("conv1/*", "*/bias")


@pytest.fixture(scope="module")
def tiny_config(folder, tmp_path_factory):
    """Makes configurations whose data are prepared in one place, not where tests are started."""
    return partial(_tiny_config, folder, tmp_path_factory.mktemp("tfds"))


def _tiny_config(folder, data_dir, connectivity, **model):
    config = small_config(folder, data_dir)
    config.model.architecture = "tests.support.tiny_network:TINY"
    config.model.connectivity = connectivity
    config.sharing.every = 0 if connectivity == "conv" else 2
    config.model.update(model)
    return config


@pytest.fixture(scope="module")
def conv(tiny_config, tmp_path_factory):
    """The directory of a convolutional run of one epoch, and its weights."""
    config = tiny_config("conv")
    config.max_steps = STEPS_PER_EPOCH
    path = tmp_path_factory.mktemp("conv") / "run"
    train(prepare(config, path))
    return path, read_weights(checkpoint_dir(path / "checkpoints", None))


def outputs(model, weights):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 7, 3)), jnp.float32)
    return jax.jit(model.apply)(jax.tree.map(jnp.asarray, weights), images)


def variables_of(run):
    """What a run's initial weights are, as the network takes them."""
    from flax.traverse_util import unflatten_dict

    return {name: unflatten_dict(flat, sep="/") for name, flat in run.initial.variables.items()}


def test_an_lc_network_goes_on_from_a_conv_one(tiny_config, conv, tmp_path):
    """The same logits; what is frozen keeps its bits; a resume needs no source any more."""
    source = tmp_path / "source"
    shutil.copytree(conv[0], source)
    config = tiny_config("local", init_from=str(source))
    config.optimizer.freeze, config.sharing.every = FROZEN, 1
    whole = prepare(config, tmp_path / "whole")
    assert whole.initial.line.startswith("weights: 10 arrays of step 4 of")
    assert "filters of 2 convolutions repeated" in whole.initial.line
    started = variables_of(whole)
    model = prepare(tiny_config("conv"), tmp_path / "model").model
    np.testing.assert_allclose(
        outputs(whole.model, started), outputs(model, conv[1]), rtol=1e-4, atol=1e-5
    )
    train(whole)
    config.max_steps = STEPS_PER_EPOCH + 1
    train(prepare(config, tmp_path / "stopped"))
    shutil.rmtree(source)
    config.max_steps = None
    stopped = prepare(config, tmp_path / "stopped")
    assert stopped.initial is None
    train(stopped)
    (step, expected), (_, actual) = (checkpoint_of(run.workdir) for run in (whole, stopped))
    assert step == 3 * STEPS_PER_EPOCH
    assert_same_bits(actual, expected)

    before, after = named_leaves(started["params"]), named_leaves(expected["params"])
    frozen = {"conv1/local_kernel", "conv1/bias", "conv2/bias", "fc/bias", "bn1/bias"}
    for name, leaf in after.items():
        same = np.asarray(leaf).tobytes() == np.asarray(before[name]).tobytes()
        assert same == (name in frozen), name
    kernel = np.asarray(after["conv2/local_kernel"])
    assert (kernel[0, 0] == kernel[3, 3]).all()  # shared, as it is not frozen
    moments = [name for name in named_leaves(expected["opt_state"]) if "local_kernel" in name]
    assert len(moments) == 2 and all("conv2" in name for name in moments)
    facts = provenance.read(stopped.workdir.path)["init_from"]
    assert (facts["path"], facts["fresh"], len(facts["sha256"])) == (str(source), [], 64)


@pytest.mark.parametrize("kind", ["checkpoint", "npz", "safetensors"])
def test_every_kind_of_source_is_read(tiny_config, conv, tmp_path, kind):
    path, weights = conv
    source = path / "checkpoints" / "4"
    if kind != "checkpoint":
        source = tmp_path / f"weights.{kind}"
        write(source, flat_arrays(weights), {})
    run = prepare(tiny_config("conv", init_from=str(source)), tmp_path / "run")
    assert_same_bits(variables_of(run), weights)


def test_a_head_of_other_classes_is_drawn_anew(tiny_config, conv, tmp_path):
    weights = jax.tree.map(np.asarray, conv[1])
    weights["params"]["fc"] = {"kernel": np.ones((2, 7)), "bias": np.ones(7)}
    write(tmp_path / "w.npz", flat_arrays(weights), {})
    config = tiny_config("local", init_from=str(tmp_path / "w.npz"))
    with pytest.raises(
        ValueError, match=r"fc/bias: \(7,\) there, \(2,\) here; fc/kernel: \(2, 7\)"
    ):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config.model.init_fresh = ("fc/*",)
    run = prepare(config, tmp_path / "run")
    assert run.initial.line.endswith("fresh: fc/bias, fc/kernel")
    assert "fc/bias" not in run.initial.variables["params"]
    # Killed before its first checkpoint, it must not begin with other weights.
    file = run.workdir.path / provenance.NAME
    file.write_text(json.dumps({"init_from": run.initial.facts}))
    run.workdir.close()
    prepare(config, tmp_path / "run").workdir.close()
    weights["params"]["conv1"]["bias"] += 1
    write(tmp_path / "w.npz", flat_arrays(weights), {})
    with pytest.raises(ValueError, match="no longer the weights that the run in"):
        prepare(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("optimizer.freeze", ("stem/*",), "no leaf fits 'stem/.'. There are 'bn1/bias'"),
        ("optimizer.freeze", ("conv1",), "did you mean 'conv1/.'"),
        ("optimizer.freeze", ("*",), "nothing is trained"),
        ("optimizer.freeze", ("*kernel",), "names all locally connected kernels"),
        ("optimizer.decay_mask", ("conv1/kernel",), "decay_mask=.* no leaf fits 'conv1/kernel'"),
        (".epochs", 2**31 - 1, "expected at most 2147483647, which is what a step's number may be"),
        ("model.init_from", "nowhere", "there is no such file"),
        ("model.init_from", ".", "it is no run or checkpoint"),
        ("model.init_from", "note.txt", "it is no file of weights; expected the directory of a"),
        ("model.init_from", "bad.npz", "bad.npz cannot be read"),
        ("model.init_from", "bad.safetensors", "bad.safetensors cannot be read"),
        ("model.init_from", "torch.npz", "model is a Tiny: weights of PyTorch can be read into"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    tiny_config, tmp_path, monkeypatch, field, value, expected
):
    monkeypatch.chdir(tmp_path)
    for name in ("note.txt", "bad.npz", "bad.safetensors"):
        (tmp_path / name).write_text("no weights")
    np.savez(tmp_path / "torch.npz", **{"conv1.weight": np.ones(3)})
    config = tiny_config("local")
    group, leaf = field.split(".")
    (config[group] if group else config)[leaf] = value
    with pytest.raises(ValueError, match=expected):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


SHAPES = {"conv1": {"kernel": (3, 3, 1, 2), "bias": (2,)}, "fc": {"kernel": (2, 5)}}
LOCAL = {"conv1": {"local_kernel": (4, 4, 3, 3, 1, 2), "bias": (4, 4, 2)}, "fc": {"kernel": (2, 5)}}


def arrays(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: rng.normal(size=s).astype(np.float32), shapes, is_leaf=lambda s: type(s) is tuple
    )


def structs(shapes):
    return {"params": jax.eval_shape(lambda: jax.tree.map(jnp.asarray, arrays(shapes)))}


def test_conv_and_lc_weights_there_and_back():
    given = arrays(SHAPES)
    local = fit_weights({"params": given}, structs(LOCAL))
    assert local.repeated == 1
    flat = local.variables["params"]
    assert (flat["conv1/local_kernel"] == given["conv1"]["kernel"]).all()
    nested = {"conv1": {n.split("/")[1]: a for n, a in flat.items() if n.startswith("conv1")}}
    nested["fc"] = given["fc"]
    back = fit_weights({"params": nested}, structs(SHAPES))
    assert back.tied == 1
    assert_same_bits(back.variables["params"], flat_arrays(given))
    nested["conv1"]["local_kernel"] = arrays(LOCAL)["conv1"]["local_kernel"]
    with pytest.raises(ValueError, match="not equal at all positions"):
        fit_weights({"params": nested}, structs(SHAPES))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: p["fc"].pop("kernel"), r"fc/kernel: none there, \(2, 5\) here"),
        (lambda p: p.update(more=np.ones(3)), r"more: \(3,\) there, none here"),
        (lambda p: p["fc"].update(kernel=np.ones((5, 2))), r"\(5, 2\) there, \(2, 5\) here"),
        (lambda p: p["fc"].update(kernel=np.ones((2, 5), int)), "int64 there"),
        (lambda p: p["fc"].update(kernel=np.full((2, 5), np.nan)), "not finite"),
        (
            lambda p: p["conv1"].update(kernel=np.ones((5, 5, 1, 2))),
            r"conv1/.*kernel: \(5, 5, 1, 2\)",
        ),
        (lambda p: p.clear(), "conv1/bias: none there"),
    ],
)
def test_weights_of_another_network_are_listed(change, expected):
    given = arrays(SHAPES)
    change(given)
    for shapes in (SHAPES, LOCAL):
        with pytest.raises(ValueError, match=expected):
            fit_weights({"params": given}, structs(shapes))
