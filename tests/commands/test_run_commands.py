"""`python -m jaxws inspect`, `evaluate`, `export` on a small run that is still going on."""

import json

import numpy as np
import pytest

from jaxws import data, share_weights
from jaxws.__main__ import main
from jaxws.commands import evaluate, networks
from jaxws.config import base_config
from jaxws.data import load_dataset
from jaxws.records.run_directory import read_run
from jaxws.records.workdir import Workdir
from jaxws.training.loop import train
from tests.support.small_run import Small, prepare_small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two epochs of three steps on digits, 143 of whose training images are held out."""
    config = base_config()
    config.data.name, config.data.split = "digits", "tuning"
    config.data.data_dir = str(tmp_path_factory.mktemp("tfds"))
    config.epochs, config.batch_size, config.eval_batch_size = 2, 500, 100
    config.optimizer.drop_epochs, config.optimizer.learning_rate = (1,), 0.1
    run = prepare_small(config, tmp_path_factory.mktemp("runs") / "run")
    train(run)
    return run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(evaluate, "build_model", lambda c, classes: Small(classes, c.dtype))


@pytest.fixture
def path(run):
    """The run's directory, while the run holds its lock."""
    workdir = Workdir(run.workdir.path, run.config, run.feed.fingerprint())
    yield workdir.path
    workdir.close()


