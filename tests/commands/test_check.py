"""Kernels that prove themselves where they run, what happens if they cannot, and the command."""

import json
import logging
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxws import local_conv
from jaxws.__main__ import main
from jaxws.commands import check, check_step
from jaxws.core.implementations import dispatch, mosaic, native, proof, slices
from jaxws.core.implementations.spec import MAPS

SLICES = slices.SLICES
X, K = jnp.ones((2, 4, 4, 3)), jnp.ones((4, 4, 3, 3, 3, 5))
INTERPRETED = SLICES._replace(
    **{name: partial(getattr(mosaic, name), interpret=True) for name in MAPS}
)


def fail(*arguments):
    raise RuntimeError("no such instruction\nand a long trace")


def off(name):
    """The slices, but one map is wrong by a thousandth: less than TF32 may round."""
    right = getattr(SLICES, name)
    return SLICES._replace(**{name: lambda a, b, spec: right(a, b, spec) * (1 + 2**-10)})


def half_sums(x, kernel, spec):
    """Sums in bfloat16, one offset after the other, which the contract forbids."""
    total = jnp.zeros((*spec.window.output_size, kernel.shape[-1], x.shape[-1]), x.dtype)
    for c in range(kernel.shape[-2]):
        for i, j in np.ndindex(*spec.window.kernel_size):
            one = jnp.zeros_like(kernel).at[:, :, i, j, c].set(kernel[:, :, i, j, c])
            total = total + SLICES.forward(x, one, spec)
    return total


@pytest.fixture
def fresh(monkeypatch):
    """Nothing is proven; JAX believes that there is one device."""
    monkeypatch.setattr(proof, "_proven", set())
    monkeypatch.setattr(proof, "_wrong", set())
    monkeypatch.setattr(dispatch, "may_be_partitioned", lambda *arrays: False)
    monkeypatch.delenv("JAXWS_PROVE", raising=False)

    def default(implementation):
        monkeypatch.setitem(dispatch.BY_NAME, "new", implementation)
        monkeypatch.setitem(dispatch.FASTEST, jax.default_backend(), ("new", jax.default_backend()))

    return default


@pytest.mark.parametrize("name", MAPS)
def test_a_wrong_map_is_named(name):
    why = proof.failure(off(name), "cpu", "float32")
    assert name in why
    assert not any(other in why for other in set(MAPS) - {name})


def test_wrong_in_other_ways():
    assert proof.failure(SLICES._replace(forward=fail), "cpu", "float32") == (
        "RuntimeError: no such instruction"
    )
    nans = SLICES._replace(forward=lambda a, b, s: SLICES.forward(a, b, s) * jnp.nan)
    assert "forward by inf" in proof.failure(nans, "cpu", "float32")
    assert "forward by" in proof.failure(SLICES._replace(forward=half_sums), "cpu", "bfloat16")
    unable = SLICES._replace(unsupported_reason=lambda *arguments: "this machine")
    assert "does not support this machine" in proof.failure(unable, "cpu", "float32")
    # The real kernels for TPUs on something else.
    assert "interpret mode" in proof.failure(mosaic.MOSAIC, "cpu", "float32")


@pytest.mark.parametrize("dtype", check.DTYPES)
def test_slices_are_right_whatever_the_caller_has_set(dtype):
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        assert proof.failure(SLICES, "cpu", dtype) is None


@pytest.mark.versions
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_interpreted_kernels_are_right(dtype):
    assert proof.failure(INTERPRETED, "cpu", dtype) is None
    if dtype == "float32":
        assert proof.failure(dispatch.BY_NAME["triton"], "cpu", dtype) is None


@pytest.mark.versions
@pytest.mark.skipif(not native.available(), reason="no C++ compiler")
def test_native_kernels_are_right():
    for dtype in ("float32", "bfloat16", "float16"):
        assert proof.failure(native.NATIVE, "cpu", dtype) is None


def mapped(layer):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (P("data"), P()), "out_specs": P("data")}
    return jax.jit(jax.shard_map(layer, mesh=mesh, **specs))


