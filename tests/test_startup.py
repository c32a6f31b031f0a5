"""What a start imports, what names mean whatever is imported in which order, what is in a wheel."""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import jaxws
from jaxws.config import files as config_files

ROOT = Path(__file__).parents[1]

# Nothing of the first part may import JAX. In the second one, processes that have nothing of jaxws
# yet are made by forking, as JAX takes seconds to import.
PROGRAM = """
    import contextlib, io, os, sys
    import jaxws.huge_pages
    from jaxws.__main__ import main

    for argv in (
        ["--help"], ["typo"], [], ["configs"], ["train", "--help"], ["train", "--wokdir=x"],
        ["train", "--config=digits"], ["train", "--config.seed=many"], ["train", "--config.lr=1"],
        ["train", "--config.sharing.every=-1"], ["train", "--config.profile=x"], ["train", "x"],
        ["look", "--help"], ["look"], ["look", "x", "--features=0"],
        ["train", "--config.model.architecture=x"], ["train", "--config.sharing.mode=x"],
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                main(argv)
            except SystemExit:
                pass
        heavy = {"jax", "flax", "numpy", "orbax", "tensorflow_datasets", "matplotlib"}
        assert not heavy & {name.partition(".")[0] for name in sys.modules}, argv

    for name in [name for name in sys.modules if name.partition(".")[0] == "jaxws"]:
        del sys.modules[name]
    import jax
    orders = sys.stdin.read().split("--")
    for order in orders:
        if order == orders[1]:
            import flax.linen
        if os.fork() == 0:
            try:
                exec(order)
                if order == orders[0]:  # functions of parameters need no Flax
                    assert "flax" not in sys.modules
                from jaxws import local_conv
                import jaxws.core.local_conv as module
                assert type(jaxws.layer_windows) is type(lambda: 0), jaxws.layer_windows
                assert local_conv is jaxws.local_conv is module.local_conv
            except BaseException as error:
                print(f"{order}: {error!r}")
                os._exit(1)
            os._exit(0)
    children = [os.wait()[1] for _ in orders]
    assert not any(children), children
"""
ORDERS = """
import jaxws
jaxws.share_weights, jaxws.weight_snr, jaxws.to_conv, jaxws.local_conv, jaxws.dynamics.sleep_phase
--
import jaxws
--
import jaxws.core.local_conv, jaxws.layers.windows
--
from jaxws import local_conv, layer_windows
import jaxws.core.local_conv, jaxws.layers.windows
--
import jaxws.layers
from jaxws.layers.windows import layer_windows
import jaxws
"""


def run(command, **arguments):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, **arguments
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_start_imports_no_jax_and_names_are_those_of_functions():
    run([sys.executable, "-c", textwrap.dedent(PROGRAM)], cwd=ROOT, input=ORDERS)


@pytest.mark.versions
def test_every_public_name_is_there():
    for name in jaxws.__all__:
        assert getattr(jaxws, name).__name__ == name
    assert set(jaxws.__all__) <= set(dir(jaxws))
    assert set(jaxws.__all__) == set(jaxws._MODULES)


def test_modules_are_imported_when_they_are_asked_for():
    assert jaxws.dynamics.__name__ == "jaxws.dynamics"
    with pytest.raises(AttributeError, match="module 'jaxws' has no attribute 'nothing'"):
        _ = jaxws.nothing
    with pytest.raises(ImportError, match="cannot import name 'shar_weights'"):
        from jaxws import shar_weights  # noqa: F401


def test_a_name_that_is_no_configuration():
    with pytest.raises(ValueError, match="no configuration is called 'digit_lc': did you mean"):
        config_files.named_config("digit_lc")
    assert config_files.DIRECTORY == ROOT / "configs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the wheel of this repository is installed, with its program beside it."""
    hatchling = pytest.importorskip("hatchling.build")
    site, before = tmp_path_factory.mktemp("site"), Path.cwd()
    os.chdir(ROOT)
    try:
        wheel = hatchling.build_wheel(str(site))
    finally:
        os.chdir(before)
    with zipfile.ZipFile(site / wheel) as file:
        file.extractall(site)
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    module, _, function = entry.read_text().partition("jaxws = ")[2].strip().partition(":")
    (site / "bin").mkdir()
    (site / "bin" / "jaxws").write_text(f"from {module} import {function}\n{function}()\n")
    return site


def test_a_wheel_has_all_that_is_needed(site):
    package = {
        str(path.relative_to(site)) for path in (site / "jaxws").rglob("*") if path.is_file()
    }
    kinds = (".py", ".h", ".cc", ".npz", ".typed")
    here = [
        path for path in ROOT.glob("jaxws/**/*") if path.suffix in kinds or path.name == "py.typed"
    ]
    expected = {str(path.relative_to(ROOT)) for path in here}
    expected |= {f"jaxws/configs/{path.name}" for path in ROOT.glob("configs/*.py")}
    assert expected <= package
    tops = {path.name.partition("-")[0] for path in site.iterdir()}
    assert tops == {"jaxws", "bin"}  # nothing else is put beside the packages of others


def test_who_installed_the_wheel_can_train(site, tmp_path):
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(site)}
    command = [sys.executable, str(site / "bin" / "jaxws"), "train", "--config=digits_lc"]
    command += ["--config.max_steps=2", "--config.model.width=1", "--config.eval_batch_size=1440"]
    out = run(command, cwd=tmp_path, env=env)
    assert "epoch 0.087/30" in out
    assert (tmp_path / "runs" / "digits_lc" / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    listed = run([sys.executable, "-m", "jaxws", "configs"], cwd=tmp_path, env=env)
    assert str(site / "jaxws" / "configs") in listed