def command(capsys, *arguments):
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def network(images, weights):
    """Logits of images (n, H, W, c) by the network of tests.support.small_run, written anew."""
    kernel = weights["params/conv1/local_kernel"]  # (h, w, i, j, c, f)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.empty((len(images), *kernel.shape[:2], kernel.shape[-1]))
    for h, w in np.ndindex(kernel.shape[:2]):
        patches = padded[:, h : h + 3, w : w + 3].reshape(len(images), -1)
        y[:, h, w] = patches @ kernel[h, w].reshape(-1, kernel.shape[-1])
    mean, var = (weights[f"batch_stats/BatchNorm_0/{name}"] for name in ("mean", "var"))
    scale, bias = (weights[f"params/BatchNorm_0/{name}"] for name in ("scale", "bias"))
    y = np.maximum((y - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)
    return y.mean((1, 2)) @ weights["params/Dense_0/kernel"] + weights["params/Dense_0/bias"]


def scored(file, split):
    """Loss and accuracy on a split, from an export and images alone, in float64."""
    arrays, description = read(file)
    facts = description["data"]
    images = split.images.reshape(-1, *facts["image_shape"]) / 255
    logits = network((images - facts["mean"]) / facts["std"], arrays)
    true = np.take_along_axis(logits, split.labels[:, None], 1)
    losses = np.log(np.exp(logits - true).sum(1))
    return losses.mean(), (logits.argmax(1) == split.labels).mean()


def read(file):
    """An export, by NumPy or safetensors alone."""
    if file.suffix == ".npz":
        with np.load(file) as content:
            arrays = {name: content[name] for name in content.files}
        return arrays, json.loads(str(arrays.pop("description")))
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as content:
        arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        return arrays, json.loads(content.metadata()["description"])


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_an_export_needs_no_jaxws(run, path, tmp_path, capsys, suffix):
    file = tmp_path / f"weights.{suffix}"
    assert "of step 6" in command(capsys, "export", path, f"--out={file}")
    arrays, description = read(file)
    assert description["arrays"] == {
        name: {"shape": list(a.shape), "dtype": "float32", "axes": axes}
        for (name, a), axes in zip(
            sorted(arrays.items()), ("f", "f", "f", "f", "f", "cf", "hwijcf"), strict=True
        )
    }
    assert description["step"] == 6
    assert description["config"]["batch_size"] == 500
    assert description["versions"]["jaxws"]
    loss, top1 = scored(file, load_dataset(run.config.data).test)
    assert loss == pytest.approx(description["metrics"]["test_loss"], rel=1e-4)
    assert top1 == pytest.approx(description["metrics"]["test_top1"])


def test_an_export_replaces_nothing_unasked(path, tmp_path, capsys):
    file = tmp_path / "weights.npz"
    file.write_text("the only copy")
    with pytest.raises(SystemExit):
        main(["export", str(path), f"--out={file}"])
    assert "is there already; --force writes over it" in capsys.readouterr().err
    assert file.read_text() == "the only copy"
    command(capsys, "export", path, f"--out={file}", "--step=3", "--force")
    assert read(file)[1]["step"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.npz"]


def test_an_export_that_fails_leaves_what_was_there(path, tmp_path, capsys, monkeypatch):
    file = tmp_path / "weights.npz"
    file.write_text("the only copy")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SystemExit):
        main(["export", str(path), f"--out={file}", "--force"])
    assert "No space left on device" in capsys.readouterr().err
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["the only copy"]


def test_scores_are_those_of_the_run(path, capsys):
    (last,) = [
        record
        for record in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
        if record["kind"] == "epoch" and record["step"] == 6
    ]
    scores = json.loads(command(capsys, "evaluate", path, "--json"))
    assert (scores["split"], scores["images"], scores["step"]) == ("validation", 143, 6)
    assert scores["top1"] == last["test_top1"]
    assert scores["top5"] == last["test_top5"]
    assert scores["loss"] == pytest.approx(last["test_loss"], rel=1e-6)
    table = command(capsys, "evaluate", path)
    assert f"{100 * last['test_top1']:.2f} %" in table


@pytest.mark.parametrize(("split", "images"), [("train", 1294), ("test", 1440)])
def test_every_image_counts_once(run, path, tmp_path, capsys, split, images):
    """On the rows that the run was trained on, and on test images that it never saw."""
    scores = json.loads(command(capsys, "evaluate", path, f"--split={split}", "--step=3", "--json"))
    assert (scores["split"], scores["images"], scores["step"]) == (split, images, 3)
    command(capsys, "export", path, f"--out={tmp_path / 'w.npz'}", "--step=3")
    config = run.config.copy_and_resolve_references()
    config.data.split = "tuning" if split == "train" else "final"
    loss, top1 = scored(tmp_path / "w.npz", getattr(load_dataset(config.data), split))
    assert scores["loss"] == pytest.approx(loss, rel=1e-4)
    assert scores["top1"] == pytest.approx(top1, abs=1.5 / images)  # a tie may fall either way


def test_weights_are_shared_before_scoring(run, path, tmp_path, capsys):
    """A sleep phase of a hundred iterations ends where sharing at once does, here."""
    command(capsys, "export", path, f"--out={tmp_path / 'w.npz'}")
    weights = dict(np.load(tmp_path / "w.npz"))
    kernel = weights["params/conv1/local_kernel"]
    for a, b in np.ndindex(3, 3):
        kernel[a::3, b::3] = kernel[a::3, b::3].mean(axis=(0, 1))
    np.savez(tmp_path / "w.npz", **weights)
    loss, top1 = scored(tmp_path / "w.npz", load_dataset(run.config.data).test)
    plain = json.loads(command(capsys, "evaluate", path, "--json"))
    assert plain["loss"] != pytest.approx(loss, rel=1e-3)
    for mode in ("instant", "sleep"):
        scores = json.loads(command(capsys, "evaluate", path, f"--share={mode}", "--json"))
        assert (scores["share"], scores["images"]) == (mode, 143)
        assert scores["loss"] == pytest.approx(loss, rel=1e-4)
        assert scores["top1"] == pytest.approx(top1, abs=1.5 / 143)
        before = scores["before"]
        assert (before["loss"], before["top1"]) == (plain["loss"], plain["top1"])
        assert before["distance_to_shared"] > 0.01 > scores["distance_to_shared"]
    table = command(capsys, "evaluate", path, "--share=instant")
    assert "before" in table and "difference" in table and "already" not in table


def test_weights_that_are_shared_already_are_said_to_be(path, capsys, monkeypatch):
    read = networks.read_weights

    def shared(directory):
        weights = read(directory)
        return weights | {"params": share_weights(weights["params"])}

    monkeypatch.setattr(networks, "read_weights", shared)
    assert "The weights were shared already" in command(capsys, "evaluate", path, "--share=instant")


def test_a_listing_tells_good_from_damaged(path, capsys, tmp_path):
    found = json.loads(command(capsys, "inspect", path, "--json"))
    assert [(c["step"], c["epoch"], c["health"]) for c in found["checkpoints"]] == [
        (3, 1, "good"),
        (6, 2, "good"),
    ]
    assert found["checkpoints"][1]["test_top1"] is not None
    assert (found["last_step"], found["other"]) == (6, [])
    # Damaged ones, of which one has lost its checksums, and one that was set aside.
    checkpoints = path / "checkpoints"
    largest = max((p for p in (checkpoints / "6").rglob("*")), key=lambda p: p.stat().st_size)
    content, sums = largest.read_bytes(), (checkpoints / "3" / "sha256.json").read_bytes()
    try:
        largest.write_bytes(content[:-1])
        (checkpoints / "3" / "sha256.json").unlink()
        (checkpoints / "2.damaged").mkdir()
        found = json.loads(command(capsys, "inspect", path, "--json"))
        assert [c["health"] for c in found["checkpoints"]] == ["damaged", "damaged"]
        assert largest.name in found["checkpoints"][1]["detail"]
        assert found["other"] == ["2.damaged"]
        table = command(capsys, "inspect", path)
        assert "step 3 is damaged: 1 of its files changed, such as sha256.json" in table
        assert "step 6 is damaged: 1 of its files changed, such as" in table
        assert "beside them: 2.damaged" in table
        with pytest.raises(SystemExit):
            main(["evaluate", str(path)])
        message = capsys.readouterr().err
        assert "/6 is damaged: 1 of its files changed" in message
        assert "steps 3, 6; choose one by --step" in message
    finally:
        largest.write_bytes(content)
        (checkpoints / "3" / "sha256.json").write_bytes(sums)
        (checkpoints / "2.damaged").rmdir()


def test_other_data_are_refused(path, capsys, monkeypatch):
    build = data.build_feed

    def other(config):
        feed = build(config)
        facts = feed.fingerprint()
        monkeypatch.setattr(feed, "fingerprint", lambda: facts | {"train_images": 7})
        return feed

    monkeypatch.setattr(data, "build_feed", other)
    with pytest.raises(SystemExit):
        main(["evaluate", str(path)])
    assert "train_images: 1294 then, 7 now): nothing was computed" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_is_refused(path):
    past = read_run(path)
    past.config.eval_batch_size = 0
    with pytest.raises(ValueError, match=r"config\.eval_batch_size=0: expected at least 1"):
        evaluate.evaluate(past)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect"], "the following arguments are required: WORKDIR"),
        (["inspect", "{}/nowhere"], "is not a run of jaxws: it does not exist"),
        (
            ["evaluate", "{}", "--step=4"],
            "has no checkpoint of step 4: there are those of steps 3, 6",
        ),
        (["evaluate", "{}", "--split=tset"], "there is no 'tset': did you mean 'test'?"),
        (["export", "{}"], "the following arguments are required: --out"),
        (["export", "{}", "--out=weights.txt"], "ends in .safetensors or .npz"),
        (["export", "{}", "--out=no/such/w.npz"], "there is no directory no/such; make it"),
        (["export", "{}", "--out=w.npz", "--steps=3"], "unknown argument '--steps=3'"),
    ],
)
def test_mistakes_are_one_line(path, capsys, arguments, expected):
    with pytest.raises(SystemExit) as status:
        main([argument.format(path) for argument in arguments])
    assert status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_run_without_checkpoints(tmp_path, capsys):
    Workdir(tmp_path / "new", base_config()).close()
    assert "no checkpoint yet" in command(capsys, "inspect", tmp_path / "new")
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "new"), f"--out={tmp_path / 'w.npz'}"])
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_a_missing_package_is_told(path, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["export", str(path), f"--out={tmp_path / 'w.pth'}", "--names=torch"])
    assert "pip install torch" in capsys.readouterr().err
