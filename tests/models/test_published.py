"""Trained networks by name, of files and of runs: the same weights, the same scores."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxws.__main__ import main
from jaxws.config import base_config
from jaxws.config.fields import flat_fields
from jaxws.data import load_dataset
from jaxws.models import load, published_names
from jaxws.models.exported import KEY, compacted, to_weights
from jaxws.models.published import names
from jaxws.models.torch_weights.files import read_weights_file
from jaxws.paper.configs import row_config
from jaxws.paper.state import MAY_DIFFER, RATES
from jaxws.training.loop import train
from jaxws.training.run import prepare
from tests.support.small_run import assert_same_bits


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A run of one epoch on the digits, whose weights are shared after each of its three steps."""
    config = base_config()
    config.data.name, config.data.flip = "digits", False
    config.model.architecture = "tests.support.tiny_network:TINY"
    config.epochs, config.batch_size, config.sharing.every = 1, 500, 1
    config.optimizer.learning_rate = 0.1
    run = prepare(config, tmp_path_factory.mktemp("runs") / "run")
    train(run)
    return run.workdir.path


@pytest.fixture(scope="module")
def files(path, tmp_path_factory):
    """Its exports: a plain one, and a compact one among the published networks."""
    root = tmp_path_factory.mktemp("published")
    compact = root / "small" / "table5" / "digits" / "lc-ws1" / "seed0.safetensors"
    compact.parent.mkdir(parents=True)
    assert main(["export", str(path), f"--out={root / 'plain.npz'}"]) == 0
    assert main(["export", str(path), f"--out={compact}", "--compact"]) == 0
    return root / "plain.npz", compact


@pytest.fixture
def published(files, monkeypatch):
    monkeypatch.setattr(names, "DIRECTORY", files[0].parent)


def test_a_network_is_the_same_wherever_it_comes_from(path, files, published):
    """The weights of a file that leaves out what positions share are the run's to the last bit."""
    networks = [load(source) for source in (path, *files, "small/lc-ws1")]
    for network in networks:
        assert network.model == networks[0].model
        assert network.config.to_dict() == networks[0].config.to_dict()
        assert_same_bits(network.variables, networks[0].variables)
    plain, compact = (read_weights_file(file) for file in files)
    assert plain["params/conv1/local_kernel"].shape == (24, 24, 3, 3, 1, 2)
    assert compact["params/conv1/local_kernel"].shape == (3, 3, 3, 3, 1, 2)
    assert networks[-1].info["name"] == "small/table5/digits/lc-ws1/seed0"
    assert networks[-1].class_names == tuple("0123456789")

    # By the images alone, normalised as a user does.
    network = networks[-1]
    test = load_dataset(network.config.data).test
    images = np.asarray(test.images).reshape(-1, 24, 24, 1)
    logits = jax.jit(network.model.apply)(network.variables, network.normalise(images))
    right = np.argmax(logits, 1) == test.labels
    assert right.mean() == pytest.approx(network.info["metrics"]["test_top1"], abs=1.5 / 1440)
    for wrong in (images / 255, images[0], images[:, :20]):
        with pytest.raises(ValueError, match=r"expected uint8 \(n, 24, 24, 1\), pixels from 0"):
            network.normalise(wrong)


def test_one_command_scores_all_of_them(path, files, published, capsys):
    scores = {}
    for source in (path, *files, "small/lc-ws1"):
        assert main(["evaluate", str(source), "--json"]) == 0
        scores[source] = json.loads(capsys.readouterr().out)
    of_run, *of_files = scores.values()
    assert of_run["workdir"] == str(path) and "published" not in of_run
    for source, found in zip((*files, files[1]), of_files, strict=True):
        assert found["file"] == str(source)
        assert [found[name] for name in ("step", "images", "top1", "loss")] == [
            of_run[name] for name in ("step", "images", "top1", "loss")
        ]
        assert found["published"]["top1"] == found["top1"]
    assert of_files[-1]["name"] == "small/table5/digits/lc-ws1/seed0"
    assert main(["evaluate", "small/lc-ws1"]) == 0
    table = capsys.readouterr().out
    assert "published" in table and table.count(f"{100 * of_run['top1']:.2f} %") >= 2
    assert main(["evaluate", "small/lc-ws1", "--split=train", "--share=instant", "--json"]) == 0
    shared = json.loads(capsys.readouterr().out)
    assert shared["images"] == 1437 and "published" not in shared and "before" in shared
    with pytest.raises(SystemExit):
        main(["evaluate", "small/lc-ws1", "--step=2"])
    assert "has the weights of step 3 alone; leave out --step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small/lc-ws2", "'small/lc-ws2': did you mean 'small/lc-ws1'"),
        ("small/table6/digits/lc-ws1", "did you mean 'small/table5/digits/lc-ws1'"),
        ("small/*", "did you mean 'small/lc-ws1'"),
        ("lc", "called 'lc'; there are the networks small/lc-ws1"),
        ("weights.safetensors", "weights.safetensors cannot be read: No such file"),
        ("tests", "is not a run of jaxws"),
    ],
)
def test_names_that_there_are_not(published, name, expected):
    with pytest.raises(ValueError) as error:
        load(name)
    assert expected in str(error.value)


