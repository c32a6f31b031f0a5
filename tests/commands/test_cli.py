"""train.py as a user runs it: by default, with wrong arguments, stopped and resumed."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxws.__main__ import main
from jaxws.records.provenance import given_command

ROOT = Path(__file__).parents[2]
# Of the networks that there are, the one that compiles fastest, and no second program for weights
# that are kept pooled. Of all runs the same programs: far more epochs than any has time for.
TINY = (
    *("--config.model.architecture=vit", "--config.model.depth=1", "--config.model.width=2"),
    *("--config.model.heads=1", "--config.model.mlp_ratio=1", "--config.model.patch_size=8"),
    *("--config.sharing.every=2", "--config.eval_batch_size=1440", "--config.log_every=5"),
    "--config.epochs=500",
)
# Says with which arguments and GLIBC_TUNABLES Python started, each time that it did.
SITE = """
import json, os, sys
with open(os.environ["STARTS"], "a") as file:
    print(json.dumps([os.getpid(), sys.orig_argv[1:], os.environ.get("GLIBC_TUNABLES")]), file=file)
"""


def in_process(*arguments, command="train"):
    """The exit status of a command, run in this process."""
    try:
        return main([command, *map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def environment(**variables):
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": cache} | variables


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of a process without a home directory, in an empty one: where, and what it did."""
    cwd = tmp_path_factory.mktemp("first")
    command = [sys.executable, str(ROOT / "train.py"), "--config.max_steps=10", *TINY]
    env = environment(HOME="/proc/nonexistent")
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout


@pytest.mark.versions
def test_train_with_no_config(first):
    cwd, out = first
    lines = out.splitlines()
    workdir = cwd / "runs" / "digits_lc_ws1"
    assert lines[0] == "digits_lc_ws1 in runs/digits_lc_ws1: loading JAX and the data"
    assert lines[1] == f"starting {workdir}"
    for file in ("accuracy.png", "snr.png", "report.html", "metrics.jsonl"):
        assert (workdir / file).exists()
        assert str(workdir / file) in out.replace("\n", "")
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [5, 10, 10]
    assert [path.name for path in cwd.iterdir()] == ["runs"]


@pytest.mark.versions
def test_the_same_again_finds_all_done(first, monkeypatch, capsys):
    monkeypatch.chdir(first[0])
    assert in_process("--config.max_steps=10", *TINY) == 0
    out = capsys.readouterr().out
    assert "resuming" in out
    assert "going on from step 10 of 10: it has reached its end" in out
    assert "test top-1" in out


def test_a_run_that_was_copied_to_a_bucket_goes_on_there(first, bucket, capsys):
    workdir = first[0] / "runs" / "digits_lc_ws1"
    for file in workdir.rglob("*"):
        if file.is_file():
            bucket.put(f"runs/a/{file.relative_to(workdir)}", file.read_bytes())
    bucket.remove("runs/a/report.html")
    url = "gs://bucket/runs/a"
    assert in_process("--config.max_steps=10", *TINY, f"--workdir={url}") == 0
    out = capsys.readouterr().out
    assert f"resuming {url}" in out and f"report: {url}/report.html" in out
    assert "test top-1" in bucket.text("runs/a/report.html").lower()
    bucket.fails = lambda method, name: 403 * name.endswith("report.html")
    (bucket.machine / "workdirs").rename(bucket.machine / "gone")
    assert in_process("--config.max_steps=10", *TINY, f"--workdir={url}") == 2
    assert "report.html cannot be read (PERMISSION_DENIED" in capsys.readouterr().err


def test_a_run_does_without_its_output(first):
    """A log on a full disk, and a reader that has gone; the run is done and says so again."""
    cwd, _ = first
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(ROOT / "train.py"), "--config.max_steps=10", *TINY]
    where = {"cwd": cwd, "env": environment(HOME="/proc/nonexistent")}
    with open("/dev/full", "wb") as full, os.fdopen(write, "wb") as gone:
        done = subprocess.run(command, **where, stdout=full, stderr=gone, timeout=300, check=False)
    assert done.returncode == 0


def test_another_config_in_the_same_directory_is_refused(first, capsys):
    workdir = first[0] / "runs" / "digits_lc_ws1"
    before = sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob("*"))
    assert in_process("--config.seed=3", f"--workdir={workdir}", *TINY) == 2
    assert "config.seed: 0 there, 3 here" in capsys.readouterr().err
    assert sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob("*")) == before


def test_a_signal_then_resume(tmp_path, monkeypatch, capsys):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY],
        cwd=tmp_path,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    last = out.strip().splitlines()[-1]
    found = re.fullmatch(
        r"stopped by SIGTERM after step (\d+); the checkpoint of step \1 is written\."
        r" To go on: python\S* \S*train\.py (.*)",
        last,
    )
    assert found, last
    assert shlex.split(found[2]) == list(TINY)
    assert "Traceback" not in err
    done = int(found[1])
    epoch = done // 23 + 1
    monkeypatch.chdir(tmp_path)
    assert in_process(*shlex.split(found[2]), f"--config.max_steps={23 * epoch}") == 0
    assert f"epoch {epoch:>3}/500" in capsys.readouterr().out
    lines = (tmp_path / "runs" / "digits_lc_ws1" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(5, 23 * epoch, 5))
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == list(range(1, epoch + 1))


