"""Transposed locally connected layers against lax.conv_transpose and a loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxws import local_conv, local_conv_transpose
from jaxws.core.pooled import pool_kernels
from jaxws.core.transposed import transposed_window
from tests.support.drawn import normal

pytestmark = [pytest.mark.usefixtures("strict_promotion"), pytest.mark.versions]


@st.composite
def geometries(draw):
    ndim = draw(st.integers(1, 3))

    def per_axis(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    pairs = st.tuples(*[st.tuples(st.integers(0, 6), st.integers(0, 6))] * ndim)
    padding = draw(st.one_of(st.sampled_from(["SAME", "VALID"]), pairs))
    return per_axis(1, 9), per_axis(1, 5), per_axis(1, 4), padding, per_axis(1, 2)


@settings(max_examples=60)
@given(geometries())
def test_sizes_are_those_of_lax(geometry):
    positions, kernel, strides, padding, dilation = geometry
    axes = "DHW"[-len(positions) :]
    shapes = (1, *positions, 1), (*kernel, 1, 1)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    expected = jax.eval_shape(
        lambda x, k: lax.conv_transpose(
            x, k, strides, padding, dilation, (f"N{axes}C", f"{axes}IO", f"N{axes}C")
        ),
        *arrays,
    ).shape[1:-1]
    if min(expected) < 1:
        with pytest.raises(ValueError, match="padding="):
            transposed_window(*geometry)
        return
    try:
        window, around = transposed_window(*geometry)
    except ValueError as error:  # nothing but zeros
        assert "leaves an image" in str(error)
        return
    sizes = zip(window.input_size, around, strict=True)
    assert tuple(size + sum(pair) for size, pair in sizes) == expected
    assert window.output_size == positions


CASES = {
    "same": ((5, 4), (3, 2), 2, "SAME", 1, 1),
    "valid": ((4, 3), (2, 3), (1, 3), "VALID", 1, 2),
    "pairs": ((4, 5), (3, 3), 2, ((0, 3), (2, 1)), (1, 2), 1),
    "1-D": ((6,), (4,), 3, "SAME", 2, 1),
    "3-D": ((2, 3, 2), (2, 1, 2), (1, 2, 1), 1, 1, 2),
}


@pytest.mark.parametrize("kind", CASES)
def test_equal_filters_are_a_transposed_convolution(kind):
    positions, kernel_size, strides, padding, dilation, groups = CASES[kind]
    ndim, c, f = len(positions), 4, 6
    tied = normal((*kernel_size, f // groups, c), 1)
    x = normal((3, *positions, c), 2)
    axes = "DHW"[-ndim:]

    def layer(x, tied):
        kernel = jnp.broadcast_to(tied, (*positions, *tied.shape))
        return local_conv_transpose(
            x, kernel, strides=strides, padding=padding, dilation=dilation,
            feature_group_count=groups,
        )  # fmt: skip

    def reference(x, tied):
        # lax.conv_transpose has no groups.
        images, filters = jnp.split(x, groups, -1), jnp.split(tied, groups, -1)
        pads = [(padding, padding)] * ndim if isinstance(padding, int) else padding
        each = [
            lax.conv_transpose(
                image, k, (strides,) * ndim if isinstance(strides, int) else strides, pads,
                (dilation,) * ndim if isinstance(dilation, int) else dilation,
                (f"N{axes}C", f"{axes}IO", f"N{axes}C"), transpose_kernel=True,
            )
            for image, k in zip(images, filters, strict=True)
        ]  # fmt: skip
        return jnp.concatenate(each, -1)

    @jax.jit
    def run(x, tied):
        y, pull_back = jax.vjp(layer, x, tied)
        expected, expected_pull_back = jax.vjp(reference, x, tied)
        dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return (y, *pull_back(dy)), (expected, *expected_pull_back(dy))

    for actual, expected in zip(*run(x, tied), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def loop(x, kernel, strides, low, size):
    """One scalar product at a time, in float64."""
    n, h, w, _ = x.shape
    y = np.zeros((n, *size, kernel.shape[-2]))
    for p, q, i, j in itertools.product(range(h), range(w), *map(range, kernel.shape[2:4])):
        row, column = p * strides + i - low, q * strides + j - low
        if 0 <= row < size[0] and 0 <= column < size[1]:
            y[:, row, column] += x[:, p, q] @ kernel[p, q, i, j].T
    return y


@pytest.mark.parametrize("implementation", [None, "slices", "patches"])
def test_each_position_writes_by_its_own_filter(implementation):
    x, kernel = normal((2, 5, 4, 3), 1), normal((5, 4, 3, 3, 2, 3), 2)
    run = jax.jit(
        lambda *arrays: local_conv_transpose(
            *arrays, strides=2, padding=(1, 1), implementation=implementation
        )
    )
    y = run(x, kernel)
    expected = loop(*(np.asarray(a, np.float64) for a in (x, kernel)), 2, 1, y.shape[1:3])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=5)
@given(st.integers(0, 2**31))
def test_it_is_the_transpose_of_a_layer(seed):
    """<layer(x), y> = <x, transpose(y)>, and both have the same gradient of the kernel."""
    x, y = normal((2, 8, 6, 4), seed), normal((2, 4, 3, 6), seed + 1)
    there, back = adjoint_products(x, y, normal((4, 3, 3, 3, 4, 6), seed + 2))
    for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@jax.jit
def adjoint_products(x, y, kernel):
    def there(kernel):
        return jnp.vdot(local_conv(x, kernel, strides=2), y)

    def back(kernel):
        return jnp.vdot(local_conv_transpose(y, kernel, strides=2), x)

    return jax.value_and_grad(there)(kernel), jax.value_and_grad(back)(kernel)


def test_pooled_filters_and_dtypes():
    kernel = normal((4, 4, 3, 3, 2, 3), 1)
    pooled = pool_kernels({"local_kernel": kernel})["local_kernel"]
    x = normal((2, 4, 4, 3), 2)
    y = local_conv_transpose(x, pooled, strides=2)
    expected = local_conv_transpose(x, pooled.to_array(), strides=2)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    narrow = [a.astype(jnp.bfloat16) for a in (x, pooled.to_array())]
    wide = local_conv_transpose(*narrow, strides=2, preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, expected, rtol=0.1, atol=0.1)
    assert local_conv_transpose(*narrow, strides=2).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"local_kernel": jnp.ones((4, 4, 3, 3, 2, 5))}, "of the same h, w and c"),
        ({"padding": "CIRCULAR"}, "for a transposed layer"),
        ({"padding": "reflect"}, "'SAME', 'VALID'"),
        ({"local_kernel": jnp.ones((4, 4, 9, 9, 2, 3)), "padding": 0}, "leaves an image"),
        ({"feature_group_count": 2}, "does not divide 3 input channels"),
        ({"strides": (2, 2, 2)}, "strides"),
        ({"implementation": "fast"}, "'fast'"),
    ],
)
def test_what_is_wrong_is_said(changed, match):
    given = {"x": jnp.ones((2, 4, 4, 3)), "local_kernel": jnp.ones((4, 4, 3, 3, 2, 3))}
    with pytest.raises(ValueError, match=match):
        local_conv_transpose(**{**given, **changed})
