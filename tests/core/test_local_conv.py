import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxws import local_conv
from jaxws.core.implementations.autodiff import NAMES
from jaxws.core.window import make_window
from tests.support.drawn import normal

pytestmark = pytest.mark.usefixtures("strict_promotion")

# Pallas kernels, interpreted here and slow, have their own: test_mosaic.py and test_triton.py.
IMPLEMENTATIONS = [name for name in NAMES if name not in ("mosaic", "triton")]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}


def loop_reference(x, kernel, dy, window, groups):
    """y, dL/dx and dL/dkernel for L = sum(y * dy), one scalar product at a time, in float64."""
    ndim = len(window.kernel_size)
    padded = np.pad(x, [(0, 0), *window.padding, (0, 0)])
    d_padded, d_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    c, f = x.shape[-1] // groups, kernel.shape[-1] // groups
    y = np.zeros((x.shape[0], *window.output_size, kernel.shape[-1]))
    for position in itertools.product(*map(range, window.output_size)):
        for offset in itertools.product(*map(range, window.kernel_size)):
            pixel = tuple(
                p * s + o * d
                for p, s, o, d in zip(
                    position, window.strides, offset, window.dilation, strict=True
                )
            )
            for g in range(groups):
                ins, outs = slice(g * c, (g + 1) * c), slice(g * f, (g + 1) * f)
                weights = kernel[(*position, *offset, slice(None), outs)]
                pixels = padded[(slice(None), *pixel, ins)]
                seen = dy[(slice(None), *position, outs)]
                y[(slice(None), *position, outs)] += pixels @ weights
                d_padded[(slice(None), *pixel, ins)] += seen @ weights.T
                d_kernel[(*position, *offset, slice(None), outs)] += pixels.T @ seen
    inner = tuple(
        slice(low, low + size)
        for (low, _), size in zip(window.padding, window.input_size, strict=True)
    )
    assert ndim == len(inner)
    return y, d_padded[(slice(None), *inner)], d_kernel


@st.composite
def problems(draw):
    """Odd and even kernels, rectangular images, all paddings, strides, dilations and groups."""
    ndim = draw(st.sampled_from([1, 2, 2, 2, 3]))
    top = {1: 9, 2: 7, 3: 4}[ndim]

    def per_axis(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    kernel_size = per_axis(1, 4 if ndim < 3 else 2)
    dilation, strides = per_axis(1, 2), per_axis(1, 3)
    span = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    size = tuple(draw(st.integers(s, max(s, top))) for s in span)
    pairs = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * ndim)
    padding = draw(
        st.one_of(st.sampled_from(["SAME", "SAME_LOWER", "VALID"]), st.integers(0, 2), pairs)
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, f = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    window = make_window(size, kernel_size, strides, padding, dilation)
    n = draw(st.integers(1, 3))
    return window, n, c, f, groups, padding, draw(st.integers(0, 2**31))


# One of every kind, each a few values in the default run: (sizes of image and kernel, strides,
# padding, dilation), n, c, f, groups. `problems` draws others where there is time (-m slow).
SHAPES = {
    "1-D": (((9,), (4,), 3, "SAME", 2), 2, 2, 3, 1),
    "pairs": (((6, 7), (4, 3), 1, ((0, 2), (1, 0)), 1), 3, 2, 2, 1),
    "groups": (((5, 7), (2, 3), (2, 1), "SAME", (1, 2)), 2, 6, 3, 3),
    "valid": (((7, 4), (3, 2), (1, 3), "VALID", (2, 1)), 1, 1, 3, 1),
    "gaps": (((7, 5), (1, 2), (3, 2), 2, 1), 3, 2, 4, 2),
    "3-D": (((4, 3, 4), (2, 1, 2), (1, 2, 1), 1, (2, 1, 1)), 2, 2, 2, 2),
}
SEEDS = st.integers(0, 2**31)


def shape_of(kind):
    """A problem of ``SHAPES`` as ``problems`` draws them, without the seed."""
    geometry, n, c, f, groups = SHAPES[kind]
    return make_window(*geometry), n, c, f, groups, geometry[3]


def draw_arrays(window, n, c, f, groups, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *window.input_size, c))
    kernel = rng.standard_normal((*window.output_size, *window.kernel_size, c // groups, f))
    dy = rng.standard_normal((n, *window.output_size, f))
    return x, kernel, dy


def assert_close(actual, expected, dtype):
    actual = np.asarray(actual, np.float64)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual / scale, expected / scale, atol=TOLERANCE[dtype], rtol=0)


def together(functions):
    """Values and gradients of all functions, compiled as one program, which is much faster."""

    @jax.jit
    def run(*arguments):
        *arguments, dy = arguments
        pairs = [jax.vjp(function, *arguments) for function in functions]
        return [(y, *vjp(dy)) for y, vjp in pairs]

    return run


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in SHAPES), ("groups", "bfloat16"), ("pairs", "float16")],
)
@settings(max_examples=3)
@given(seed=SEEDS)
def test_values_and_gradients_equal_a_loop(kind, dtype, seed):
    check_against_loop(*shape_of(kind), seed, dtype)


