"""The benchmark of a step: who is compared, whose turn it is, and what is reported."""

import copy
import json
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

from benchmarks import check, harness, lc_step, machine, plot, problem


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
        seconds = {scale} * (9.0 if count == 2 else 1.0)
        print(json.dumps({{"seconds": seconds, "cpu_seconds": 2 * seconds}}), flush=True)
"""


def fake(name, log, *, scale=1, limit=99):
    code = textwrap.dedent(PEER.format(name=name, log=str(log), scale=scale, limit=limit))
    return harness.Process(name, [sys.executable, "-c", code])


def test_turns_and_ratios(tmp_path):
    log = tmp_path / "log"
    processes = [fake("a", log), fake("b", log, scale=3), fake("c", log, limit=2)]
    rounds = []
    try:
        records = harness.take_turns(
            processes, 3, kept=lambda so_far: rounds.append(copy.deepcopy(so_far))
        )
    finally:
        for process in processes:
            process.close()
    assert log.read_text() == "abccbaabc"
    harness.add_ratios(records, "a")
    assert records["a"]["seconds"] == [1, 9, 1] and records["a"]["cpu_seconds"] == [2, 18, 2]
    assert records["b"]["cpu_ratio"] == 3
    assert records["b"]["median_seconds"] == 3
    assert records["b"]["time_ratio"] == records["b"]["median_of_round_ratios"] == 3
    assert records["b"]["memory_ratio"] == 3
    assert records["c"]["error"] == "ended with exit code 1: lost its way"
    assert "time_ratio" not in records["c"]
    assert [len(so_far["a"]["seconds"]) for so_far in rounds] == [1, 2, 3]
    harness.add_ratios(rounds[1], "a")
    assert rounds[1]["b"]["time_ratio"] == 3 and "memory_ratio" not in rounds[1]["b"]


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


def test_an_interrupted_run_keeps_its_rounds(tmp_path, capsys, monkeypatch):
    """And the groups before, in a file that can be read at any time."""
    out = tmp_path / "new.json"

    def run_group(problem, rounds, names, options, kept):
        peers = {name: {"time_ratio": 1.5, "device": {"backend": "cpu"}} for name in names}
        group = {"batch": problem.batch, "rounds": rounds, "peers": peers}
        kept(group)
        if problem.batch == 8:
            raise KeyboardInterrupt
        return group

    monkeypatch.setattr(lc_step, "run_group", run_group)
    monkeypatch.setattr(lc_step, "table", lambda group: "")
    arguments = ["--peers", "torch,conv_local", "--slow-batch", "8", "--out", str(out)]
    assert lc_step.main(arguments) == 130
    assert f"interrupted; {out} has all rounds that were over" in capsys.readouterr().err
    results = json.loads(out.read_text())
    assert not results["complete"] and [group["batch"] for group in results["groups"]] == [512, 8]
    assert results["ratios"] == {
        "batch 512/torch": {"time": 1.5},
        "batch 8/conv_local": {"time": 1.5},
    }
    assert lc_step.main(arguments[:-2]) == 130
    assert "interrupted; nothing is kept without --out" in capsys.readouterr().err


def test_step_benchmark_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    out = tmp_path / "new.json"
    small = "--batch 2 --rounds 2 --depth 2 --width 2 --image 6 --rates-shrink 8 --pause 0"
    arguments = [*small.split(), "--device", "cpu", "--peers", "ours,slices", "--out", str(out)]
    assert lc_step.main(arguments) == 0
    assert "slices" in capsys.readouterr().out
    results = json.loads(out.read_text())
    (group,) = results["groups"]
    record = group["peers"]["slices"]
    assert len(record["seconds"]) == 2 and record["peak_bytes"] > record["baseline_bytes"] / 2
    assert results["ratios"]["batch 2/slices"]["time"] == record["time_ratio"]
    assert group["floor"]["float32"]["rates"]["flops"] > 1e8
    assert results["complete"] and results["problem"]["threads"] == results["machine"]["cores"]
    assert len(record["cpu_seconds"]) == 2 and "batch" not in results["problem"]
    assert results["machine"]["cores"] and results["versions"]["jax"] == jax.__version__
    assert check.main([str(out), str(out)]) == 0
    plot.draw(results, tmp_path / "new.png")
    assert (tmp_path / "new.png").read_bytes()[:4] == b"\x89PNG"
