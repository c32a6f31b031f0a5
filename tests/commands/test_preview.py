"""`python -m jaxws preview`: it shows what training and evaluation see, and explains mistakes."""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxws.__main__ import main
from jaxws.commands import preview
from jaxws.commands.flags import add_config_arguments, config_of, parse_arguments
from jaxws.commands.parse_config import parse_config
from jaxws.config import base_config
from jaxws.data import load_dataset
from jaxws.training import evaluation, loop, programs
from jaxws.training.step import StepInfo
from tests.support.small_run import prepare_small

CONFIGS = Path(__file__).parents[2] / "configs"
SUMS = {"loss": 0.0, "top1": 0.0, "top5": 0.0, "images": 1.0}


@pytest.fixture
def config(data_dir):
    config = base_config()
    config.data.name, config.data.data_dir = "digits", data_dir
    config.batch_size, config.epochs = 500, 2
    config.model.depth, config.model.width, config.model.connectivity = 8, 1, "conv"
    return config


def command(*arguments):
    return main(["preview", *map(str, arguments), "--debug"])


def test_the_sheet_shows_what_a_run_sees(config, tmp_path, monkeypatch):
    """Steps of both epochs, a ragged batch among them, as the loop hands them to train_step."""
    config.data.n_reps, config.batch_size = 2, 1000
    config.data.crop_size, config.data.pad = 20, 3
    config.data.split, config.model.dtype, config.checkpoint.keep = "tuning", "bfloat16", 1
    seen = {"train": [], "test": []}

    def keep(split):
        return lambda *batch: seen[split].append(jax.tree.map(np.asarray, batch))

    def train_step(state, batch, **_):
        jax.debug.callback(keep("train"), batch.image, batch.label, batch.mask, ordered=True)
        info = StepInfo({}, *(jnp.zeros(()),) * 3, *(jnp.asarray(False),) * 2, {})
        return state.replace(step=state.step + 1), SUMS, info

    def eval_step(params, batch_stats, batch, **_):
        jax.debug.callback(keep("test"), batch.image, batch.label, batch.mask, ordered=True)
        return SUMS

    monkeypatch.setattr(programs, "train_step", train_step)
    monkeypatch.setattr(evaluation, "eval_step", eval_step)
    run = prepare_small(config, tmp_path / "run")
    assert run.feed.steps_per_epoch == 3  # 1294 images: the last batch is ragged
    loop.train(run)
    jax.effects_barrier()
    assert [len(seen["train"]), len(seen["test"])] == [6, 2]
    for epoch in (seen["train"][:3], seen["train"][3:]):  # Each shows all images, in two views.
        assert sum(mask.sum() for _, _, mask in epoch) == 2 * 1294
    for split, step in (("train", 2), ("train", 4), ("test", 0)):
        image, label, mask = seen[split][step]
        view = preview.preview(config, split, step, number=10**6)
        pixels = preview.denormalise(image[mask].astype(np.float32), run.feed.mean, run.feed.std)
        np.testing.assert_array_equal(view.images, pixels)
        assert view.labels == [str(value) for value in label[mask]]
        assert ("500 images, 2 views of each" in view.title) == (split == "train")
        assert len(view.images) == {"train": 588 if step == 2 else 1000, "test": 143}[split]


def test_normalisation_is_undone(config):
    config.data.pad, config.data.flip = 0, False
    view = preview.preview(config, "test", 0, number=20)
    images = load_dataset(config.data).test.images[:20].reshape(20, 24, 24, 1)
    np.testing.assert_array_equal(view.images, images)
    assert "test images, 24x24 pixels" in view.title


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_in_rows_pixel_by_pixel(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 30, channels), dtype=np.uint8)
    view = preview.View(images, list("abcde"), "title")
    sheet = np.asarray(preview.draw_sheet(view, columns=3))
    found = []
    for image in images:  # Enlarged twice, for 96 pixels or a little less.
        tile = np.broadcast_to(image.repeat(2, 0).repeat(2, 1), (80, 60, 3))
        corners = [
            (y, x)
            for y, x in np.argwhere((sheet == tile[0, 0]).all(-1))
            if np.array_equal(sheet[y : y + 80, x : x + 60], tile)
        ]
        assert len(corners) == 1
        found.append(corners[0])
    rows, columns = zip(*found, strict=True)
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4]
    assert columns[0] == columns[3] < columns[1] == columns[4] < columns[2]