@pytest.mark.slow
@settings(max_examples=60)
@given(problem=problems(), dtype=st.sampled_from(["float32", "float32", "bfloat16", "float16"]))
def test_layers_of_any_shape_equal_a_loop(problem, dtype):
    check_against_loop(*problem, dtype)


@cache
def all_layers(window, padding, groups):
    """Values and gradients by all implementations: (x, kernel, dy) to a list of (y, dx, dk)."""
    layer = partial(
        local_conv,
        strides=window.strides,
        padding=padding,
        dilation=window.dilation,
        feature_group_count=groups,
    )
    return together([partial(layer, implementation=name) for name in IMPLEMENTATIONS])


def check_against_loop(window, n, c, f, groups, padding, seed, dtype):
    arrays = [jnp.asarray(a, dtype) for a in draw_arrays(window, n, c, f, groups, seed)]
    x, kernel, dy = arrays
    expected = loop_reference(*(np.asarray(a, np.float64) for a in arrays), window, groups)

    results_by_name = all_layers(window, padding, groups)(x, kernel, dy)
    for name, results in zip(IMPLEMENTATIONS, results_by_name, strict=True):
        for actual, reference in zip(results, expected, strict=True):
            assert actual.dtype == dtype, name
            assert_close(actual, reference, dtype)


@pytest.mark.parametrize("implementation", [name for name in IMPLEMENTATIONS if name != "native"])
def test_float64_to_the_last_digits(implementation):
    window = make_window((7, 6), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2))
    x, kernel, dy = draw_arrays(window, 2, 4, 6, 2, seed=0)
    expected = loop_reference(x, kernel, dy, window, 2)
    with jax.enable_x64(True):
        layer = partial(
            local_conv,
            strides=window.strides,
            padding=window.padding,
            dilation=window.dilation,
            feature_group_count=2,
            implementation=implementation,
        )
        [results] = together([layer])(x, kernel, dy)
        for actual, reference in zip(results, expected, strict=True):
            assert actual.dtype == jnp.float64
            assert_close(actual, reference, "float64")


@pytest.mark.parametrize("kind", ["1-D", "groups", "gaps", "3-D"])
@settings(max_examples=3)
@given(seed=SEEDS)
def test_tied_weights_equal_a_convolution(kind, seed):
    check_against_convolution(*shape_of(kind), seed)


@pytest.mark.slow
@settings(max_examples=30)
@given(problem=problems())
def test_tied_weights_of_any_shape_equal_a_convolution(problem):
    check_against_convolution(*problem)


@cache
def tied_layers(window, groups):
    """Values and gradients by all implementations of repeated filters, and of a convolution."""
    axes = "DHW"[-len(window.kernel_size) :]

    def local(x, tied, implementation):
        repeated = jnp.broadcast_to(tied, (*window.output_size, *tied.shape))
        return local_conv(
            x,
            repeated,
            strides=window.strides,
            padding=window.padding,
            dilation=window.dilation,
            feature_group_count=groups,
            implementation=implementation,
        )

    def convolution(x, tied):
        return lax.conv_general_dilated(
            x,
            tied,
            window.strides,
            window.padding,
            rhs_dilation=window.dilation,
            feature_group_count=groups,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )

    layers = [partial(local, implementation=name) for name in IMPLEMENTATIONS]
    return together([*layers, convolution])


