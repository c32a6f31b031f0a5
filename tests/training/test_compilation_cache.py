"""Programs that are kept on disk: a second start finds all of them, and nothing can end a run."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from jaxws.system import user_cache
from jaxws.training import compilation_cache
from jaxws.training.compilation_cache import keep_programs, machine
from jaxws.training.loop import train
from tests.support.compilations import disk_cache
from tests.support.small_run import prepare_small, small_config

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_compilation_cache_max_size",
)


@pytest.fixture
def untold(tmp_path, monkeypatch):
    """A process in which nobody has said anything about JAX's cache."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("JAXWS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    for name, value in zip(SETTINGS, (None, 1.0, -1), strict=True):
        jax.config.update(name, value)
    jax_cache.reset_cache()
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def start_anew():
    """As in a new process, which has no program in memory and was told nothing."""
    jax.clear_caches()
    jax.config.update("jax_compilation_cache_dir", None)
    jax_cache.reset_cache()


@pytest.fixture
def config(folder, tmp_path):
    config = small_config(folder, tmp_path / "tfds")
    config.max_steps = 5
    return config


def test_a_second_start_compiles_nothing_and_damage_ends_no_run(config, untold, tmp_path):
    start_anew()
    with disk_cache() as first:
        train(prepare_small(config, tmp_path / "first"))
    assert first["asked"] > 10
    start_anew()
    with disk_cache() as second:
        record = train(prepare_small(config, tmp_path / "second"))
    assert second["found"] == second["asked"] > 10
    (directory,) = untold.glob("xla-*")
    entries = {path.name.split("-")[0]: path for path in directory.glob("*-cache")}
    # A process was killed while it wrote one, and a disk has lost a part of another.
    step, evaluation = entries["jit_compiled_step"], entries["jit_compiled_eval_step"]
    step.write_bytes(step.read_bytes()[:1000])
    step.with_name(step.name.replace("-cache", "-atime")).unlink()
    evaluation.write_bytes(evaluation.read_bytes()[:1000])
    start_anew()
    with (
        disk_cache() as third,
        pytest.warns(UserWarning, match="Error reading persistent compilation cache entry") as told,
    ):
        again = train(prepare_small(config, tmp_path / "third"))
    assert third["asked"] - third["found"] == 2
    assert len(told) == 1
    assert again["test_loss"] == record["test_loss"]
    assert len(step.read_bytes()) > 1000  # written anew


def test_it_lies_where_kernels_do_and_is_bounded(untold):
    directory = keep_programs()
    assert directory.parent == untold
    assert [getattr(jax.config, name) for name in SETTINGS] == [str(directory), 0, 2 * 1024**3]
    assert keep_programs() is None  # once


def test_what_the_user_says_is_respected(untold, tmp_path, monkeypatch):
    assert keep_programs(False) is None
    assert jax.config.jax_compilation_cache_dir is None
    jax.config.update("jax_enable_compilation_cache", False)
    assert keep_programs() is None
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
    keep_programs()
    assert jax.config.jax_compilation_cache_max_size == -1
    assert not (tmp_path / "mine").exists()


def test_a_directory_that_cannot_be_is_one_line(untold, caplog, monkeypatch):
    monkeypatch.setattr(user_cache, "_told", [])
    untold.write_text("a file")
    for _ in range(2):
        assert keep_programs() is None
    (record,) = caplog.records
    assert record.getMessage().startswith("programs and kernels are compiled anew at each start")
    assert jax.config.jax_compilation_cache_dir is None


def test_machines_of_two_kinds_have_a_directory_each(untold, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(compilation_cache, "_CPU_INFO", info)
    seen = {machine()}  # no such file, as on a Mac
    for flags in ("sse avx", "sse avx avx512f"):
        text = f"processor\t: 0\nmodel name\t: Some\ncpu MHz\t\t: {{}}\nflags\t\t: {flags}\n\n"
        for frequency in (1000, 2000):
            info.write_text(text.format(frequency) + "processor\t: 1\n")
            seen.add(machine())
    assert len(seen) == 3
