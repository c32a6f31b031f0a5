"""Steps that are compiled for devices that are not here, and what is told of them."""

import importlib.util
import json

import jax
import pytest

from jaxws.__main__ import main
from jaxws.commands import compile_only
from jaxws.config import base_config
from jaxws.data import build_feed
from jaxws.data.assumed import assumed_feed
from jaxws.models.build import build_model, variable_shapes
from jaxws.parallel.chips import TPUS
from jaxws.parallel.topologies import Topology
from jaxws.parallel.wire import Step, traffic
from jaxws.training.ahead import compile_ahead
from jaxws.training.mesh_choice import choose_for, network_for
from jaxws.training.weight_sharing import Sharing

TINY = "tests.support.tiny_network:TINY"
MESH = {"data": 1, "h": 4, "w": 2}


def _config():
    config = base_config()
    config.data.name, config.batch_size = "digits", 64
    config.model.architecture = TINY
    config.sharing.every = 10
    return config


def _status(*arguments):
    try:
        return main(["train", *arguments])
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def ahead():
    """A step on a mesh of CPU devices, as if they were TPUs."""
    config = _config()
    config.mesh.h, config.mesh.w = MESH["h"], MESH["w"]
    return compile_ahead(config, Topology("v5e:2x4", TPUS["v5e"], jax.devices()))


@pytest.mark.devices(8)
def test_a_step_is_compiled_from_shapes_alone_and_told(ahead, capsys, monkeypatch):
    config = _config()
    model = build_model(config.model, num_classes=10)
    params = variable_shapes(model, (24, 24, 1))["params"]
    network = network_for(model, params, (24, 24, 1))
    first, second = network.layers
    assert ahead.parameters == first.weights + second.weights + network.plain
    # What is sent is what arithmetic says; no gradient is sent to the images themselves.
    expected = traffic(network, MESH, Step(64, itemsize=4))
    to_images = 64 / 8 * (4 * 8 * 2 * 14) * 7 / 8 * 4
    assert ahead.sent["all-to-all"].wire == expected.exchange - to_images
    sums = expected.pools + expected.gradients + expected.plain
    assert sums <= ahead.sent["all-reduce"].wire < 1.5 * sums
    assert set(ahead.sent) == {"all-to-all", "all-reduce"}
    assert ahead.arguments < ahead.peak < ahead.hbm
    assert ahead.flops > 3 * 2 * (64 / 8) * (first.weights + second.weights)
    least, most = ahead.step_seconds
    assert 0 < least < most

    choice = choose_for(config, model, Sharing(10, "grid", 23), (24, 24, 1), 8)
    chosen = ahead._replace(choice=choice)
    monkeypatch.setattr(compile_only, "find_topology", lambda name: ahead.topology)
    monkeypatch.setattr(compile_only, "compile_ahead", lambda *_: chosen)
    given = ("--config.batch_size=64", "--compile_only", "--topology=v5e:2x4")
    assert _status(*given) == 0
    shown = capsys.readouterr().out
    for text in (choice.reason, "1x4x2", "of 16 GB: fits", "all-to-all", "by arithmetic only"):
        assert text in shown
    assert _status(*given, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["chips"], facts["hosts"], facts["mesh"]) == (8, 1, MESH)
    assert facts["peak_bytes"] == ahead.peak
    assert facts["collectives"]["all-to-all"]["count"] == ahead.sent["all-to-all"].calls

    small = TPUS["v5e"]._replace(memory=1000)
    monkeypatch.setattr(
        compile_only,
        "compile_ahead",
        lambda *_: chosen._replace(topology=ahead.topology._replace(chip=small)),
    )
    assert _status(*given) == 2
    told = capsys.readouterr()
    assert "does not fit" in told.out
    assert "set a smaller --config.batch_size" in told.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compile_only",), "--compile_only needs --topology=KIND:SIZE"),
        (("--topology=v5e:4x4",), "--topology and --json are for --compile_only"),
        (("--compile_only", "--topology=v5litepod-8"), "v5e:1x1, 2x2, 2x4"),
        (("--compile_only", "--topology=v5e"), "expected v5e:SIZE, such as v5e:1x1"),
        (("--compile_only", "--topology=v5e:4x4"), "needs libtpu"),
        (("--compile_only", "--topology=h100:9"), "GPUs of one host"),
        (("--compile_only", "--topology=h100:8"), "pip install jax-cuda13-plugin=="),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, monkeypatch):
    find = importlib.util.find_spec
    missing = ("libtpu", "jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    assert _status(*arguments) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert message in told


def test_data_that_nothing_is_known_of_are_told():
    config = _config()
    config.data.name = "mnist"
    with pytest.raises(ValueError, match=r"config\.data\.name='mnist': no data are read"):
        assumed_feed(config)


def test_assumed_data_have_the_shapes_of_real_ones():
    config = _config()
    feed, assumed = build_feed(config), assumed_feed(config)
    for name in ("image_shape", "train_size", "steps_per_epoch", "name"):
        assert getattr(assumed, name) == getattr(feed, name)
    assert len(assumed.class_names) == len(feed.class_names)
    moments = {"mean": assumed.batching.mean, "std": assumed.batching.std}
    assert feed.batching._replace(**moments) == assumed.batching
    inputs = next(feed.train_inputs(first_step=0))
    same = jax.tree.map(
        lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), inputs, assumed.inputs
    )
    assert all(jax.tree.leaves(same))


def test_a_step_is_compiled_for_tpus(capsys):
    pytest.importorskip("libtpu")
    given = (f"--config.model.architecture={TINY}", "--config.data.name=digits")
    given += ("--config.batch_size=64", "--config.sharing.every=1", "--config.mesh.h=2")
    assert _status(*given, "--compile_only", "--topology=v5e:2x2", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["mesh"] == {"data": 2, "h": 2, "w": 1}
    assert facts["fits"]
    assert facts["collectives"]["all-to-all"]["count"] >= 4