def check_against_convolution(window, n, c, f, groups, _padding, seed):
    x, kernel, dy = (
        jnp.asarray(a, jnp.float32) for a in draw_arrays(window, n, c, f, groups, seed)
    )
    tied = kernel[(0,) * len(window.kernel_size)]
    *results, expected = tied_layers(window, groups)(x, tied, dy)
    for actual in results:
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, np.asarray(b, np.float64), "float32")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_equals_lax_conv_general_dilated_local(implementation, padding):
    window = make_window((9, 7), (3, 2), (2, 1), padding, (1, 2))
    x, kernel, _ = (jnp.asarray(a, jnp.float32) for a in draw_arrays(window, 3, 4, 5, 1, seed=1))

    @jax.jit
    def both(x, kernel):
        # Its filters list their inputs channel-major: (h, w, (c, i, j), f).
        flat = jnp.moveaxis(kernel, 4, 2).reshape(*window.output_size, -1, kernel.shape[-1])
        expected = lax.conv_general_dilated_local(
            x,
            flat,
            window.strides,
            padding,
            window.kernel_size,
            rhs_dilation=window.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        actual = local_conv(
            x,
            kernel,
            strides=window.strides,
            padding=padding,
            dilation=window.dilation,
            implementation=implementation,
        )
        return actual, expected

    actual, expected = both(x, kernel)
    assert_close(actual, np.asarray(expected, np.float64), "float32")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_half_precision_accumulates_in_float32(implementation):
    """4096 products of one: a bfloat16 sum would stop at 256."""
    x, kernel = jnp.ones((1, 1, 1, 4096), jnp.bfloat16), jnp.ones((1, 1, 1, 1, 4096, 1))
    y = local_conv(x, kernel.astype(jnp.bfloat16), implementation=implementation)
    assert float(y[0, 0, 0, 0]) == 4096
    wide = local_conv(
        x,
        kernel.astype(jnp.bfloat16) * jnp.bfloat16(1 + 2**-7),
        implementation=implementation,
        preferred_element_type=jnp.float32,
    )
    assert wide.dtype == jnp.float32
    assert float(wide[0, 0, 0, 0]) == 4096 * (1 + 2**-7)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("dtype", "large"), [("bfloat16", 256), ("float16", 2048)])
def test_half_precision_gradients_accumulate_in_float32(implementation, dtype, large):
    """A pixel adds up one term per offset; next to a large one, ones get lost in half precision."""
    weights = np.array([large] + [1] * 15 + [large], jnp.dtype(dtype))
    kernel = np.broadcast_to(weights[:, None, None], (17, 17, 1, 1))
    x = np.ones((1, 17, 1), jnp.dtype(dtype))

    def total(x, kernel):
        y = local_conv(x, kernel, implementation=implementation)
        return y.sum(dtype=jnp.float32)

    dx = np.asarray(jax.jit(jax.grad(total))(x, kernel))
    assert dx.dtype == jnp.dtype(dtype)
    assert dx[0, 8, 0] == np.asarray(2 * large + 15, dx.dtype)
    # And a filter adds up one term per image.
    images, ones = np.ones((3000, 1, 1), dx.dtype), np.ones((1, 1, 1, 1), dx.dtype)
    d_kernel = np.asarray(jax.jit(jax.grad(total, 1))(images, ones))
    assert d_kernel.ravel()[0] == np.asarray(3000, dx.dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("n", "c", "f"), [(0, 2, 4), (3, 2, 0)])
def test_empty_axes(implementation, n, c, f):
    layer = jax.jit(partial(local_conv, implementation=implementation))
    y = layer(np.ones((n, 4, 4, c), np.float32), np.ones((4, 4, 3, 3, c, f), np.float32))
    np.testing.assert_array_equal(y, np.zeros((n, 4, 4, f)))


def test_default_contains_no_convolution():
    """The default must not fall back to the one-hot convolution, forward or backward."""
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((8, 8, 3, 3, 3, 4))
    program = jax.make_jaxpr(jax.grad(lambda x, k: local_conv(x, k).sum(), (0, 1)))(x, kernel)
    assert "conv_general_dilated" not in str(program)
    program = jax.make_jaxpr(lambda x, k: local_conv(x, k, implementation="patches"))(x, kernel)
    assert "conv_general_dilated" in str(program)


@pytest.mark.parametrize("implementation", [None, *IMPLEMENTATIONS])
def test_batch_last(implementation):
    window = make_window((6, 5), (3, 2), (2, 1), 1)
    x, kernel, dy = (jnp.asarray(a, jnp.float32) for a in draw_arrays(window, 3, 2, 4, 1, seed=2))
    layer = partial(local_conv, strides=(2, 1), padding=1, implementation=implementation)
    [(y, dx, dk)] = together([layer])(x, kernel, dy)
    x, dy = jnp.moveaxis(x, 0, -1), jnp.moveaxis(dy, 0, -1)
    [(last, dx_last, dk_last)] = together([partial(layer, batch_last=True)])(x, kernel, dy)
    np.testing.assert_array_equal(jnp.moveaxis(last, -1, 0), y)
    np.testing.assert_array_equal(jnp.moveaxis(dx_last, -1, 0), dx)
    np.testing.assert_array_equal(dk_last, dk)


