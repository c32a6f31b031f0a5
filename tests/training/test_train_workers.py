"""A run of train.py on ImageNet with worker processes that is killed: nothing of it is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxws.data.sources.official import OFFICIAL
from tests.support.official_sets import imagenet_tars, run_prepare

ROOT = Path(__file__).parents[2]
# Python imports it as it starts, in workers too: names of shared memory tell whose it is.
SITE = """
import os
from multiprocessing import shared_memory
shared_memory._SHM_NAME_PREFIX = "/" + os.environ["SHM_PREFIX"]
"""


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def descendants(pid):
    """Processes below one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # It has just ended.
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found[1:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")
def test_a_killed_run_leaves_no_process_and_no_shared_memory(tmp_path, monkeypatch, request):
    """With SIGTERM and SIGKILL at once, as starting takes most of the time."""
    monkeypatch.setitem(OFFICIAL, "imagenet2012", OFFICIAL["imagenet2012"]._replace(disk_bytes=1))
    imagenet_tars(tmp_path / "manual", per_class=300, size=20)
    directories = [f"--manual_dir={tmp_path}/manual", f"--data_dir={tmp_path}/tfds"]
    assert run_prepare("imagenet2012", *directories) == 0
    (tmp_path / "sitecustomize.py").write_text(SITE)
    runs = {}
    for end in (signal.SIGTERM, signal.SIGKILL):
        workdir, prefix = tmp_path / end.name, f"jw{os.getpid() % 10**5}{end.value}"
        fields = {
            **{"data.data_dir": tmp_path / "tfds", "data.workers": 2, "data.crop_size": 16},
            **{"model.architecture": "resnet_cifar", "model.depth": 8, "model.width": 1},
            **{"batch_size": 1, "log_every": 1, "epochs": 1},
        }
        command = [sys.executable, str(ROOT / "train.py"), f"--workdir={workdir}"]
        command += [f"--config={ROOT}/configs/imagenet_conv.py"]
        command += [f"--config.{name}={value}" for name, value in fields.items()]
        path = os.pathsep.join([str(tmp_path), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "SHM_PREFIX": prefix}
        with (tmp_path / f"{end.name}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        runs[end] = (process, workdir / "metrics.jsonl", prefix)

    def shared(prefix):
        return [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]

    request.addfinalizer(lambda: [process.kill() for process, _, _ in runs.values()])
    for end, (process, metrics, prefix) in runs.items():
        wait_for(lambda m=metrics, p=process: p.poll() or (m.exists() and m.stat().st_size))
        assert process.poll() is None, (tmp_path / f"{end.name}.log").read_text()
        below = descendants(process.pid)
        assert len(below) >= 2 and shared(prefix)  # it is at work
        for pid in below:  # A batch system sends it to all processes of a job.
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None and len(descendants(process.pid)) >= len(below)
        process.send_signal(end)
        process.wait(60)
        wait_for(lambda b=below: not any(os.path.exists(f"/proc/{pid}") for pid in b))
        wait_for(lambda p=prefix: not shared(p))
