"""A run's directory names modules: they are imported only if the user has said so."""

import sys

import pytest

from jaxws.__main__ import main
from jaxws.config import base_config
from jaxws.records.workdir import Workdir


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with modules that nobody has named; none of them is ever run."""
    for name in ("theirs", "other"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of somebody else was run')")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise SystemExit('a package was run')")
    (tmp_path / "package" / "models.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return tmp_path


def run_of(**names):
    config = base_config()
    config.model.architecture = names.get("architecture", "resnet_cifar")
    config.sharing.mode, config.sharing.every = names.get("mode", "instant"), 1
    Workdir("run", config).close()


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    return line


@pytest.mark.parametrize("command", [["evaluate"], ["report"], ["export", "--out=w.npz"]])
@pytest.mark.parametrize(
    ("names", "module", "file"),
    [
        ({"architecture": "theirs:NETWORK"}, "theirs", "theirs.py"),
        ({"mode": "theirs:RULE"}, "theirs", "theirs.py"),
        ({"architecture": "package.models:NETWORK"}, "package.models", "package/__init__.py"),
        ({"architecture": "antigravity:fly"}, "antigravity", "antigravity.py"),  # opens a browser
    ],
)
def test_what_a_directory_names_is_not_run(place, capsys, command, names, module, file):
    run_of(**names)
    line = refused(capsys, command[0], "run", *command[1:])
    assert f"{file} would be run: if it is what you expect, give --trust={module}" in line
    assert line.startswith("error: run/config.json names code of its own, config.")
    assert module not in sys.modules and not (place / "w.npz").exists()


def test_each_module_is_trusted_by_its_name(place, capsys):
    run_of(architecture="theirs:NETWORK", mode="other:RULE")
    assert "other.py would be run" in refused(capsys, "report", "run", "--trust=theirs")
    assert "theirs.py would be run" in refused(capsys, "report", "run", "--trust=other")
    assert "names no such module, but theirs, other" in refused(
        capsys, "report", "run", "--trust=others"
    )
    both = ["--trust=other", "--trust=theirs"]
    assert "no epoch in metrics.jsonl yet" in refused(capsys, "report", "run", *both)


def test_looking_needs_no_trust(place, capsys):
    run_of(architecture="theirs:NETWORK")
    assert main(["inspect", "run"]) == 0


def test_a_rule_that_is_given_is_trusted(place, capsys):
    run_of(mode="mine:RULE")
    (place / "mine.py").write_text(
        "from jaxws.training.sharing_rules import SharingRule\nRULE = SharingRule(make=None)\n"
    )
    try:
        assert "has no checkpoint" in refused(capsys, "evaluate", "run", "--share=mine:RULE")
    finally:
        sys.modules.pop("mine", None)
