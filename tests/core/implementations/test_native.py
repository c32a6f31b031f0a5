"""The C++ kernels where the small shapes of test_local_conv.py do not reach, and their build."""

import logging
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import local_conv
from jaxws.core.implementations import dispatch, native
from jaxws.core.implementations.spec import MAPS
from jaxws.core.native import build, load_library
from jaxws.system import user_cache

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
        # More images than a gradient takes at a time, results that are stored past the caches.
        (544, (17, 16), 4, 16, (1, 1), {}),
    ],
)
def test_blocks_of_all_sizes(n, size, c, f, kernel_size, arguments):
    rng = np.random.default_rng(0)
    draw = lambda *shape: _rounded(jnp.asarray(rng.normal(size=shape), jnp.float32))  # noqa: E731
    x = draw(n, *size, c)
    groups = arguments.get("feature_group_count", 1)
    zeros = jnp.zeros((*kernel_size, c // groups, f))
    positions = jax.eval_shape(partial(_convolution, **arguments), x, zeros).shape[1:-1]
    kernel, dy = draw(*positions, *zeros.shape), draw(n, *positions, f)

    @jax.jit  # one program, which compiles much faster than one for each direction
    def values_and_gradients(x, kernel, dy):
        results = []
        for implementation, dtype in IMPLEMENTATIONS:
            layer = partial(local_conv, implementation=implementation, **arguments)
            y, vjp = jax.vjp(layer, x.astype(dtype), kernel.astype(dtype))
            results.append((y, *vjp(dy.astype(dtype))))
        return results

    expected, *others = jax.device_get(values_and_gradients(x, kernel, dy))
    for (_, dtype), results in zip(IMPLEMENTATIONS[1:], others, strict=True):
        # Sums are float32 in both, and bfloat16 are what is multiplied, and each result.
        atol = 1e-5 if dtype == "float32" else float(jnp.finfo(dtype).eps) / 2
        for result, reference in zip(results, expected, strict=True):
            assert result.dtype == dtype
            scale = np.abs(reference).max()
            np.testing.assert_allclose(
                result.astype(np.float32) / scale, reference / scale, atol=atol
            )


IMPLEMENTATIONS = [("patches", "float32"), ("native", "float32"), ("native", "bfloat16")]


def _rounded(x):
    """What bfloat16 holds without rounding it again; the same of all that round to it."""
    return x.astype(jnp.bfloat16).astype(x.dtype)


@needs_compiler
def test_what_is_multiplied_in_bfloat16(monkeypatch):
    monkeypatch.setattr(dispatch, "may_be_partitioned", lambda *arrays: False)

    def kernels(dtype, features, **arguments):
        x, kernel = jnp.ones((2, 4, 4, 3), dtype), jnp.ones((4, 4, 3, 3, 3, features), dtype)
        layer = partial(local_conv, implementation="native", **arguments)
        step = jax.jit(lambda *arrays: jax.vjp(layer, *arrays)[1](layer(*arrays)))
        program = step.lower(x, kernel).as_text()
        return {name for name in MAPS if f"jaxws_{name}_bfloat16 " in program}

    has = native.multiplies_bfloat16()
    assert kernels("bfloat16", 6) == (set(MAPS) if has else set())
    # Two features at a time.
    assert kernels("bfloat16", 5) == (set(MAPS) - {"input_gradient"} if has else set())
    assert kernels("float16", 6) == kernels("float32", 6) == set()
    assert kernels("bfloat16", 6, preferred_element_type="float32") == set()
    monkeypatch.setattr(native, "multiplies_bfloat16", lambda: False)
    assert kernels("bfloat16", 6) == set()


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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of compiled kernels; compiling copies those that this process has loaded."""
    content = Path(load_library()._name).read_bytes()
    compiled = []

    def compile_by_copy(compiler, output):
        compiled.append(output)
        output.write_bytes(content)

    monkeypatch.setattr(build, "_compile", compile_by_copy)
    monkeypatch.setenv("JAXWS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache", compiled


@needs_compiler
def test_is_compiled_once_into_the_cache(cache, caplog):
    directory, compiled = cache
    for _ in range(2):
        assert load_library.__wrapped__() is not None
    assert len(list(directory.iterdir())) == 1
    assert (len(compiled), caplog.records) == (1, [])


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "empty", "a flipped bit", "another library", "no ELF"])
def test_a_damaged_library_is_compiled_again(damage, cache, caplog):
    directory, compiled = cache
    assert load_library.__wrapped__() is not None
    (library,) = directory.iterdir()
    good = library.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    library.write_bytes(
        {
            "cut": good[: len(good) // 2],
            "empty": b"",
            "a flipped bit": flipped,
            "another library": Path(np._core._multiarray_umath.__file__).read_bytes(),
            "no ELF": b"#!/bin/sh",
        }[damage]
    )
    for _ in range(2):
        assert load_library.__wrapped__() is not None
    (record,) = caplog.records  # once
    assert f"{library} was damaged" in record.getMessage()
    assert [path.read_bytes() for path in directory.iterdir()] == [good]
    assert len(compiled) == 2


@needs_compiler
@pytest.mark.parametrize("obstacle", ["a file", "no home", "a full disk"])
def test_what_cannot_be_kept_is_used_all_the_same(obstacle, cache, monkeypatch, caplog):
    directory, _ = cache
    monkeypatch.setattr(user_cache, "_told", [])
    if obstacle == "a file":
        directory.write_text("where the directory should be")
    elif obstacle == "no home":
        monkeypatch.delenv("JAXWS_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        no_room = OSError(28, "No space left on device")
        monkeypatch.setattr(build, "write_together", lambda files: (_ for _ in ()).throw(no_room))
    assert hasattr(load_library.__wrapped__(), "jaxws_forward")
    (record,) = caplog.records
    assert "compiled anew at each start" in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("damage", ["no compiler", "bad compiler"])
def test_without_a_library_one_line_says_why(damage, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JAXWS_CACHE_DIR", str(tmp_path / "cache"))
    if damage == "no compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
    else:
        monkeypatch.setenv("CXX", shutil.which("false"))
    with caplog.at_level(logging.WARNING, logger="jaxws"):
        assert load_library.__wrapped__() is None
    (record,) = caplog.records
    assert "slower ones by XLA take their place" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_can_be_turned_off(monkeypatch, caplog):
    monkeypatch.setenv("JAXWS_NATIVE", "0")
    monkeypatch.setattr(build, "_load", lambda: pytest.fail("compiled all the same"))
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
