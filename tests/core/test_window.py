import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxws.core.window import make_window


@st.composite
def geometries(draw):
    ndim = draw(st.integers(1, 3))

    def per_axis(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    pairs = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * ndim)
    padding = draw(st.one_of(st.sampled_from(["SAME", "SAME_LOWER", "VALID"]), pairs))
    return per_axis(1, 17), per_axis(1, 5), per_axis(1, 3), padding, per_axis(1, 2)


@settings(max_examples=150)
@given(geometries())
def test_output_size_is_that_of_lax_convolution(geometry):
    size, kernel, strides, padding, dilation = geometry
    axes = "DHW"[-len(size) :]
    out = jax.eval_shape(
        lambda x, k: lax.conv_general_dilated(
            x,
            k,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        ),
        jax.ShapeDtypeStruct((1, *size, 1), jnp.float32),
        jax.ShapeDtypeStruct((*kernel, 1, 1), jnp.float32),
    )
    expected = out.shape[1:-1]
    if 0 in expected:
        with pytest.raises(ValueError, match="does not fit"):
            make_window(size, kernel, strides, padding, dilation)
    else:
        assert make_window(size, kernel, strides, padding, dilation).output_size == expected


def test_scalars_mean_every_axis():
    assert make_window((9, 8), (3, 3), 2, 1, 1) == make_window(
        (9, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)
    )


def test_pytorch_padding_differs_from_same_at_stride_two():
    same = make_window((32, 32), (3, 3), 2, "SAME")
    torch = make_window((32, 32), (3, 3), 2, 1)
    assert same.output_size == torch.output_size
    assert same.padding == ((0, 1), (0, 1))
    assert torch.padding == ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kernel_size": (3,)}, "kernel_size"),
        ({"kernel_size": (3, 0)}, "kernel_size"),
        ({"strides": 0}, "strides=0"),
        ({"strides": (1, 1, 1)}, "strides"),
        ({"dilation": (1, -1)}, "dilation"),
        ({"padding": "same-ish"}, "'SAME', 'SAME_LOWER', 'VALID'"),
        ({"padding": -1}, "padding=-1"),
        ({"padding": ((1, 1),)}, "padding"),
        ({"padding": ((1, 1, 1), (0, 0, 0))}, "padding"),
        ({"kernel_size": (9, 9), "padding": "VALID"}, "larger image"),
    ],
)
def test_wrong_geometry_is_named(arguments, match):
    full = {"input_size": (8, 8), "kernel_size": (3, 3)} | arguments
    with pytest.raises(ValueError, match=match):
        make_window(**full)


def test_numpy_integers_are_integers():
    two = np.int64(2)
    window = make_window(np.array([9, 8]), (two, two), two, np.int32(1), (two, 1))
    assert window == make_window((9, 8), (2, 2), 2, 1, (2, 1))
    assert all(type(n) is int for n in window.strides + window.padding[0] + window.output_size)
    assert make_window((9, 8), (3, 3), padding=np.array([[1, 0], [2, 2]])).padding == (
        (1, 0),
        (2, 2),
    )
