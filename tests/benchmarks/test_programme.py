"""The programme of a GPU: it goes on after failures, and where it was cut off."""

import json
import subprocess
import time

import pytest

from benchmarks import lc_step, programme
from benchmarks.programme import Stage
from jaxws.paper.configs import row_config

# In a child of its own, as the tests and the rows of the paper have some.
SLEEPS = "import subprocess; subprocess.run(['sleep', '98.5'])"


def stage(name, code, minutes=1.0):
    return Stage(name, minutes, ["-c", code])


def test_goes_on_after_failures_and_where_it_was_cut_off(tmp_path, capsys):
    todo = [
        stage("good", "print('hello')"),
        stage("bad", "raise SystemExit(3)"),
        stage("long", SLEEPS, minutes=1 / 60),
        stage("last", "print('there')"),
    ]
    start = time.monotonic()
    assert programme.run(todo, tmp_path, 5, {}) == ["bad", "long"]
    assert time.monotonic() - start < 20
    summary = json.loads((tmp_path / programme.SUMMARY).read_text())
    codes = {name: record["returncode"] for name, record in summary["stages"].items()}
    assert codes == {"good": 0, "bad": 3, "long": None, "last": 0}
    assert summary["stages"]["bad"]["command"] == "python -c 'raise SystemExit(3)'"
    assert {"machine", "versions", "date", "commit"} <= summary.keys()
    # The child of the stage that was stopped has ended with it.
    sleeping = subprocess.run(["pgrep", "-f", "sleep 98.5"], capture_output=True, check=False)
    assert not sleeping.stdout

    todo[1:3] = [stage("bad", "print('better')"), stage("long", "print('shorter')")]
    assert programme.run(todo[:2], tmp_path, 0, {}) == ["bad"]  # no time
    assert programme.run(todo, tmp_path, 5, {}) == []
    assert (tmp_path / "good.log").read_text() == "hello\n"
    told = capsys.readouterr().out
    assert "bad: failed (3)" in told and "long: stopped after 1 s" in told
    assert "bad: no time left" in told and "good: done before" in told


@pytest.mark.parametrize("dry", [True, False])
def test_commands_are_those_of_the_tools(dry, tmp_path, monkeypatch):
    modules = set()
    for name, _, (_, module, *arguments) in programme.stages(tmp_path, tmp_path, dry):
        modules.add(module)
        if name == "lc_step":
            assert lc_step.parse(arguments).out == tmp_path / "lc_step.json"
        if name.startswith("table5"):
            assert row_config(arguments[2]).data.name == ("digits" if dry else "cifar10")
    assert modules == {
        *("jaxws", "pytest", "benchmarks.lc_step", "benchmarks.lc_layer", "benchmarks.optimizer")
    }


def test_what_cannot_be_done_is_said(tmp_path, capsys):
    for arguments, message in (
        (["--only=lc_stp"], "choose from ['check'"),
        ([f"--data={tmp_path / 'nowhere'}"], "expected a folder"),
    ):
        with pytest.raises(SystemExit):
            programme.main([f"--out={tmp_path / 'out'}", *arguments])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
