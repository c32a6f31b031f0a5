"""Several processes that share a run: real ones, on one machine."""

import hashlib
import os
import sys
import time

import jax
import numpy as np
import pytest

from jaxws.parallel import processes
from jaxws.parallel.together import check_same
from jaxws.records.metrics_file import MetricsFile, timeless
from jaxws.training.signals import Signals
from tests.support.pair import KILL, TERM, Group, train_small
from tests.support.small_run import assert_same_bits, checkpoint_of, small_config

STEPS = 9  # three epochs of 20 images in batches of 8


@pytest.fixture
def config(folder, tmp_path):
    config = small_config(folder, tmp_path / "tfds")
    config.batch_size = config.eval_batch_size = 8
    config.mesh.data, config.mesh.h = 4, 2
    return config


class Of:
    """The directory of a run, as helpers of tests ask for it."""

    def __init__(self, path):
        self.path, self.checkpoints = path, path / "checkpoints"

    def records(self):
        return [timeless(r) for r in MetricsFile(self.path / "metrics.jsonl").records()]


def whole_stopped_and_killed(config, path):
    """Three runs in one life of the processes; the last of them ends it."""
    assert train_small(config, path / "whole") == 0
    assert train_small(config, path / "stopped", (1, TERM, 4)) == 75
    assert train_small(config, path / "stopped") == 0
    return train_small(config, path / "killed", (1, KILL, 7))


def test_a_run_of_two_processes(config, tmp_path):
    """One process's numbers; a signal to one stops both; one is killed, and both are started again.

    All of it is one test, as starting and compiling is most of the time.
    """
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    for path in (alone, pair):
        path.mkdir()
    one = Group(alone, train_small, config, alone / "run", count=1, devices=8)
    two = Group(pair, whole_stopped_and_killed, config, pair)
    one.start(0)
    two.start(0)
    assert one.end() == [0]  # meanwhile, the first of two waits for the other
    assert two.end() == [75, -KILL]
    runs = {name: Of(pair / name) for name in ("whole", "stopped", "killed")}

    (out, silence), (errors, told) = two.lines("out"), two.lines()
    assert "waiting for process 1 of 2" in out
    assert not silence  # process 0 owns the terminal
    stop = [line for line in out if "stopped by" in line]
    assert stop == [stop[0]]
    assert "stopped by SIGTERM to process 1 after step" in stop[0]
    assert "is written" in stop[0]
    assert [line for line in told if "stops at once" in line]
    assert "SIGTERM to process 1: stopping after this step" in errors[0]
    assert errors[1].startswith("error: process 1 was lost: stopped; the same command")

    again = Group(pair, train_small, config, runs["killed"].path)
    assert again.end() == [0, 0]

    (_, expected), records = checkpoint_of(Of(alone / "run")), Of(alone / "run").records()
    step, state = checkpoint_of(runs["whole"])
    assert step == STEPS
    for name in ("stopped", "killed"):
        assert_same_bits(checkpoint_of(runs[name])[1], state)
        assert runs[name].records() == runs["whole"].records()
    for found, wanted in zip(runs["whole"].records(), records, strict=True):
        assert_close(found, wanted)
    jax.tree.map(assert_close, state, expected)