def test_a_run_that_diverges(tmp_path, monkeypatch, capsys):
    """What the loop raises, as test_loop_not_finite.py has it do, is a line and a status."""

    def diverge(run):
        raise FloatingPointError("the loss is nan at step 3.\nNo checkpoint had been written.")

    monkeypatch.setattr("jaxws.training.loop.train", diverge)
    monkeypatch.chdir(tmp_path)
    assert in_process(*TINY) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "error: the loss is nan at step 3. No checkpoint had been written."
    with pytest.raises(FloatingPointError):
        in_process(*TINY, "--workdir=again", "--debug")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.optimizer.lr=1"], "did you mean 'config.optimizer.learning_rate'?"),
        (["--config.foo", "1"], "unknown field config.foo"),
        (["--config", "nowhere.py"], "--config=nowhere.py: no such file; python -m jaxws configs"),
        (["--config=digits_lc_ws"], "no such configuration: did you mean 'digits_lc_ws1'"),
        (["--config=x/cifar10_lc.py"], "no such file: did you mean --config=cifar10_lc?"),
        (["--config=a.py", "--config=b.py"], "more than once: a.py, b.py"),
        (["--config=broken.py"], "config file broken.py: ZeroDivisionError"),
        (["--config=reads.py"], "config file reads.py: FileNotFoundError"),
        (["--config.epochs=many"], "--config.epochs=many: expected a whole number"),
        (["--config.seed", "--workdir=x"], "--config.seed has no value"),
        (["--config.model=vit"], "such as 'config.model.architecture'"),
        (["--config.epochs=0"], "config.epochs=0: expected at least 1"),
        (["--wokdir=x"], "unknown argument '--wokdir=x': did you mean '--workdir'?"),
        (["--frobnicate"], "unknown argument '--frobnicate'; see --help."),
        (["configs/digits_lc.py"], "unexpected argument 'configs/digits_lc.py'"),
        (["--workdir"], "argument --workdir: expected one argument"),
        (["--config.batch_size=5000"], "larger than the data"),
        (["--config.data.path=/nowhere", f"--config={ROOT}/configs/cifar10_lc.py"], "/nowhere"),
        (["--config.data.data_dir=none", "--config=cifar10_conv"], "has not been prepared"),
        (["--workdir=foreign"], "is not a run of jaxws"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_no_traceback(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("all of it")
    (tmp_path / "broken.py").write_text("def get_config(): return 1 / 0")
    (tmp_path / "reads.py").write_text("def get_config(): return open('missing')")
    assert in_process(*arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert expected in line
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"foreign", "broken.py", "reads.py"}
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]


def test_debug_shows_where_a_mistake_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def get_config(): return 1 / 0")
    with pytest.raises(ValueError, match="config file broken") as raised:
        in_process("--config=broken.py", "--debug")
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull", "--helpshort"])
def test_help_says_what_there_is(flag, capsys):
    assert in_process(flag) == 0
    out = capsys.readouterr().out
    for text in ("--config ", "digits_lc_ws1", "--workdir", "--debug", "--config.FIELD=VALUE"):
        assert text in out
    assert "python -m jaxws configs" in out and str(ROOT / "configs") in out
    assert str(ROOT / "jaxws" / "config" / "fields.py") in out
    assert re.search(r"^ +75 +stopped in order", out, re.MULTILINE)


def test_configs_are_listed_with_what_they_are(capsys):
    assert in_process(command="configs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(list((ROOT / "configs").glob("*.py")))
    assert re.fullmatch(r"digits_lc +Handwritten digits, LC without weight sharing\.", lines[12])


def test_train_py_starts_anew_with_huge_pages_and_its_arguments(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    log = tmp_path / "starts"
    env = environment(PYTHONPATH=str(tmp_path), STARTS=str(log))
    env.pop("GLIBC_TUNABLES", None)
    command = [sys.executable, str(ROOT / "train.py"), "--wokdir=a b"]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == "error: unknown argument '--wokdir=a b': did you mean '--workdir'?\n"
    from jaxws.huge_pages import with_huge_pages

    tunables = [None, with_huge_pages({}).get("GLIBC_TUNABLES")]
    pids, arguments, found = zip(*map(json.loads, log.read_text().splitlines()), strict=True)
    assert list(found) == (tunables if tunables[1] else [None])
    assert set(map(tuple, arguments)) == {tuple(command[1:])}
    assert len(set(pids)) == 1


def test_what_to_give_again_is_what_was_given(tmp_path, monkeypatch):
    python, script = Path(sys.executable).name, tmp_path / "jaxws"
    script.touch(mode=0o755)

    def given(argv, orig_argv):
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.setattr(sys, "orig_argv", orig_argv)
        return given_command()

    assert given(["train.py", "-x"], ["/bin/python3", "train.py", "-x"]) == [
        python,
        "train.py",
        "-x",
    ]
    module = ["python3", "-W", "error", "-m", "jaxws", "train", "-x"]
    assert given(["/y/jaxws/__main__.py", "train", "-x"], module) == [python, *module[1:]]
    command = [str(script), "train", "-x"]
    assert given(command, ["python3", *command]) == command
    monkeypatch.setenv("PATH", str(tmp_path))
    assert given(command, ["python3", *command]) == ["jaxws", "train", "-x"]
