"""The Pallas kernels for TPUs: interpreted on the CPU, and compiled for a TPU that is not there."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxws.core.implementations import mosaic, mosaic_plan
from jaxws.core.implementations.mosaic_plan import make_plan
from jaxws.core.implementations.spec import Spec
from jaxws.core.window import make_window
from tests.core.test_local_conv import SEEDS, assert_close, draw_arrays, loop_reference, shape_of

pytestmark = pytest.mark.usefixtures("strict_promotion")

SINGLE = np.dtype("float32")


@partial(jax.jit, static_argnums=3)
def interpret(x, kernel, dy, spec):
    """y, dx and dkernel of x (n, H, W, c) and dy (n, h, w, f)."""
    x, dy = jnp.moveaxis(x, 0, -1), jnp.moveaxis(dy, 0, -1)
    y = mosaic.forward(x, kernel, spec, interpret=True)
    dx = mosaic.input_gradient(dy, kernel, spec, interpret=True)
    dk = mosaic.kernel_gradient(x, dy, spec, interpret=True)
    return jnp.moveaxis(y, -1, 0), jnp.moveaxis(dx, -1, 0), dk


@st.composite
def layers(draw):
    """1-D and 2-D layers of every stride, dilation and padding."""
    ndim = draw(st.sampled_from([1, 2, 2, 2]))

    def per_axis(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    kernel_size, dilation, strides = per_axis(1, 3), per_axis(1, 2), per_axis(1, 3)
    span = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    size = tuple(draw(st.integers(s, 7)) for s in span)
    pairs = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * ndim)
    return make_window(size, kernel_size, strides, draw(pairs), dilation)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("1-D", "float32"), ("pairs", "bfloat16"), ("valid", "float32")]
)
@settings(max_examples=3)
@given(seed=SEEDS)
def test_values_and_gradients_equal_a_loop(kind, dtype, seed):
    window, n, c, f, _, _ = shape_of(kind)
    check(window, n, c, f, dtype, seed)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    window=layers(),
    shape=st.tuples(*[st.integers(1, 3)] * 3),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=SEEDS,
)
def test_layers_of_any_shape_equal_a_loop(window, shape, dtype, seed):
    check(window, *shape, dtype, seed)


def check(window, n, c, f, dtype, seed=0):
    arrays = [jnp.asarray(a, dtype) for a in draw_arrays(window, n, c, f, 1, seed)]
    expected = loop_reference(*(np.asarray(a, np.float64) for a in arrays), window, 1)
    spec = Spec(window, 1, SINGLE, jnp.dtype(dtype))
    for actual, reference in zip(interpret(*arrays, spec), expected, strict=True):
        assert actual.dtype == dtype
        assert_close(actual, reference, dtype)


def test_blocks_of_columns_and_of_the_batch(monkeypatch):
    """Layers that do not fit on the chip at once, with ragged last blocks."""
    window, n = make_window((4, 5), (3, 2), (2, 1), ((1, 1), (0, 1)), 1), 130
    monkeypatch.setattr(mosaic_plan, "_MAX_LANES", 128)
    monkeypatch.setattr(mosaic_plan, "_KERNEL_BLOCK", 2 * 4096)
    for gradient in (False, True):
        plan = make_plan(window, 2, 3, n, SINGLE, gradient=gradient)
        assert (plan.grid[0], plan.batch) == (2, 256)
        assert (plan.columns, plan.column_blocks) == (2, 3)
    check(window, n, 2, 3, "float32")


def test_cotangents_wider_than_weights():
    """preferred_element_type=float32 gives float32 cotangents; they must not be rounded first."""
    window = make_window((4, 4), (3, 3), 1, 1)
    x, kernel, dy = draw_arrays(window, 2, 2, 3, 1, seed=0)
    x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    spec = Spec(window, 1, SINGLE, SINGLE)
    y, dx, dk = interpret(x, kernel, jnp.asarray(dy, jnp.float32), spec)
    expected = loop_reference(*(np.asarray(a, np.float64) for a in (x, kernel, dy)), window, 1)
    assert (y.dtype, dx.dtype, dk.dtype) == (jnp.float32, jnp.bfloat16, jnp.bfloat16)
    assert_close(y, expected[0], "float32")
    for actual, reference in zip((dx, dk), expected[1:], strict=True):
        # One rounding of the result to 8 digits, by at most 2^-8 of it.
        np.testing.assert_allclose(np.asarray(actual, np.float64), reference, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"size": (8,)}, True),
        ({"size": (4, 4, 4)}, False),
        ({"groups": 2}, False),
        ({"dtype": "float16"}, False),
        ({"result": "float64"}, False),
        ({"precision": lax.DotAlgorithmPreset.F32_F32_F32}, False),
        ({"batch": 0}, False),
        ({"features": 0}, False),
        ({"features": 100_000}, False),  # one filter alone fills VMEM
    ],
)
def test_supports(change, expected):
    size = change.get("size", (8, 8))
    window = make_window(size, (3,) * len(size), 1, 1)
    result = np.dtype(change.get("result", "float32"))
    spec = Spec(window, change.get("groups", 1), SINGLE, result, change.get("precision"))
    dtype = jnp.dtype(change.get("dtype", "float32"))
    features, batch = change.get("features", 4), change.get("batch", 2)
    assert mosaic.supports(spec, 4, features, batch, dtype) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "DEFAULT"),
        ("highest", "HIGHEST"),
        (lax.Precision.HIGH, "HIGHEST"),
        ((lax.Precision.DEFAULT, lax.Precision.HIGHEST), "HIGHEST"),
        ("bfloat16", "DEFAULT"),
    ],
)
def test_precision_reaches_the_matrix_unit(given, expected):
    window = make_window((4, 4), (3, 3), 1, 1)
    spec = Spec(window, 1, SINGLE, SINGLE, given)
    x, kernel = jnp.ones((4, 4, 2, 3)), jnp.ones((4, 4, 3, 3, 2, 5))
    program = str(jax.make_jaxpr(partial(mosaic.forward, spec=spec))(x, kernel))
    assert f"Precision.{expected}" in program
    other = {"DEFAULT", "HIGHEST"} - {expected}
    assert f"Precision.{other.pop()}" not in program


COMPILE = """
import jax, numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from jaxws import local_conv
from jaxws.core.pooled import PooledKernel

device = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]

def array(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=SingleDeviceSharding(device))

def check(size, c, f, n, k, s, d, dtype, precision=None):
    conv = lambda x, kernel: local_conv(x, kernel, strides=s, padding=k // 2, dilation=d,
        implementation="mosaic", batch_last=True, precision=precision)
    gradients = lambda x, kernel, dy: jax.vjp(conv, x, kernel)[1](dy)
    out = [(m + 2 * (k // 2) - (k - 1) * d - 1) // s + 1 for m in size]
    x, kernel = array((*size, c, n), dtype), array((*out, k, k, c, f), dtype)
    program = jax.jit(conv).lower(x, kernel).compile().as_text()
    assert program.count('"tpu_custom_call"') == 1
    program = jax.jit(gradients).lower(x, kernel, array((*out, f, n), dtype)).compile().as_text()
    assert program.count('"tpu_custom_call"') == 2

def check_pooled(size, c, f, n, dtype):
    def conv(x, filters):
        kernel = PooledKernel(filters, size)
        return local_conv(x, kernel, implementation="mosaic", batch_last=True)
    def input_gradient(x, filters, dy):
        return jax.vjp(lambda x: conv(x, filters), x)[1](dy)
    x, filters = array((*size, c, n), dtype), array((3, 3, 3, 3, c, f), dtype)
    program = jax.jit(conv).lower(x, filters).compile().as_text()
    assert program.count('"tpu_custom_call"') == 1
    dy = array((*size, f, n), dtype)
    program = jax.jit(input_gradient).lower(x, filters, dy).compile().as_text()
    assert program.count('"tpu_custom_call"') == 1

check_pooled((7, 8), 8, 16, 130, "bfloat16")
check((7, 7), 256, 256, 256, 3, 1, 1, "bfloat16")
check((8, 8), 32, 64, 256, 3, 2, 1, "float32", "highest")
check((15, 13), 3, 5, 1, 7, 2, 2, "bfloat16")
check((15, 13), 3, 5, 130, 3, 2, 1, "float32")
check((4, 4), 1, 1, 1, 1, 1, 1, "float32")
print("compiled")
"""


def test_compiles_for_a_tpu():
    """Ahead of time, by the real compiler; in a process of its own, which libtpu wants."""
    pytest.importorskip("libtpu", reason="pip install libtpu")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip().endswith("compiled"), done.stderr[-2000:]
