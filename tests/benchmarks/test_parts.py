"""The benchmarks of parts of a step, and of augmentation, report what they measured."""

import json

import pytest

from benchmarks import (
    augment,
    bookkeeping,
    jax_peers,
    layer_kinds,
    lc_layer,
    optimizer,
    problem,
)
from jaxws.core.implementations import native


def test_layer_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr(jax_peers, "measure_rates", lambda _: {"flops": 1e9, "bytes": 1e9})
    layer = problem.Layer("conv2", "bn2", size=5, stride=2, kernel=1, channels=2, features=4)
    monkeypatch.setattr(lc_layer, "distinct", lambda *_: [layer])
    out = tmp_path / "layers.json"
    arguments = "--nets resnet20 --batches 3 --channel-scales 1 --image-scales 1 --rounds 2"
    assert lc_layer.main([*arguments.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["results"]
    assert [(r["batch"], r["pass"]) for r in results] == [(3, which) for which in lc_layer.PASSES]
    assert all(set(r["seconds"]) >= {"default", "slices", "patches"} for r in results)


def test_kinds_of_layers_are_set_beside_others(tmp_path, monkeypatch):
    monkeypatch.setattr(layer_kinds, "SHAPES", ((5, 2, 3),))
    out = tmp_path / "kinds.json"
    assert layer_kinds.main(["--batch", "2", "--rounds", "2", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    [result] = report["results"]
    assert all(len(layer["seconds"]) == 2 for layer in result["layers"].values())
    title = result["title"]
    ratio = report["ratios"][f"{title}: rank 4, as convolutions / rank 4"]["time"]
    seconds = {name: layer["median_seconds"] for name, layer in result["layers"].items()}
    assert ratio == seconds["rank 4, as convolutions"] / seconds["rank 4"]


def test_cost_of_a_layer_by_hand():
    # x 5 x 5 x 2 and y 3 x 3 x 4 per image; 9 positions of 3 x 3 x 2 x 4 weights.
    layer = problem.Layer("conv2", "bn2", size=5, stride=2, kernel=3, channels=2, features=4)
    x, y, weights = 3 * 50, 3 * 36, 648
    assert lc_layer.cost(layer, 3, "forward") == {
        "flops": 2 * 3 * weights,
        "bytes": 4 * (x + y + weights),
    }
    assert lc_layer.cost(layer, 3, "gradients") == {
        "flops": 6 * 3 * weights,
        "bytes": 4 * (3 * x + 3 * y + 3 * weights),
    }


def test_distinct_layers():
    layers = lc_layer.distinct("resnet20")
    assert len(layers) == len({layer[2:] for layer in layers}) == 8
    assert {layer[2:] for layer in problem.resnet_cifar_layers(20, 16, 32)} == {
        layer[2:] for layer in layers
    }
    assert [layer.size for layer in lc_layer.distinct("resnet18", image_scale=2)[:2]] == [448, 112]


def test_augmentation_is_measured_for_each_number_of_views(capsys):
    sizes = "--images 9 --side 6 --crop_size 4 --batch 5 --pad 1 --rounds 2 --dtype float32"
    augment.main([*sizes.split(), "--n_reps", "1", "3"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[1] for row in rows] == ["1", "3"]
    assert all(float(row[3].strip(" |").replace(",", "")) > 0 for row in rows)


def test_bookkeeping_is_measured_against_a_bare_step(tmp_path, capsys):
    size = ["--batch", "4", "--depth", "2", "--width", "2", "--image", "6", "--rounds", "2"]
    out = tmp_path / "bookkeeping.json"
    bookkeeping.main([*size, "--dtype", "float16", "--variants", "all", "--out", str(out)])
    results = json.loads(out.read_text())["results"]["float16"]
    assert results.keys() == {"bare", "all"}
    assert all(len(record["seconds"]) == 2 for record in results.values())
    assert results["bare"]["overhead"] == 0
    assert "| all |" in capsys.readouterr().out


@pytest.mark.skipif(not native.available(), reason="no C++ compiler")
def test_an_update_in_one_pass_is_measured_beside_optax(tmp_path, capsys):
    out = tmp_path / "optimizer.json"
    size = ["--depth", "2", "--width", "2", "--image", "6", "--rounds", "2"]
    optimizer.main([*size, "--out", str(out)])
    report = json.loads(out.read_text())
    for kind in ("shared", "unshared"):
        ways = report["results"][kind]
        assert ways.keys() == {"one pass", "optax"}
        for record in ways.values():
            assert len(record["seconds"]) == 2
            rate = record["of_copying"] * report["copy_bytes_per_second"]
            # 36 positions, 9 offsets, 3 channels, 2 features
            moved = 4 * 36 * 9 * 3 * 2 * optimizer.PASSES[kind]
            assert rate * record["median_seconds"] == pytest.approx(moved)
    assert "| unshared | one pass |" in capsys.readouterr().out