TRACES = {
    "eager": lambda layer: layer,
    "jit": jax.jit,
    "grad": lambda layer: jax.grad(lambda x, k: layer(x, k).sum()),
    "vmap": lambda layer: lambda x, k: jax.vmap(layer, (0, None))(x[:, None], k),
    "scan": lambda layer: lambda x, k: lax.scan(lambda c, _: (c, layer(x, k)), 0, length=2)[1],
    "shard_map": mapped,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.devices(2) if n == "shard_map" else ()) for n in TRACES],
)
def test_slices_take_the_place_of_kernels_that_fail(name, fresh, caplog):
    fresh(off("forward")._replace(kernel_gradient=fail))
    expected = TRACES[name](partial(local_conv, implementation="slices"))(X, K)
    with caplog.at_level(logging.WARNING, logger="jaxws"):
        # A function of its own: JAX keeps traces by function, and other tests trace local_conv.
        actual = TRACES[name](lambda *arrays: local_conv(*arrays, strides=1))(X, K)
        for dtype in ("float32", "bfloat16"):
            jax.eval_shape(lambda: local_conv(X.astype(dtype), K.astype(dtype)))  # noqa: B023
    np.testing.assert_array_equal(actual, expected)
    (record,) = caplog.records
    message = record.getMessage()
    assert "'new' cannot be used on this CPU (float32)" in message
    assert "python -m jaxws check" in message
    assert "no such instruction" in message
    assert "\n" not in message


def test_a_default_is_tried_once_and_then_used(fresh, monkeypatch, caplog):
    tried = []
    monkeypatch.setattr(proof, "failure", lambda *arguments: tried.append(arguments[2]))
    fresh(SLICES._replace(forward=lambda a, b, s: SLICES.forward(a, b, s) + 1))
    for dtype in ("float32", "float32", "bfloat16", "float32"):
        y = local_conv(X.astype(dtype), K.astype(dtype))
        assert float(y[0, 1, 1, 0]) == 28
    assert tried == ["float32", "bfloat16"]
    assert not caplog.records


def test_wrong_in_one_dtype_is_used_in_none(fresh, monkeypatch, caplog):
    monkeypatch.setattr(proof, "failure", lambda *a: "wrong" if a[2] == "bfloat16" else None)
    fresh(SLICES._replace(forward=lambda a, b, s: SLICES.forward(a, b, s) + 1))
    numbers = [
        float(local_conv(X.astype(dtype), K.astype(dtype))[0, 1, 1, 0])
        for dtype in ("float32", "bfloat16", "float32")
    ]
    assert numbers == [28, 27, 27]
    assert len(caplog.records) == 1


def test_what_is_asked_for_by_name_is_not_tried(fresh, monkeypatch):
    monkeypatch.setattr(proof, "failure", lambda *arguments: pytest.fail("tried all the same"))
    monkeypatch.setitem(dispatch.BY_NAME, "native", off("forward"))
    assert float(local_conv(X, K, implementation="native")[0, 1, 1, 0]) != 27


def test_the_test_can_be_skipped(fresh, monkeypatch):
    monkeypatch.setattr(proof, "failure", lambda *arguments: pytest.fail("tried all the same"))
    fresh(off("forward"))
    wrong = 27 * (1 + 2**-10)
    monkeypatch.setenv("JAXWS_PROVE", "0")
    assert float(local_conv(X, K)[0, 1, 1, 0]) == np.float32(wrong)


LAZY = """
import sys
import jax.numpy as jnp
from jaxws import local_conv
from jaxws.core.implementations import dispatch
x, kernel = jnp.ones((2, 4, 4, 3)), jnp.ones((4, 4, 3, 3, 3, 5))
y = local_conv(x, kernel)
for module in ("jax.experimental.pallas", "jax.experimental.pallas.tpu",
               "jax.experimental.pallas.triton", "jaxws.core.implementations.mosaic"):
    assert module not in sys.modules, module
sys.modules["jax.experimental.pallas"] = None  # what Python does with it: ImportError
for name in ("mosaic", "triton"):
    try:
        local_conv(x, kernel, implementation=name)
    except ValueError as error:
        assert f"{name!r} does not support this installation (" in str(error), error
    else:
        raise AssertionError(name)
    dispatch.FASTEST["cpu"] = (name, "cpu")
    assert (local_conv(x, kernel) == y).all()
print("worked")
"""