def assert_close(found, wanted):
    """Records or weights, to 1e-6."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert_close(found[name], value)
    elif isinstance(wanted, (str, type(None))):
        assert found == wanted
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def in_parts(how):
    """What can go wrong in one of three processes, and what they tell one another before."""
    texts = processes.gather(f"of {processes.index()} \udcff")  # a file's name may hold that
    assert texts == [f"of {n} \udcff" for n in range(3)]
    assert processes.broadcast("first" if processes.is_first() else None) == "first"
    here = how if processes.index() == 2 else None
    check_same({"config.seed": 2 if here == "differs" else 1})
    if here == "mistake":
        raise ValueError("no data\nhere")
    if here == "bug":
        raise KeyError("gone")
    if how == "first" and processes.is_first():
        raise OSError(28, "No space left on device", "metrics.jsonl")
    if how == "busy":
        if here:
            os._exit(1)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**9)  # as a compilation, which hears nothing
    if how != "fine":
        processes.barrier("never")
    return 0


@pytest.mark.parametrize(
    ("how", "statuses", "line"),
    [
        ("fine", [0, 0, 0], None),
        ("differs", [2, 2, 2], "process 2: config.seed is 2 here, and 1 in process 0."),
        ("mistake", [2, 2, 2], "process 2: no data here"),
        ("first", [2, 2, 2], "process 0: [Errno 28] No space left on device: 'metrics.jsonl'"),
        ("bug", [1, 1, 1], "process 2: 'gone'"),
        ("busy", [75, 75, 1], "process 2 was lost: stopped; the same command, given to all"),
    ],
)
def test_what_ends_one_ends_all_with_one_line(how, statuses, line, tmp_path):
    group = Group(tmp_path, in_parts, how, count=3, devices=1)
    assert group.end() == statuses
    for number, lines in enumerate(group.lines()):
        if line is None or (how == "busy" and number == 2):
            assert lines == []
        else:
            assert lines[-1].startswith(f"error: {line}")
            assert len(lines) == 1 or (how == "bug" and number == 2)  # with its traceback


def ask_until_told(twice):
    """Processes of different speed, of which one gets a signal, or two; the first, one in the end.

    That is how it is where a scheduler tells all of them, and one is faster.
    """
    asked = 0
    with Signals() as signals:
        processes.barrier("signals are taken")
        while not signals.stop_before_next():
            asked += 1
            time.sleep(0.001 * (1 + processes.index()))
            if asked == 20 and processes.index() == 1:
                os.kill(os.getpid(), TERM)
                if twice:
                    time.sleep(1.2)  # until it is no longer the same signal
                    os.kill(os.getpid(), TERM)
                    time.sleep(60)
        assert signals.received == "SIGTERM to process 1"
        if processes.index() == 0:
            os.kill(os.getpid(), TERM)
            time.sleep(0.2)  # until the thread has seen it
    print(f"asked {asked} times", file=sys.stderr)
    return 75


def test_a_signal_to_one_stops_all_at_the_same_place(tmp_path):
    group = Group(tmp_path, ask_until_told, False, count=3, devices=1)
    assert group.end() == [75, 75, 75]
    first, second, third = group.lines()
    assert first[0] == "SIGTERM to process 1: stopping after this step, with a checkpoint"
    assert second[1].endswith("with a checkpoint; a second signal stops at once.")
    assert [first[-1]] == [second[-1]] == third
    assert int(third[0].split()[1]) >= 20


def test_a_second_signal_to_one_ends_all(tmp_path):
    group = Group(tmp_path, ask_until_told, True, count=2, devices=1)
    assert group.end() == [75, 128 + TERM]
    assert group.lines()[0][-1].startswith("error: process 1 was lost: stopped; the same command")


def test_processes_that_do_not_fit_or_do_not_come(tmp_path):
    group = Group(tmp_path, in_parts, "fine", count=3, devices=1, timeout=4)
    waits = [group.start(number) for number in (0, 1)]
    time.sleep(1)
    group.processes[1] = waits[1]
    for wrong, count, line in (
        (1, 3, "two processes were started as number 1: give each its own"),
        (2, 4, "process 2 was started as one of 4 processes, process 0 as one of 3: give all the"),
    ):
        other = Group(tmp_path / str(wrong), in_parts, "fine", count=count, devices=1)
        (tmp_path / str(wrong)).mkdir()
        other._address = group._address
        refused = other.start(wrong)
        refused.join()
        assert refused.exitcode == 2
        text = (tmp_path / str(wrong) / f"err.{wrong}").read_text()
        assert text.startswith(f"error: {line}")
        assert text.count("\n") == 1
    for process in waits:
        process.join()
        assert process.exitcode == 2
    for number, lines in enumerate(group.lines()):
        assert lines[-1] == "error: process 2 did not come within 4 s"
        assert all("started as" in line for line in lines[:-1])
        assert len(lines) == (3 if number == 0 else 1)
    assert "waiting for process 2 of 3" in group.lines("out")[0]


def test_without_process_0(tmp_path):
    group = Group(tmp_path, in_parts, "fine", count=2, devices=1, timeout=0.5)
    process = group.start(1)
    process.join()
    assert process.exitcode == 2
    (line,) = (tmp_path / "err.1").read_text().splitlines()
    assert line.startswith(f"error: process 1: process 0 at {group._address} did not answer within")
    assert line.endswith("(Connection refused)")


def test_one_process_alone():
    assert processes.gather("a") == ["a"]
    assert processes.broadcast("a") == "a"
    with pytest.raises(ValueError, match="process 0 has no text for the others at 'broadcast'"):
        processes.broadcast(None)
    processes.barrier("here")
    check_same({"a": 1})
    assert (processes.index(), processes.count()) == (0, 1)
