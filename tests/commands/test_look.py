"""`python -m jaxws look`: its figures and tables, an untrained control in each, and mistakes."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from jaxws.__main__ import main
from jaxws.analysis import activations, rdm, rdm_similarity
from jaxws.commands.look import filters_figure, orientation_figure, output
from jaxws.data import load_dataset
from jaxws.models import load

CONTROL = "untrained, seed 5"
LAYERS = ("conv1", "fc")
NAMES = ("filters_conv1", "similarity", "orientation_conv1", "rdms", "rsa")


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """All figures of two networks of one architecture."""
    out = tmp_path_factory.mktemp("look")
    arguments = ["look", "small/lc-ws1", "small/lc", f"--out={out}", "--seed=5", "--features=1"]
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", text)
        assert main([*arguments, "--per_class=2", "--json", "--layers", *LAYERS]) == 0
    return out, json.loads(text.getvalue())


def table(looked, name):
    lines = (looked[0] / f"{name}.csv").read_text().splitlines()
    assert "jaxws" in lines[0] and "seed 5" in lines[4]
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_every_figure_is_written_as_picture_and_table(looked):
    out, found = looked
    expected = {f"{name}.{kind}" for name in NAMES for kind in ("png", "pdf", "csv")}
    assert {path.name for path in out.iterdir()} == expected
    assert {path.rpartition("/")[2] for path in found["files"]} == expected
    for name in NAMES:
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(out / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        rows = table(looked, name)
        networks = {row.get("network", row.get("network_a")) for row in rows}
        assert {"small/lc-ws1", "small/lc", CONTROL} <= networks <= {*networks, "pixels"}


def test_shared_filters_are_alike_in_the_table_and_others_are_not(looked):
    for row in table(looked, "similarity"):
        if row["network"] == "small/lc-ws1" and row["same_pool"] == "True":
            assert float(row["p10"]) == pytest.approx(1, abs=1e-5)
        elif int(row["pairs"]) > 500:
            assert abs(float(row["mean"])) < 0.1
    means = {(m["network"], m["layer"]): m["same_pool"] for m in looked[1]["similarity"]}
    assert means["small/lc-ws1", "conv1"] == pytest.approx(1)
    assert abs(means[CONTROL, "conv1"]) < 0.1


def test_weights_in_the_table_are_the_networks(looked):
    kernel = load("small/lc").variables["params"]["conv1"]["local_kernel"]
    rows = [row for row in table(looked, "filters_conv1") if row["network"] == "small/lc"]
    assert len(rows) == 24 * 24 * 9
    for row in rows[:: len(rows) // 50]:
        at = tuple(int(row[axis]) for axis in ("h", "w", "i", "j", "channel", "feature"))
        assert float(row["weight"]) == pytest.approx(kernel[at], rel=1e-5)


def test_rsa_is_of_the_test_images_that_it_names(looked):
    network = load("small/lc-ws1")
    test = load_dataset(network.config.data).test
    order = [np.flatnonzero(np.asarray(test.labels) == label)[:2] for label in range(10)]
    rows = np.concatenate(order)
    pixels = np.asarray(test.images)[rows].reshape(-1, 24, 24, 1)
    outputs = activations(*network[:2], network.normalise(pixels), list(LAYERS))
    rdms = [rdm(pixels), *(rdm(outputs[name]) for name in LAYERS)]

    (found,) = looked[1]["rsa"]
    assert found["networks"][:3] == ["pixels", *["small/lc-ws1"] * 2]
    np.testing.assert_allclose(np.array(found["spearman"])[:3, :3], rdm_similarity(rdms), atol=2e-3)
    of_pixels = [row for row in table(looked, "rdms") if row["network"] == "pixels"]
    assert [int(row["image_b"]) for row in of_pixels[:19]] == rows[1:].tolist()
    assert [row["class_a"] for row in of_pixels[:1]] == ["0"]
    values = [float(row["dissimilarity"]) for row in of_pixels]
    np.testing.assert_allclose(values, rdms[0][np.triu_indices(20, 1)], rtol=1e-4)
    assert len(table(looked, "rsa")) == 7 * 8 / 2  # pixels, and two layers of three networks


def test_orientations_repeat_over_a_pool_where_weights_are_shared(looked):
    rows = [row for row in table(looked, "orientation_conv1") if row["network"] == "small/lc-ws1"]
    tuning = np.array([float(row["preferred_deg"]) for row in rows]).reshape(24, 24, 8)
    np.testing.assert_allclose(tuning[1:-4, 1:-1], tuning[4:-1, 1:-1], atol=0.5)
    assert {m["units"] for m in looked[1]["orientation_conv1"]} == {24 * 24 * 8}


def test_colours_and_steps_of_large_layers():
    palette = orientation_figure.colours(np.array([0.0, 179.999, 90]), np.array([1.0, 1, 0.25]))
    np.testing.assert_allclose(palette[0], palette[1], atol=0.1)  # a circle
    assert palette[2].min() == pytest.approx(0.5, abs=0.01)  # half as pale
    for positions in range(1, 300):
        for size in (1, 2, 3, 5, 7):
            step, _ = filters_figure.drawn_step((positions, 9, size, 3, 1, 1))
            drawn = range(0, positions, step)
            assert len(drawn) <= 32
            assert len({at % size for at in drawn}) == min(size, positions)  # of every pool
    deep = np.zeros((2, 2, 3, 3, 5))
    deep[..., 4] = -1
    channel, shown = filters_figure._shown(deep)
    assert channel == 4 and shown.shape == (2, 2, 3, 3, 1)
    assert output.spread(range(10), 4) == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["small/lc", "--layers", "conv9"], "small/lc has no layer 'conv9'; there are conv1, bn1"),
        (["small/lc", "--features", "0"], "--features=0: expected 1 or more"),
        (["small/lc", "--out", "nowhere"], "--out=nowhere: there is no such directory"),
        (["small/lcc"], "did you mean 'small/lc'"),
        (["small/lc", "--figures", "filters", "--layers", "fc"], "there is nothing to draw"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(arguments, expected, tmp_path, capsys):
    given = arguments if "--out" in arguments else [*arguments, "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(["look", *given])
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