def test_the_command_writes_a_sheet(data_dir, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    arguments = [f"--config={CONFIGS}/digits_lc_ws1.py", f"--config.data.data_dir={data_dir}"]
    arguments += ["--out", out, "--rows=2", "--columns=3", "--config.data.pad", 4]
    assert command(*arguments) == 0
    with Image.open(out) as image:
        assert image.size[0] > 3 * 72
    assert "6 images of digits: train images" in capsys.readouterr().out
    before = out.read_bytes()
    with pytest.raises(ValueError, match="crop_size is 99 and the images have 24x24"):
        command(*arguments, "--config.data.crop_size=99")
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=sheet.jpg"], r"--out=sheet\.jpg: expected a file that ends in \.png"),
        (["--out=nowhere/sheet.png"], "no directory nowhere"),
        (["--out=sheet.png", "--rows=0"], "--rows=0: expected 1 or more"),
        (["--out=sheet.png", "--step=-1"], "--step=-1: expected 0 or more"),
        (["--out=sheet.png", "--config.epochs=many"], "--config.epochs=many"),
        (["--out=sheet.png", "--config.data.pad=-1"], "config.data.pad=-1: expected at least 0"),
    ],
)
def test_mistakes_are_explained(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command(f"--config={CONFIGS}/cifar10_lc.py", *arguments)
    assert not list(tmp_path.iterdir())


def test_config_flags_in_any_order_and_spelling():
    file = f"{CONFIGS}/cifar10_lc.py"
    for argv in (
        [f"--config={file}", "--config.seed=3", "--config.data.flip=false"],
        ["--config.seed", "3", "--noconfig.data.flip", "--config", file],
    ):
        config, found, rest = parse_config(argv)
        assert (config.seed, config.data.flip, found, rest) == (3, False, file, [])
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_config_arguments(parser)
    parser.add_argument("--other", action="store_true")
    argv = ["--config.data.crop_size", "8", "--config.data.path=a b", "--config", file, "--other"]
    argv += ["--noconfig.data.flip", "--config.optimizer.learning_rate", "-1", "--config.seed", "1"]
    args, unknown = parse_arguments(parser, [*argv, "2", "--nothing", "-x"])
    config, name = config_of(args)
    assert (config.data.crop_size, config.data.path, config.data.flip) == (8, "a b", False)
    assert (config.optimizer.learning_rate, config.seed) == (-1, 1)
    assert (name, args.other, unknown) == ("cifar10_lc", True, ["2", "--nothing", "-x"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config.seed=1"], "no --config: give a file"),
        (["--config=nowhere.py"], r"--config=nowhere\.py: no such file"),
        (["--config=broken.py"], r"config file broken\.py: ZeroDivisionError"),
        (["--config=a.py", "--config", "b.py"], r"more than once: a\.py, b\.py"),
        ([f"--config={CONFIGS}/cifar10_lc.py", "--config.lr=1"], "unknown field config.lr"),
    ],
)
def test_wrong_config_flags(tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def get_config(): return 1 / 0")
    with pytest.raises(ValueError, match=message):
        parse_config(argv)


def test_config_files_import_one_another_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = [path for path in sys.path if not Path(path, "configs").is_dir()]
    monkeypatch.setattr(sys, "path", list(elsewhere))
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    config, _, _ = parse_config([f"--config={CONFIGS}/imagenet_lc.py"])
    assert config.model.connectivity == "local" and config.data.name == "imagenet2012"
    assert sys.path == elsewhere


def test_denormalised_values_stay_in_range():
    images = jnp.array([-100.0, 0.0, 100.0]).reshape(1, 1, 3, 1)
    pixels = preview.denormalise(np.asarray(images), np.array([0.5]), np.array([0.25]))
    assert pixels.ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prevew"], "there is no 'prevew': did you mean 'preview'?"),
        (["preview", "--out=a.png"], "required: --config"),
        (["preview", "--config=a.py", "--out=a.png", "--rws=2"], "unknown argument '--rws=2'"),
        (["preview", "--config=a.py", "--out=a.png", "--pad=2"], "you mean '--config.data.pad'"),
        (["preview", "--config=a.py", "--out=a.png", "--config.lr=2"], "unknown field config.lr"),
        (["preview", "--config=a.py", "--out=a.png"], "--config=a.py: no such file"),
        (["preview", "--config=a.py", "--out=a.gif"], "ends in .png"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_the_traceback_is_shown_if_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"ends in \.png"):
        main(["preview", "--config=a.py", "--out=a.gif", "--debug"])
