"""How a machine is divided among runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxws.paper import slots
from jaxws.paper.configs import row_config
from jaxws.paper.slots import Devices, Slot, make_slots, probe

SMALL, LARGE = row_config("small/table5/digits/lc"), row_config("table5/cifar10/lc")
CPU = Devices("cpu", 1)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(slots, "cores", lambda: tuple(range(8)))
    monkeypatch.setattr(slots, "free_memory", lambda: 16e9)
    monkeypatch.delenv(slots.VISIBLE, raising=False)


def test_small_networks_have_a_core_each_and_large_ones_all(monkeypatch):
    assert make_slots([SMALL] * 20, CPU) == tuple(Slot((i,)) for i in range(8))
    assert [slot.cpus for slot in make_slots([SMALL] * 3, CPU)] == [(0, 1, 2), (3, 4), (5, 6, 7)]
    assert make_slots([LARGE] * 20, CPU) == make_slots([SMALL, LARGE], CPU) == (Slot(),)
    monkeypatch.setattr(slots, "free_memory", lambda: 2e9)
    assert len(make_slots([SMALL] * 20, CPU)) == 2
    monkeypatch.setattr(slots, "free_memory", lambda: 1e6)
    assert len(make_slots([SMALL] * 20, CPU)) == 1


def test_a_number_that_is_asked_for_is_taken():
    assert [slot.cpus for slot in make_slots([LARGE] * 20, CPU, 2)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert make_slots([SMALL], CPU, 9) == (Slot(),) * 9
    assert make_slots([SMALL], Devices("tpu", 4), 2) == (Slot(),) * 2


def test_gpus_are_those_that_may_be_seen(monkeypatch):
    gpus = Devices("gpu", 2, is_cuda=True)
    assert [dict(slot.environment) for slot in make_slots([LARGE], gpus)] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    monkeypatch.setenv(slots.VISIBLE, "GPU-a, 5")
    shared = [dict(slot.environment) for slot in make_slots([SMALL], gpus, 3)]
    assert [each[slots.VISIBLE] for each in shared] == ["GPU-a", "5", "GPU-a"]
    assert {each["XLA_PYTHON_CLIENT_MEM_FRACTION"] for each in shared} == {"0.450"}


def test_another_process_asks_jax(monkeypatch):
    answer = '{"platform": "gpu", "version": "PJRT C API\\ncuda 13000", "count": 2}'
    monkeypatch.setattr(slots, "_PROBE", f"print('a line'); print({answer!r})")
    assert probe() == Devices("gpu", 2, is_cuda=True)
    monkeypatch.setattr(slots, "_PROBE", f"print({answer.replace('cuda', 'rocm')!r})")
    assert probe() == Devices("gpu", 2)
    monkeypatch.setattr(slots, "_PROBE", "raise RuntimeError('no device')")
    with pytest.raises(ValueError, match=r"JAX finds no device here .*no device"):
        probe()


def test_memory_is_what_the_kernel_and_a_container_say(tmp_path, monkeypatch):
    monkeypatch.undo()
    kernel, most, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    kernel.write_text("MemTotal: 9 kB\nMemAvailable:   3000 kB\n")
    monkeypatch.setattr(slots, "_MEMINFO", kernel)
    monkeypatch.setattr(slots, "_CGROUP_LIMITS", (most, used))
    assert slots.free_memory() == 3_072_000
    most.write_text("max\n")
    used.write_text("5000\n")
    assert slots.free_memory() == 3_072_000
    most.write_text("6000\n")
    assert slots.free_memory() == 1000
    monkeypatch.setattr(slots, "_MEMINFO", tmp_path / "none")
    assert slots.free_memory() == float("inf")


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")
def test_a_child_whose_parent_is_gone_does_nothing(tmp_path):
    child = Path(slots.__file__).with_name("child.py")
    command = [sys.executable, "-I", "-S", str(child), "1", "", sys.executable, "-c", "print(1)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "")
