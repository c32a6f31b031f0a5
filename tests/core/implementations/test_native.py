"""The C++ kernels where the small shapes of test_local_conv.py do not reach, and their build."""

import logging
import shutil
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import local_conv
from jaxws.core.implementations import dispatch, native
from jaxws.core.native import build, load_library

needs_compiler = pytest.mark.skipif(not native.available(), reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize(
    ("n", "size", "c", "f", "kernel_size", "arguments"),
    [
        (70, (9, 5), 5, 7, (3, 3), {}),  # ragged blocks of images, features and channels
        (128, (6, 6), 16, 16, (3, 3), {}),  # whole ones
        (33, (11, 10), 40, 18, (3, 3), {"strides": 2}),  # more than one stretch of rows
        (17, (20, 19), 3, 16, (7, 7), {"strides": 2, "padding": 3}),
        (65, (12, 40), 8, 4, (2, 3), {"dilation": (3, 2), "feature_group_count": 2}),
        (40, (5, 6, 4), 6, 34, (2, 3, 1), {"padding": 1}),
        (19, (50,), 9, 24, (5,), {"strides": 3}),
        (5, (64, 64), 2, 2, (1, 1), {"strides": 2, "padding": 0}),  # most pixels are seen by none
    ],
)
def test_blocks_of_all_sizes(n, size, c, f, kernel_size, arguments):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, *size, c)), jnp.float32)
    groups = arguments.get("feature_group_count", 1)
    zeros = jnp.zeros((*kernel_size, c // groups, f))
    positions = jax.eval_shape(partial(_convolution, **arguments), x, zeros).shape[1:-1]
    kernel = jnp.asarray(rng.normal(size=(*positions, *zeros.shape)), jnp.float32)
    results = []
    for implementation in ("native", "patches"):
        layer = partial(local_conv, implementation=implementation, **arguments)
        y, vjp = jax.vjp(jax.jit(layer), x, kernel)
        results.append((y, *vjp(jnp.cos(y))))
    for actual, expected in zip(*results, strict=True):
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)


def _convolution(x, kernel, strides=1, padding="SAME", dilation=1, feature_group_count=1):
    ndim, axes = x.ndim - 2, "DHW"[3 - (x.ndim - 2) :]
    each = lambda value: (value,) * ndim if isinstance(value, int) else value  # noqa: E731
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        each(strides),
        padding if isinstance(padding, str) else [(padding, padding)] * ndim,
        rhs_dilation=each(dilation),
        feature_group_count=feature_group_count,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


@needs_compiler
def test_is_compiled_once_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXWS_CACHE_DIR", str(tmp_path / "cache"))
    assert load_library.__wrapped__() is not None
    (library,) = (tmp_path / "cache").iterdir()
    written = library.stat().st_mtime_ns
    assert load_library.__wrapped__() is not None
    assert [library] == list((tmp_path / "cache").iterdir())
    assert library.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["no compiler", "bad compiler", "no cache"])
def test_without_a_library_one_line_says_why(damage, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JAXWS_CACHE_DIR", str(tmp_path / "cache"))
    if damage == "no compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
    elif damage == "bad compiler":
        monkeypatch.setenv("CXX", shutil.which("false"))
    else:
        (tmp_path / "cache").write_text("a file where the directory should be")
    with caplog.at_level(logging.WARNING, logger="jaxws"):
        assert load_library.__wrapped__() is None
    (record,) = caplog.records
    assert "slower ones by XLA take their place" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_can_be_turned_off(monkeypatch, caplog):
    monkeypatch.setenv("JAXWS_NATIVE", "0")
    monkeypatch.setattr(build, "_build", lambda: pytest.fail("compiled all the same"))
    assert load_library.__wrapped__() is None
    assert not caplog.records


def test_slices_take_the_place_of_what_is_not_supported(monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(dispatch, "may_be_partitioned", lambda *arrays: False)
    x, kernel = jnp.ones((2, 4, 4, 3)), jnp.ones((4, 4, 3, 3, 3, 5))
    np.testing.assert_array_equal(
        local_conv(x, kernel), local_conv(x, kernel, implementation="slices")
    )
    with pytest.raises(ValueError, match="'native' does not support this machine"):
        local_conv(x, kernel, implementation="native")


def test_the_default_on_one_cpu_is_a_custom_call(monkeypatch):
    monkeypatch.setattr(dispatch, "may_be_partitioned", lambda *arrays: False)
    x, kernel = jnp.ones((2, 4, 4, 3)), jnp.ones((4, 4, 3, 3, 3, 5))
    program = jax.jit(local_conv).lower(x, kernel).as_text()
    assert ("jaxws_forward" in program) == (native.available() and jax.default_backend() == "cpu")
    with jax.enable_x64(True):
        wide = jax.jit(local_conv).lower(x.astype(float), kernel.astype(float)).as_text()
    assert "jaxws_forward" not in wide


def test_export_says_what_to_do(monkeypatch):
    monkeypatch.setattr(dispatch, "may_be_partitioned", lambda *arrays: False)
    x, kernel = jnp.ones((2, 4, 4, 3)), jnp.ones((4, 4, 3, 3, 3, 5))
    if native.available() and jax.default_backend() == "cpu":
        with pytest.raises(ValueError, match="implementation='slices'"):
            jax.export.export(jax.jit(local_conv))(x, kernel)
    plain = jax.jit(partial(local_conv, implementation="slices"))
    exported = jax.export.export(plain)(x, kernel)
    np.testing.assert_array_equal(exported.call(x, kernel), plain(x, kernel))


@pytest.mark.parametrize(
    ("name", "dtype"), [("native", "float64"), ("mosaic", "float16"), ("triton", "float8_e4m3fn")]
)
def test_a_dtype_that_is_not_supported_is_named(name, dtype):
    if name == "native" and not native.available():
        pytest.skip("no C++ compiler")
    with jax.enable_x64(True):
        x, kernel = jnp.ones((2, 4, 4, 3), dtype), jnp.ones((4, 4, 3, 3, 3, 5), dtype)
        with pytest.raises(ValueError, match=f"implementation='{name}' .*{dtype}"):
            local_conv(x, kernel, implementation=name)