def test_short_names(published, files):
    for name in ("small/lc-ws1", "small/table5/digits/lc-ws1", "small/table5/digits/lc-ws1/seed0"):
        assert names.find_published(name) == ("small/table5/digits/lc-ws1/seed0", files[1])


def changed(arrays, description):
    """What may be wrong with a file's arrays and description, and how it is told."""
    bias = arrays["params/fc/bias"]
    return [
        ({"params/fc/bias": bias[:3]}, {}, r"params/fc/bias: \(3,\) there, \(10,\) here"),
        ({"params/fc/bias": bias * np.nan}, {}, "fc/bias: numbers that are not finite"),
        ({"params/new": bias}, {}, r"params/new: \(10,\) there, none here"),
        ({"fc.weight": bias}, {}, "has no weights of jaxws.*from_torch_state_dict"),
        ({}, {"format": "jaxws weights, version 9"}, "of format 'jaxws weights, version 9'"),
        ({}, {"data": None}, "does not say what its network is"),
        ({}, {"config": {"colour": 1}}, "unknown field|colour"),
        ({}, {"arrays": {"params/conv1/local_kernel": {"positions": [2, 2]}}}, "damaged"),
        ({}, None, "no description is with the weights"),
    ]


def test_files_that_are_damaged_are_one_line(files, tmp_path):
    content = files[1].read_bytes()
    arrays = read_weights_file(files[1])
    description = json.loads(arrays.pop(KEY))
    file = tmp_path / "w.safetensors"
    for new_arrays, new_facts, expected in changed(arrays, description):
        text = None if new_facts is None else {KEY: json.dumps(description | new_facts)}
        save_file(arrays | new_arrays, file, metadata=text)
        with pytest.raises(ValueError, match=expected) as error:
            load(file)
        assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)
    file.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="is no whole file of safetensors"):
        load(file)


def test_code_of_others_is_not_run(files, tmp_path, monkeypatch):
    arrays = read_weights_file(files[1])
    text = arrays.pop(KEY).replace("tests.support.tiny_network:TINY", "theirs:NETWORK")
    save_file(arrays, tmp_path / "w.safetensors", metadata={KEY: text})
    (tmp_path / "theirs.py").write_text("raise SystemExit('it was run')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="would be run: if it is what you expect"):
        load("w.safetensors")


def test_filters_that_are_not_shared_are_halved():
    """And those of one pool for all positions are one; biases and convolutions keep all bits."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(5, 4, 3, 3, 2, 2)).astype(np.float32)
    arrays = {
        "params/a/local_kernel": own,
        "params/b/local_kernel": np.broadcast_to(own[:1, :1], own.shape),
        "params/c/kernel": own[0, 0],
    }
    found, positions = compacted(arrays)
    assert positions == {"params/b/local_kernel": (5, 4)}
    assert found["params/b/local_kernel"].shape == (1, 1, 3, 3, 2, 2)
    assert [array.dtype for array in found.values()] == [np.float16, np.float32, np.float32]
    described = {"arrays": {name: {"positions": each} for name, each in positions.items()}}
    params = to_weights(found | {KEY: json.dumps(described)})["params"]
    np.testing.assert_array_equal(params["b"]["local_kernel"], arrays["params/b/local_kernel"])
    np.testing.assert_allclose(params["a"]["local_kernel"], own, rtol=2**-11, atol=2**-25)
    assert params["a"]["local_kernel"].dtype == np.float32
    with pytest.raises(ValueError, match=r"weight of .*, which float16 cannot hold"):
        compacted({"params/a/local_kernel": own.clip(1) * 70000})


def assert_scored_as_published(name, capsys):
    """As many images as when the network was trained, not one more or less."""
    assert main(["evaluate", name, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    now, then = (round(each["top1"] * scores["images"]) for each in (scores, scores["published"]))
    assert now == then, name


def test_every_published_network_is_that_of_its_row(capsys):
    """Those that come with the package; one of them is scored, all in the slow test."""
    for name in published_names():
        network = load(name)
        trained = dict(flat_fields(network.config))
        differ = {key for key, value in flat_fields(row_config(name)) if trained[key] != value}
        assert differ <= {*MAY_DIFFER, *RATES}, name
        assert network.info["metrics"]["epoch"] == network.config.epochs
    sizes = {name: names.find_published(name)[1].stat().st_size for name in published_names()}
    assert sum(sizes.values()) < 10e6  # of a wheel, and of every clone
    for name in sorted(sizes, key=sizes.__getitem__)[:1]:
        assert_scored_as_published(name, capsys)


@pytest.mark.slow
def test_every_published_network_has_its_score(capsys):
    for name in published_names():
        assert_scored_as_published(name, capsys)
