"""Benchmarks measure the same computation in every peer, and report what they measured."""

import json
import sys
import textwrap
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    augment,
    bookkeeping,
    check,
    harness,
    jax_peers,
    lc_layer,
    lc_step,
    machine,
    plot,
    problem,
)
from jaxws import LocalConv, share_weights
from jaxws.models import from_torch_state_dict, resnet18, resnet_cifar
from jaxws.pooled import spread_kernels

SMALL = problem.Problem(batch=3, depth=8, width=4, image=9, classes=5)
BASELINE = 1e-4


def test_layers_are_those_of_the_networks():
    for layers, model, size in (
        (problem.resnet_cifar_layers(14, 4, 30), resnet_cifar(14, width=4, conv=LocalConv), 30),
        (problem.resnet18_layers(8, 70), resnet18(width=8, conv=LocalConv), 70),
    ):
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        found = {
            "/".join(entry.key for entry in path[:-1]): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
            if path[-1].key == "local_kernel"
        }
        expected = {
            layer.name.replace(".conv", "/conv").replace(".down", "/down").replace(".", "_"): (
                *(layer.positions, layer.positions, layer.kernel, layer.kernel),
                *(layer.channels, layer.features),
            )
            for layer in layers
        }
        assert found == expected


def test_cost_of_a_step_by_hand():
    # One 3x3 stem of 5 x 5 positions, and two layers of 25 + 9 + 9 + ... positions per stage.
    step = problem.Problem(batch=2, depth=8, width=1, image=5, classes=7)
    stem, same = 25 * 9 * 3, 2 * 25 * 9
    second = 9 * 9 * 1 * 2 + 9 * 9 * 2 * 2 + 9 * 1 * 2
    third = 4 * 9 * 2 * 4 + 4 * 9 * 4 * 4 + 4 * 2 * 4
    weights = stem + same + second + third
    cost = problem.step_cost(step)
    assert cost == {"flops": 2 * 2 * (3 * (weights + 4 * 7) - stem), "bytes": 24 * weights}
    floor = problem.floor_seconds(cost, {"flops": cost["flops"] / 3, "bytes": cost["bytes"] / 2})
    assert floor == {"flops_seconds": 3.0, "bytes_seconds": 2.0, "seconds": 3.0}


def test_weights_and_images_are_the_same_in_every_process():
    for local in (False, True):
        first, second = (problem.state_dict(SMALL, local=local) for _ in range(2))
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)
    np.testing.assert_array_equal(problem.make_batch(SMALL)[0], problem.make_batch(SMALL)[0])


@pytest.fixture(scope="module")
def ours():
    peer = jax_peers.Peer("ours", SMALL)
    return [peer.step() for _ in range(3)], jax.device_get(spread_kernels(peer.state.params))


@pytest.mark.parametrize("name", ["unpooled", "slices", "conv_local"])
def test_peers_in_jax_compute_the_same(name, ours):
    peer = jax_peers.Peer(name, SMALL)
    losses, params = ours
    assert harness.disagreement([peer.step() for _ in range(3)], losses, BASELINE) is None
    if name == "conv_local":
        params = jax_peers.map_local_kernels(
            lambda _, kernel: jax_peers.channel_major(kernel), params
        )
    close(spread_kernels(peer.state.params), params)


