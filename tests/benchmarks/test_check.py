"""Results that are worse than those kept are noticed, and no others."""

import json

import pytest

from benchmarks import check


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