@pytest.mark.parametrize("implementation", [None, "native"])
def test_second_derivatives_in_reverse_mode(implementation):
    """Each of the three maps is differentiated, against plain JAX in forward over reverse mode."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 2, 3, 3, 2, 3)), jnp.float32)
    along = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), (x, kernel))

    def loss(arrays, implementation):
        y = local_conv(*arrays, strides=2, padding=1, implementation=implementation)
        return jnp.sum(jnp.sin(y))

    def slope(arrays):
        gradient = jax.grad(loss)(arrays, implementation)
        return sum(jnp.vdot(g, a) for g, a in zip(gradient, along, strict=True))

    plain = partial(loss, implementation="slices")
    _, expected = jax.jit(partial(jax.jvp, jax.grad(plain)))(((x, kernel),), (along,))
    for actual, reference in zip(jax.jit(jax.grad(slope))((x, kernel)), expected, strict=True):
        assert_close(actual, np.asarray(reference, np.float64), "float32")


def test_forward_mode_names_its_remedy():
    x, kernel = jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1, 1, 1))
    for differentiated in (lambda f: jax.jvp(f, (x,), (x,)), lambda f: jax.hessian(f)(x)):
        with pytest.raises(ValueError, match=r"give implementation='slices' to the func"):
            differentiated(lambda x: jnp.sum(local_conv(x, kernel)))
    sliced = partial(local_conv, local_kernel=kernel, implementation="slices")
    assert_close(jax.jvp(sliced, (x,), (2 * x,))[1], np.full((1, 3, 3, 1), 2.0), "float32")


@pytest.mark.devices(8)
def test_split_over_devices():
    """The batch split over devices: by XLA, which replicates no custom call, and by shard_map."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(16, 4, 4, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(4, 4, 3, 3, 2, 3)), jnp.float32)

    def loss(x, kernel):
        return jnp.sum(jnp.square(local_conv(x, kernel)))

    def formula(x, kernel):
        return jnp.sum(jnp.square(local_conv(x, kernel, implementation="patches")))

    expected = jax.jit(jax.grad(formula, (0, 1)))(x, kernel)
    by_xla = jax.jit(jax.grad(loss, (0, 1)))(
        jax.device_put(x, NamedSharding(mesh, P("data"))), kernel
    )
    mapped = jax.jit(
        jax.shard_map(
            jax.grad(lambda x, k: lax.psum(loss(x, k), "data"), (0, 1)),
            mesh=mesh,
            in_specs=(P("data"), P()),
            out_specs=(P("data"), P()),
        )
    )(x, kernel)
    for result in (by_xla, mapped):
        for actual, reference in zip(result, expected, strict=True):
            assert_close(actual, np.asarray(reference, np.float64), "float32")


def test_vmap_over_networks():
    x = normal((2, 5, 5, 3))
    kernels = normal((4, 5, 5, 3, 3, 3, 2), 1)
    together = jax.jit(jax.vmap(local_conv, in_axes=(None, 0)))(x, kernels)
    one_by_one = np.stack([local_conv(x, kernel) for kernel in np.asarray(kernels)])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5, atol=1e-5)


# NumPy's, as every worker makes them when tests are collected.
X = np.ones((1, 8, 8, 4), np.float32)
K = np.ones((8, 8, 3, 3, 4, 6), np.float32)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("x", "kernel", "arguments", "match"),
    [
        (X[0, 0], K, {}, r"x has shape \(8, 4\)"),
        (X, K[0], {}, "local_kernel has shape .* expected 6 axes"),
        (X, K[:7], {}, r"expected \(8, 8, 3, 3, 4, 6\)"),
        (X[..., :2], K, {}, r"expected \(8, 8, 3, 3, 2, 6\)"),
        (X, K, {"strides": 2}, r"expected \(4, 4, 3, 3, 4, 6\)"),
        (X[..., :0], K[..., :0, :], {}, "at least one channel"),
        (X, K, {"feature_group_count": 3}, "feature_group_count=3"),
        (X, K, {"feature_group_count": 0}, "feature_group_count=0"),
        (X, K, {"implementation": "fast"}, "implementation='fast'"),
        (X.astype(np.uint8), K.astype(np.uint8), {}, "floating"),
        (X, K, {"padding": "FULL"}, "padding='FULL'"),
    ],
)
def test_wrong_arguments_are_named(x, kernel, arguments, match):
    with pytest.raises(ValueError, match=match):
        local_conv(x, kernel, **arguments)