def test_conv_local_is_flax_s_layer():
    layer = {"features": 4, "kernel_size": (3, 3), "strides": 2, "padding": 1, "use_bias": False}
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 3))
    theirs, ours = nn.ConvLocal(**layer), jax_peers.FlaxConvLocal(**layer)
    params = theirs.init(jax.random.key(1), x)["params"]
    kernel = params["kernel"].reshape(4, 4, 3, 3, 3, 4)
    y = ours.apply({"params": {"local_kernel": kernel}}, x)
    np.testing.assert_array_equal(y, theirs.apply({"params": params}, x))
    # Sharing averages every k-th position of the kernel as Flax shapes it.
    shared = share_weights({"local_kernel": kernel})["local_kernel"].reshape(4, 4, 27, 4)
    pool = params["kernel"][::3, 1::3]
    np.testing.assert_allclose(shared[3, 1], pool.mean((0, 1)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["torch", "torch_published"])
def test_peers_in_pytorch_compute_the_same(name, ours):
    pytest.importorskip("torch")
    from benchmarks import torch_lc

    peer = torch_lc.Peer(name, SMALL)
    losses, params = ours
    assert harness.disagreement([peer.step() for _ in range(3)], losses, BASELINE) is None
    state = {}
    for layer in problem.layers_of(SMALL):
        key = layer.name.replace(".", "_")
        state[f"{layer.name}.weights"] = peer.net.convs[key].published()
        for leaf, value in peer.net.norms[key].state_dict().items():
            state[f"{layer.norm}.{leaf}"] = value
    state |= {f"fc.{leaf}": value for leaf, value in peer.net.fc.state_dict().items()}
    model = resnet_cifar(8, width=4, num_classes=5, conv=LocalConv)
    close(from_torch_state_dict(model, state, image_shape=(9, 9, 3))["params"], params)


def test_convolutional_peers_compute_the_same():
    pytest.importorskip("torch")
    from benchmarks import torch_lc

    jaxs, torchs = jax_peers.Peer("conv", SMALL), torch_lc.Peer("torch_conv", SMALL)
    expected = [torchs.step() for _ in range(3)]
    assert harness.disagreement([jaxs.step() for _ in range(3)], expected, BASELINE) is None


def test_known_peers():
    names = set(jax_peers.PEERS)
    assert names <= {*lc_step.LOCAL, *lc_step.CONVOLUTIONAL} == set(plot.LABELS)
    pytest.importorskip("torch")
    from benchmarks import torch_lc

    assert names | set(torch_lc.PEERS) == set(plot.LABELS)


def close(a, b):
    # AdamW's first updates have the size of the learning rate, 1e-3, whatever the gradient's.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), a, b)


def test_disagreement():
    assert harness.disagreement([1.0, 2.0], [1.0, 2.001], 1e-4) is None
    assert "step 0" in harness.disagreement([1.001, 2.0], [1.0, 2.0], 1e-4)
    assert "step 1" in harness.disagreement([1.0, 2.1], [1.0, 2.0], 1e-4)
    assert "step 0 is nan" in harness.disagreement([float("nan")], [1.0], 1e-4)


def test_peers_that_differ_are_not_timed():
    def fact(losses, backend="cpu"):
        return {"losses": losses, "device": {"backend": backend}}

    facts = {"ours": fact([2.0, 1.0]), "conv": fact([3.0, 2.5]), "torch": fact([2.0, 1.001])}
    for name in facts:
        lc_step.check(name, facts)  # convolutional networks are compared with each other only
    with pytest.raises(harness.PeerError, match=r"step 0 is 3\.1, expected 3 as of conv"):
        lc_step.check("torch_conv", facts | {"torch_conv": fact([3.1, 2.5])})
    with pytest.raises(harness.PeerError, match="runs on a gpu, ours on a cpu"):
        lc_step.check("slices", facts | {"slices": fact([2.0, 1.0], "gpu")})
    lc_step.check("ours_bf16", facts | {"ours_bf16": fact([2.01, 1.0])})
    with pytest.raises(harness.PeerError, match="step 0"):
        lc_step.check("slices", facts | {"slices": fact([2.01, 1.0])})


def test_shares_of_the_machine():
    step = problem.Problem(batch=2, depth=8, width=1, image=5, classes=7)
    cost = problem.step_cost(step)
    rate = {"dtype": "float32", "flops": cost["flops"], "bytes": cost["bytes"] / 2}
    peers = {"ours": {"median_seconds": 4.0}, "conv": {"median_seconds": 1.0}}
    half = {"dtype": "bfloat16", "flops": 1.0, "bytes": 1.0}  # emulated, and slower
    group = {"rates": {"ours": rate, "conv": half}, "peers": peers}
    lc_step.add_floor(group, step)
    assert group["floor"]["bfloat16"] == group["floor"]["float32"]
    assert group["floor"]["float32"]["seconds"] == 2.0
    assert peers["ours"]["share_of_flops_rate"] == 0.25
    assert peers["ours"]["share_of_bytes_rate"] == 0.5
    assert "share_of_flops_rate" not in peers["conv"]


def test_fastest_repetition():
    durations = iter([0.0, 0.0, 0.03, 0.01, 0.02])
    found = machine.fastest(lambda: time.sleep(next(durations)), repeats=5)
    assert 0.01 <= found < 0.02  # the first two only warm up
    durations = iter([0.01, 0.0])
    assert machine.fastest(lambda: time.sleep(next(durations)), budget=0.005) >= 0.01


PEER = """
    import json, sys
    count, limit, log = 0, {limit}, {log!r}
    for line in sys.stdin:
        command = line.strip()
        if command == "memory":
            print(json.dumps({{"host_bytes": {scale} * 100, "device_bytes": None}}), flush=True)
            continue
        with open(log, "a") as file:
            file.write({name!r})
        count += 1
        if count > limit:
            sys.exit("lost its way")
        print(json.dumps({{"seconds": {scale} * (9.0 if count == 2 else 1.0)}}), flush=True)
"""


def fake(name, log, *, scale=1, limit=99):
    code = textwrap.dedent(PEER.format(name=name, log=str(log), scale=scale, limit=limit))
    return harness.Process(name, [sys.executable, "-c", code])


def test_turns_and_ratios(tmp_path):
    log = tmp_path / "log"
    processes = [fake("a", log), fake("b", log, scale=3), fake("c", log, limit=2)]
    try:
        records = harness.take_turns(processes, 3)
    finally:
        for process in processes:
            process.close()
    assert log.read_text() == "abccbaabc"
    harness.add_ratios(records, "a")
    assert records["a"]["seconds"] == [1, 9, 1]
    assert records["b"]["median_seconds"] == 3
    assert records["b"]["time_ratio"] == records["b"]["median_of_round_ratios"] == 3
    assert records["b"]["memory_ratio"] == 3
    assert records["c"]["error"] == "ended with exit code 1: lost its way"
    assert "time_ratio" not in records["c"]


def test_memory_of_this_process():
    if not machine.reset_peak_bytes():
        pytest.skip("the system cannot reset the peak")
    before = machine.peak_bytes()
    block = np.ones(2**24)  # 128 MiB, touched
    assert machine.peak_bytes() > before + block.nbytes // 2
    del block
    machine.reset_peak_bytes()
    assert machine.peak_bytes() < before + 2**26


def test_plan_of_a_run():
    plan = lc_step.groups(lc_step.parse(["--peers", "torch,conv_local", "--batch", "64"]))
    assert plan == [(64, 5, ["ours", "torch", "conv_local"])]
    plan = lc_step.groups(lc_step.parse(["--peers", "torch,conv_local", "--slow-batch", "8"]))
    assert plan == [(512, 5, ["ours", "torch"]), (8, 3, ["ours", "conv_local"])]
    plan = lc_step.groups(lc_step.parse(["--peers", "ours,conv_local"]))
    assert plan == [(128, 3, ["ours", "conv_local"])]


def test_unknown_peer(capsys):
    with pytest.raises(SystemExit):
        lc_step.parse(["--peers", "ours,tensorflow"])
    assert "unknown peers ['tensorflow']" in capsys.readouterr().err


def test_step_benchmark_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    out = tmp_path / "new.json"
    small = "--batch 2 --rounds 2 --depth 8 --width 2 --image 6 --pause 0 --device cpu"
    assert lc_step.main([*small.split(), "--peers", "ours,slices", "--out", str(out)]) == 0
    assert "slices" in capsys.readouterr().out
    results = json.loads(out.read_text())
    (group,) = results["groups"]
    record = group["peers"]["slices"]
    assert len(record["seconds"]) == 2 and record["peak_bytes"] > record["baseline_bytes"] / 2
    assert results["ratios"]["batch 2/slices"]["time"] == record["time_ratio"]
    assert group["floor"]["float32"]["rates"]["flops"] > 1e8
    assert results["machine"]["cores"] and results["versions"]["jax"] == jax.__version__
    assert check.main([str(out), str(out)]) == 0
    plot.draw(results, tmp_path / "new.png")
    assert (tmp_path / "new.png").read_bytes()[:4] == b"\x89PNG"


def test_layer_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr(jax_peers, "measure_rates", lambda _: {"flops": 1e9, "bytes": 1e9})
    layer = problem.Layer("conv2", "bn2", size=5, stride=2, kernel=3, channels=2, features=4)
    monkeypatch.setattr(lc_layer, "distinct", lambda *_: [layer])
    out = tmp_path / "layers.json"
    arguments = "--nets resnet20 --batches 3,4 --channel-scales 1 --image-scales 1 --rounds 2"
    assert lc_layer.main([*arguments.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["results"]
    assert [(r["batch"], r["pass"]) for r in results] == [
        (batch, which) for batch in (3, 4) for which in lc_layer.PASSES
    ]
    assert all(set(r["seconds"]) >= {"default", "slices", "patches"} for r in results)
    # x 5 x 5 x 2 and y 3 x 3 x 4 per image; 9 positions of 3 x 3 x 2 x 4 weights.
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


def results(ratios, *, errors=(), **changes):
    device = {"backend": "cpu", "kind": "cpu"}
    peers = {"ours": {"device": device}, **{name: {"error": "is gone"} for name in errors}}
    return {
        "benchmark": "lc_step",
        "problem": {"depth": 20},
        "groups": [{"batch": 8, "peers": peers}],
        "ratios": {f"batch 8/{name}": ratio for name, ratio in ratios.items()},
        **changes,
    }


def run_check(tmp_path, new, base, *arguments):
    for name, content in (("new", new), ("base", base)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return check.main([str(tmp_path / "new.json"), str(tmp_path / "base.json"), *arguments])


BASE = results({"torch": {"time": 2.0, "memory": 1.0}, "slices": {"time": 1.5, "memory": 1.2}})


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (BASE, []),
        (results({"torch": {"time": 1.8, "memory": 0.9}}), []),
        (results({"torch": {"time": 9.0, "memory": 9.0}}), []),
        (
            results({"torch": {"time": 1.0, "memory": 1.0}}),
            ["batch 8/torch: time ratio 1.000, was 2.000 (-50 %)"],
        ),
        (
            results({"torch": {"time": 1.0, "memory": 0.5}, "slices": {"time": 1.5}}),
            [
                "batch 8/torch: memory ratio 0.500, was 1.000 (-50 %)",
                "batch 8/torch: time ratio 1.000, was 2.000 (-50 %)",
            ],
        ),
        (
            results({"slices": {"time": 1.5}}, errors=["torch"]),
            ["batch 8/torch: fails, is gone"],
        ),
    ],
    ids=["same", "within tolerance", "better", "slower", "both", "failed"],
)
def test_regressions(tmp_path, capsys, new, lines):
    assert run_check(tmp_path, new, BASE) == bool(lines)
    assert capsys.readouterr().out.splitlines() == lines


def test_tolerance(tmp_path):
    new = results({"torch": {"time": 1.8, "memory": 1.0}})
    assert run_check(tmp_path, new, BASE, "--tolerance=0.2") == 0
    assert run_check(tmp_path, new, BASE, "--tolerance=0.05") == 1


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (results({"conv": {"time": 1.0}}), "no ratio is in both"),
        (results({}, problem={"depth": 8}), "problem"),
        (results({}, benchmark="lc_layer"), "benchmark"),
        ({"benchmark": "lc_step", "problem": {"depth": 20}}, "device"),
    ],
)
def test_what_cannot_be_compared(tmp_path, capsys, new, message):
    assert run_check(tmp_path, new, BASE) == 2
    assert message in capsys.readouterr().err


def test_missing_results(tmp_path, capsys):
    assert check.main([str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_augmentation_is_measured_for_each_number_of_views(capsys):
    sizes = "--images 9 --side 6 --crop_size 4 --batch 5 --pad 1 --rounds 2 --dtype float32"
    augment.main([*sizes.split(), "--n_reps", "1", "3"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[1] for row in rows] == ["1", "3"]
    assert all(float(row[3].strip(" |").replace(",", "")) > 0 for row in rows)


def test_bookkeeping_is_measured_against_a_bare_step(tmp_path, capsys):
    size = ["--batch", "4", "--depth", "8", "--width", "2", "--image", "6", "--rounds", "2"]
    out = tmp_path / "bookkeeping.json"
    bookkeeping.main([*size, "--dtype", "float16", "--variants", "all", "--out", str(out)])
    results = json.loads(out.read_text())["results"]["float16"]
    assert results.keys() == {"bare", "all"}
    assert all(len(record["seconds"]) == 2 for record in results.values())
    assert results["bare"]["overhead"] == 0
    assert "| all |" in capsys.readouterr().out