def test_pallas_is_imported_when_it_is_needed_and_may_be_missing():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, "-c", LAZY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "worked", done.stderr[-2000:]


TINY = ["check", "--size", "5", "--batch", "3", "--channels", "2", "--rounds", "1"]


def test_the_command_lists_everything(capsys):
    assert main(TINY) == 0
    out = capsys.readouterr().out
    for text in ("jaxws", "jaxlib", "Python", "compiler", "5x5x2 -> 2, 3x3, batch 3"):
        assert text in out
    table = [line for line in out.splitlines() if line.endswith(("right", "wrong"))]
    default = "native *" if native.available() else "slices *"
    for name in (default, "slices", "patches"):
        for map_name in MAPS:
            assert any(line.startswith(name) and f" {map_name} " in line for line in table)
    assert any(line.startswith("slices *") and "float64" in line for line in table)
    for operation in check_step.OPERATIONS:
        assert any(line.startswith(operation.name) for line in table)
    assert not any(line.endswith("wrong") for line in table)
    for name, where in (("mosaic", "TPU"), ("triton", "GPU")):
        reasons = [line for line in out.splitlines() if line.startswith(name)]
        assert len(reasons) == len(check.DTYPES)
        assert all(f"not available: it needs a {where}" in line for line in reasons)
    assert "\x1b" not in out


@pytest.mark.parametrize("wrong", ["default", "other", "raises"])
def test_a_wrong_default_is_status_1(wrong, fresh, monkeypatch, capsys):
    monkeypatch.setattr(check, "DTYPES", ("float32",))
    broken = off("input_gradient")
    if wrong == "raises":
        broken = SLICES._replace(input_gradient=fail)
    fresh(broken)
    if wrong == "other":
        monkeypatch.setitem(dispatch.FASTEST, "cpu", ("slices", "cpu"))
    assert main([*TINY, "--json"]) == (wrong != "other")
    facts = json.loads(capsys.readouterr().out)
    (row,) = (row for row in facts["rows"] if not row["verdict"].startswith(("right", "not ")))
    assert (row["implementation"], row["map"]) == ("new", "input_gradient")
    assert row["verdict"].endswith("no such instruction" if wrong == "raises" else "wrong")


@pytest.mark.parametrize(("of", "error"), [(0, 1), (1, np.nan)])
def test_a_wrong_step_is_status_1(of, error, monkeypatch, capsys):
    monkeypatch.setattr(check, "DTYPES", ())
    right = check_step.OPERATIONS[2]
    off = right._replace(
        run=lambda x: tuple(m + error if i == of else m for i, m in enumerate(right.run(x)))
    )
    monkeypatch.setattr(check_step, "OPERATIONS", (off,))
    assert main(TINY) == 1
    assert "BatchNorm's moments is wrong: please report" in capsys.readouterr().out


def test_a_wrong_size_is_told_in_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--size", "0"])
    assert stopped.value.code == 2
    assert "expected 1 or more of each" in capsys.readouterr().err


def test_a_configurations_parameters_are_counted(folder, capsys):
    arguments = [
        "--config=digits_lc",
        f"--config.data.path={folder}",
        "--config.data.name=folder",
        "--config.batch_size=6",
        "--config.optimizer.freeze=('layer*',)",
        "--config.optimizer.decay_mask=('*kernel',)",
        "--config.plasticity.dale.signs=seed",
        "--config.plasticity.dale.leaves=('layer*kernel','fc/kernel')",
        "--config.plasticity.dale.nonnegative=bn1/scale",
    ]
    assert main(["check", *arguments]) == 0
    table = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    assert table["fc/kernel"].endswith("trained, decays, keeps its channels' signs")
    assert table["bn1/scale"].endswith("trained, stays 0 or above")
    assert main(["check", *arguments, "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    told = {"name": "fc/bias", "shape": [2], "trained": True, "decays": False, "signs": None}
    assert found["fc/bias"] == told
    assert found["layer1_0/conv1/local_kernel"]["signs"] is None  # as it is frozen
    assert not found["layer1_0/conv1/local_kernel"]["trained"]
    assert found["conv1/local_kernel"]["decays"]
    with pytest.raises(SystemExit):
        main(["check", "--config.seed=1"])
    assert "give the configuration" in capsys.readouterr().err
