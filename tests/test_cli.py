"""train.py as a user runs it: a process of its own, wrong arguments, stopped and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def command(tmp_path, data_dir):
    def build(*arguments):
        return [
            sys.executable,
            str(ROOT / "train.py"),
            *arguments,
            f"--config.data.data_dir={data_dir}",
        ]

    return build


def run(command, cwd):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )


TINY = ("--config.model.width=1", "--config.eval_batch_size=1440", "--config.log_every=5")


def test_train_with_no_config_then_again(command, tmp_path):
    """From another directory; the second run finds the first one's work done."""
    first = run(command("--config.max_steps=10", *TINY), tmp_path)
    assert first.returncode == 0, first.stderr
    assert "starting" in first.stdout
    workdir = tmp_path / "runs" / "digits_lc_ws1"
    for file in ("accuracy.png", "snr.png", "report.html", "metrics.jsonl"):
        assert (workdir / file).exists()
        assert str(workdir / file) in first.stdout.replace("\n", "")
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [5, 10, 10]
    again = run(command("--config.max_steps=10", *TINY), tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stdout
    assert "test top-1" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_then_resume(command, tmp_path, number):
    arguments = ("--config.epochs=500", *TINY)  # far more than are done before the signal
    process = subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    last = out.strip().splitlines()[-1]
    found = re.fullmatch(
        rf"stopped by {number.name} after step (\d+); the checkpoint of step \1 is written\."
        r" To go on: python\S* \S*train\.py (.*)",
        last,
    )
    assert found, last
    assert all(argument in found[2] for argument in arguments)
    assert "Traceback" not in err
    done = int(found[1])
    epoch = done // 23 + 1
    resumed = run(command(*arguments, f"--config.max_steps={23 * epoch}"), tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert f"epoch {epoch:>3}/500" in resumed.stdout
    lines = (tmp_path / "runs" / "digits_lc_ws1" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(5, 23 * epoch, 5))
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == list(range(1, epoch + 1))


def test_a_run_that_diverges(command, tmp_path):
    arguments = ("--config.optimizer.learning_rate=1e30", "--config.max_steps=50", *TINY)
    result = run(command(*arguments), tmp_path)
    assert result.returncode == 3, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(("error: the loss is ", "error: the norm of the gradients is "))
    assert "No checkpoint had been written" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.optimizer.lr=1"], "did you mean 'config.optimizer.learning_rate'?"),
        (["--config.foo", "1"], "unknown field config.foo"),
        (["--config", "nowhere.py"], "--config=nowhere.py: no such file"),
        (["--config=a.py", "--config=b.py"], "more than once: a.py, b.py"),
        (["--config=broken.py"], "config file broken.py: ZeroDivisionError"),
        (["--config.epochs=many"], "--config.epochs=many"),
        (["--wokdir=x"], "Did you mean: workdir"),
        (["configs/digits_lc.py"], "unexpected argument 'configs/digits_lc.py'"),
        (["--config.batch_size=5000"], "larger than the data"),
        (["--config.data.path=/nowhere", f"--config={ROOT}/configs/cifar10_lc.py"], "/nowhere"),
        ([f"--config={ROOT}/configs/cifar10_conv.py"], "has not been prepared"),
        (["--workdir=foreign"], "is not a run of jaxws"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_no_traceback(command, tmp_path, arguments, expected):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("all of it")
    (tmp_path / "broken.py").write_text("def get_config(): return 1 / 0")
    result = run(command(*arguments), tmp_path)
    assert result.returncode == 2
    assert expected in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"foreign", "broken.py"}
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]


def test_another_config_in_the_same_directory_is_refused(command, tmp_path):
    first = run(command("--config.max_steps=1", "--workdir=run", *TINY), tmp_path)
    assert first.returncode == 0, first.stderr
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    other = run(command("--config.seed=3", "--workdir=run", *TINY), tmp_path)
    assert other.returncode == 2
    assert "config.seed: 0 there, 3 here" in other.stderr
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before
