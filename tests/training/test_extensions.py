"""docs/extending.md, as it stands: a network, a sharing rule and a metric from outside."""

import json
import re
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxws.__main__ import main
from jaxws.core.sharing import share_weights
from jaxws.training.metrics import METRICS
from jaxws.training.weight_sharing import Sharing
from tests.support.compilations import compilations

GUIDE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
FILES = dict(
    re.findall(r"file\s`(\w+\.py)`(?:\suses them)?:\n\n```python\n(.*?)```", GUIDE, re.DOTALL)
)
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
]


def arguments(words, *more):
    """Those of :func:`jaxws.__main__.main` for a command as users type it."""
    if words[:2] == ["python", "train.py"]:
        return ["train", *words[2:], *more]
    assert words[:3] == ["python", "-m", "jaxws"]
    return words[3:]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A directory with the guide's files, in which commands are started."""
    path = tmp_path_factory.mktemp("place")
    for name, text in FILES.items():
        (path / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(sys, "path", [p for p in sys.path if p])
        yield path
        for name in FILES:
            sys.modules.pop(Path(name).stem, None)


@pytest.fixture(scope="module")
def tiny(folder, tmp_path_factory):
    """A data set that trains in no time, and an end after two steps."""
    data = {"name": "folder", "path": folder, "data_dir": tmp_path_factory.mktemp("tfds"), "pad": 1}
    fields = {f"data.{key}": value for key, value in data.items()}
    fields |= {"batch_size": 6, "eval_batch_size": 4, "max_steps": 2, "log_every": 1}
    return [f"--config.{key}={value}" for key, value in fields.items()]


@pytest.fixture(scope="module")
def trained(place, tiny):
    """The guide's commands, in their order."""
    for words in COMMANDS:
        assert main(arguments(words, *tiny)) == 0
    del METRICS["entropy"]  # watched.py has added it to this process


def lines(name):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_the_guide_has_what_is_run_here():
    assert list(FILES) == ["my_models.py", "shallow.py", "my_rules.py", "watched.py"]
    assert GUIDE.count("```python") == len(FILES)
    assert [words[1:4] for words in COMMANDS] == [
        ["train.py", "--config=shallow.py", "--config.model.features=3"],
        ["-m", "jaxws", "export"],
        ["train.py", "--config=shallow.py", "--config.sharing.mode=my_rules:PARTLY"],
        ["-m", "jaxws", "evaluate"],
        ["train.py", "--config=watched.py", "--workdir=runs/watched"],
    ]


def test_own_fields_are_part_of_a_run(trained, tiny, capsys):
    fields = json.loads(Path("runs/partly/config.json").read_text())["config"]
    assert (fields["model.features"], fields["sharing.part"]) == (4, 0.25)
    assert np.load("shallow.npz")["params/conv/local_kernel"].shape == (7, 7, 3, 3, 3, 3)
    with pytest.raises(SystemExit):
        main(arguments(COMMANDS[2], *tiny, "--config.model.features=5"))
    assert "config.model.features: 4 there, 5 here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(arguments(COMMANDS[2], *tiny, "--config.sharing.part=2"))
    assert "config.sharing.part=2.0: expected above 0 and at most 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(arguments(COMMANDS[2], *tiny, "--config.model.featurs=5"))
    assert "did you mean 'config.model.features'?" in capsys.readouterr().err


def test_the_run_goes_on_with_the_same_program(trained, tiny, capsys):
    with compilations() as names:
        assert main(arguments(COMMANDS[2], *tiny, "--config.max_steps=5")) == 0
    assert "jit(compiled_step)" not in names  # outside objects of equal settings are equal
    assert lines("runs/partly/metrics.jsonl")[-1]["step"] == 5
    assert main(["report", "runs/partly"]) == 0
    page = Path("runs/partly/report.html").read_text()
    assert "one locally connected layer of 4 features, weights shared by ws(1)" in page
    assert "default: 0.5" in page


def test_the_rule_is_what_shares(trained, capsys):
    from my_rules import Partly

    kernel = jax.random.normal(jax.random.key(0), (4, 4, 3, 3, 1, 2))
    params = {"local_kernel": kernel}
    sharing = Sharing(1, "grid", 4, Partly(1.0))
    np.testing.assert_allclose(
        sharing.rule(params, 0, "grid")["local_kernel"],
        share_weights(params)["local_kernel"],
        atol=1e-6,
    )
    assert not sharing.keeps_shared
    # The network's filters are drawn independently: a part of the way leaves some difference.
    scores = {}
    for rule in ("my_rules:PARTLY", "instant"):
        assert main(["evaluate", "runs/partly", f"--share={rule}", "--json"]) == 0
        scores[rule] = json.loads(capsys.readouterr().out)["loss"]
    assert scores["instant"] != scores["my_rules:PARTLY"]


def test_a_metric_is_recorded(trained):
    last = lines("runs/watched/metrics.jsonl")[-1]
    assert 0 < last["train_entropy"] <= np.log(2) and 0 < last["test_entropy"] <= np.log(2)
    assert "test_entropy" not in lines("runs/partly/metrics.jsonl")[-1]


def test_a_missing_module_is_told_and_weights_are_listed_without_it(
    trained, place, tmp_path, capsys
):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "path", [p for p in sys.path if p != str(place)])
        patch.delitem(sys.modules, "my_models")
        assert main(["inspect", str(place / "runs" / "partly")]) == 0  # does without it
        with pytest.raises(SystemExit):
            main(["evaluate", str(place / "runs" / "partly")])
    error = capsys.readouterr().err
    assert "module 'my_models' cannot be imported" in error
    assert "start in the directory that it is in" in error


def test_a_run_of_a_rule_that_has_no_such_name(trained, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "runs/partly", "--share=instnt"])
    assert (
        "--share='instnt': expected one of 'instant', 'sleep', 'online'" in capsys.readouterr().err
    )
