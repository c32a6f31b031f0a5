"""The GPU kernels: interpreted against a NumPy loop, lowered for CUDA, compiled on a GPU if any."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxws import local_conv
from jaxws.core.implementations import slices, triton
from jaxws.core.implementations.spec import Spec
from jaxws.core.implementations.triton_tiles import SMALLEST, STAGES, make_tile
from jaxws.core.window import make_window
from tests.core.test_local_conv import (
    SEEDS,
    assert_close,
    draw_arrays,
    loop_reference,
    problems,
    shape_of,
)
from tests.support.drawn import normal

pytestmark = [
    pytest.mark.usefixtures("strict_promotion"),
    # Since JAX 0.11 (July 2026), where a kernel is lowered, after our code has returned. Python
    # shows it to nobody who has not asked for it. docs/performance.md says what will replace it.
    pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning"),
]

# (image size, kernel size, strides, padding, channels, features) of every LC layer, with its batch.
RESNET20 = [
    (32, 3, 1, 1, 3, 16),
    (32, 3, 1, 1, 16, 16),
    (32, 3, 2, 1, 16, 32),
    (32, 1, 2, 0, 16, 32),
    (16, 3, 1, 1, 32, 32),
    (16, 3, 2, 1, 32, 64),
    (16, 1, 2, 0, 32, 64),
    (8, 3, 1, 1, 64, 64),
]
RESNET18_HALF = [
    (224, 7, 2, 3, 3, 32),
    (56, 3, 1, 1, 32, 32),
    (56, 3, 2, 1, 32, 64),
    (56, 1, 2, 0, 32, 64),
    (28, 3, 1, 1, 64, 64),
    (28, 3, 2, 1, 64, 128),
    (28, 1, 2, 0, 64, 128),
    (14, 3, 1, 1, 128, 128),
    (14, 3, 2, 1, 128, 256),
    (14, 1, 2, 0, 128, 256),
    (7, 3, 1, 1, 256, 256),
]
LAYERS = [(*layer, 512) for layer in RESNET20] + [(*layer, 256) for layer in RESNET18_HALF]
MAPS = ("forward", "input_gradient", "kernel_gradient")


@cache
def layer_of(window, groups):
    """x, kernel and dy to y, dx and dkernel, compiled once per shape."""
    function = partial(
        local_conv,
        strides=window.strides,
        padding=window.padding,
        dilation=window.dilation,
        feature_group_count=groups,
        implementation="triton",
    )

    @jax.jit
    def run(x, kernel, dy):
        y, vjp = jax.vjp(function, x, kernel)
        return y, *vjp(dy)

    return run


def check_against_loop(window, n, c, f, groups, seed, dtype):
    arrays = [jnp.asarray(a, dtype) for a in draw_arrays(window, n, c, f, groups, seed)]
    expected = loop_reference(*(np.asarray(a, np.float64) for a in arrays), window, groups)
    for actual, reference in zip(layer_of(window, groups)(*arrays), expected, strict=True):
        assert actual.dtype == dtype
        assert_close(actual, reference, dtype)


@pytest.mark.parametrize(("kind", "dtype"), [("1-D", "float32"), ("3-D", "float16")])
@settings(max_examples=3)
@given(seed=SEEDS)
def test_values_equal_a_loop(kind, dtype, seed):
    window, n, c, f, groups, _ = shape_of(kind)
    check_against_loop(window, n, c, f, groups, seed, dtype)


@pytest.mark.slow
@settings(max_examples=30)
@given(problem=problems(), dtype=st.sampled_from(["float32", "float32", "bfloat16", "float16"]))
def test_layers_of_any_shape_equal_a_loop(problem, dtype):
    window, n, c, f, groups, _, seed = problem
    check_against_loop(window, n, c, f, groups, seed, dtype)


@pytest.mark.parametrize(
    ("geometry", "n", "c", "f", "groups", "dtype"),
    [
        # Several blocks of images, of features and of terms, each with a remainder.
        (((2, 2), (2, 1), 1, 0, 1), 261, 24, 70, 1, "float32"),
        # Blocks of one offset each, some of them outside the image.
        (((3, 4), (3, 3), (1, 2), 1, 1), 5, 32, 20, 1, "bfloat16"),
        # Groups wider than a block; stride and dilation with a common divisor.
        (((7,), (3,), 6, 2, 4), 3, 2 * 80, 2 * 72, 2, "float32"),
        # A stride larger than the kernel: pixels that no output sees.
        (((5, 7), (1, 2), (2, 3), 0, 1), 4, 3, 4, 1, "float32"),
    ],
)
def test_blocks_with_remainders(geometry, n, c, f, groups, dtype):
    check_against_loop(make_window(*geometry), n, c, f, groups, 0, dtype)


def test_float64():
    with jax.enable_x64(True):
        check_against_loop(make_window((5, 4), (3, 2), (2, 1), 1), 2, 4, 6, 2, 0, "float64")


@pytest.mark.parametrize(
    ("dtype", "result"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16")]
)
def test_cotangents_of_another_dtype(dtype, result):
    window = make_window((4, 4), (3, 3), 1, 1)
    x, kernel, dy = draw_arrays(window, 4, 3, 5, 1, 0)
    arrays = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype), jnp.asarray(dy, result)
    expected = loop_reference(*(np.asarray(a, np.float64) for a in arrays), window, 1)
    x, kernel, dy = arrays
    x, dy = jnp.moveaxis(x, 0, -1), jnp.moveaxis(dy, 0, -1)
    spec = Spec(window, 1, jnp.dtype("float32"), jnp.dtype(result))
    y, dx, dk = (
        jax.jit(partial(getattr(triton.TRITON, name), spec=spec))(*arguments)
        for name, arguments in zip(MAPS, pairs(x, kernel, dy), strict=True)
    )
    assert (y.dtype, dx.dtype, dk.dtype) == (result, dtype, dtype)
    actuals = jnp.moveaxis(y, -1, 0), jnp.moveaxis(dx, -1, 0), dk
    for actual, reference in zip(actuals, expected, strict=True):
        assert_close(actual, reference, actual.dtype.name)


def test_empty_axes():
    for n, f in ((0, 4), (3, 0)):
        spec, *arrays = problem_of((4, 3, 1, 1, 2, f, n), "float32")
        values = [jnp.ones(a.shape, a.dtype) for a in arrays]
        results = [
            getattr(triton.TRITON, name)(*arguments, spec)
            for name, arguments in zip(MAPS, pairs(*values), strict=True)
        ]
        for result, like in zip(results, (arrays[2], arrays[0], arrays[1]), strict=True):
            np.testing.assert_array_equal(result, jnp.zeros(like.shape))


def test_vmap_over_networks():
    x, kernels = normal((2, 4, 4, 3)), normal((3, 4, 4, 3, 3, 3, 2), 1)

    def loss(kernel, implementation):
        return jnp.sum(local_conv(x, kernel, implementation=implementation) ** 2)

    together, one_by_one = (
        jax.jit(jax.vmap(jax.value_and_grad(partial(loss, implementation=name))))(kernels)
        for name in ("triton", "slices")
    )
    for actual, expected in zip(together, one_by_one, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.devices(8)
def test_shard_map_over_images():
    """Lowered with its types checked; interpreted without, which Pallas's interpreter cannot."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, kernel = normal((4, 4, 4, 3)), normal((4, 4, 3, 3, 3, 2), 1)

    def gradients(x, kernel, implementation="triton"):
        def loss(x, kernel):
            return jnp.sum(local_conv(x, kernel, implementation=implementation) ** 2)

        return jax.grad(loss, (0, 1))(x, kernel)

    def total(x, kernel):
        dx, dk = gradients(x, kernel)
        return dx, lax.psum(dk, "data")

    specs = {"mesh": mesh, "in_specs": (P("data"), P()), "out_specs": (P("data"), P())}
    unchecked = jax.jit(jax.shard_map(total, **specs, check_vma=False))
    slices_too = jax.jit(gradients, static_argnums=2)(x, kernel, "slices")
    for actual, expected in zip(unchecked(x, kernel), slices_too, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    # With types checked, JAX itself adds up the gradient of what all devices share.
    mesh = ampere(2)
    with jax.sharding.use_abstract_mesh(mesh):
        checked = jax.jit(jax.shard_map(gradients, **specs | {"mesh": mesh}))
        whole = [
            jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=jax.sharding.NamedSharding(mesh, spec))
            for a, spec in ((x, P("data")), (kernel, P()))
        ]
        program = checked.trace(*whole).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("stablehlo.all_reduce") == 1


def problem_of(layer, dtype, result=None, precision=None):
    """The Spec of a layer and the shapes of x, its kernel and dy."""
    size, k, stride, padding, c, f, n = layer
    window = make_window((size, size), (k, k), stride, padding)
    result = jnp.dtype(result or dtype)
    spec = Spec(window, 1, jnp.dtype("float32"), result, precision)
    x = jax.ShapeDtypeStruct((size, size, c, n), dtype)
    kernel = jax.ShapeDtypeStruct((*window.output_size, k, k, c, f), dtype)
    return spec, x, kernel, jax.ShapeDtypeStruct((*window.output_size, f, n), result)


def pairs(x, kernel, dy):
    """The arguments of the three MAPS."""
    return (x, kernel), (dy, kernel), (x, dy)


def lower(name, arguments, spec):
    """The program that XLA gets for CUDA, with the Triton kernel in it as bytes."""
    function = partial(getattr(triton.TRITON, name), spec=spec)
    with jax.sharding.use_abstract_mesh(ampere(1)):
        traced = jax.jit(function).trace(*arguments)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


def ampere(devices):
    """GPUs that need not be there. Since JAX 0.11, Pallas lowers for none that it does not know."""
    device = jax.sharding.AbstractDevice("NVIDIA A100", None, "gpu")
    explicit = (jax.sharding.AxisType.Explicit,)
    return jax.sharding.AbstractMesh((devices,), ("data",), explicit, abstract_device=device)


@pytest.mark.parametrize(
    ("layers", "dtype"),
    [
        ([RESNET18_HALF[0]], "float32"),  # a stem: 3 channels, 7 x 7
        ([RESNET20[4], RESNET20[3]], "bfloat16"),  # 3 x 3 and 1 x 1 at stride 2
        ([RESNET18_HALF[8]], "float16"),  # many channels at stride 2
        *(
            pytest.param([*RESNET20, *RESNET18_HALF], dtype, marks=pytest.mark.slow)
            for dtype in ("float32", "bfloat16", "float16")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_layers_lower_to_one_kernel_for_cuda(layers, dtype):
    for layer in ((*layer, 512) for layer in layers):
        spec, *arrays = problem_of(layer, dtype)
        for name, arguments in zip(MAPS, pairs(*arrays), strict=True):
            program = lower(name, arguments, spec)
            assert program.count("stablehlo.custom_call") == 1
            assert "stablehlo.dot_general" not in program


def test_filters_that_repeat_lower_for_cuda():
    spec, x, _, dy = problem_of(LAYERS[0], "float32")
    k, c, f = spec.window.kernel_size, x.shape[-2], dy.shape[-2]
    filters = jax.ShapeDtypeStruct((*k, *k, c, f), "float32")
    for name, arguments in (("forward", (x, filters)), ("input_gradient", (dy, filters))):
        program = lower(name, arguments, spec)
        assert program.count("stablehlo.custom_call") == 1


def test_more_positions_than_a_grid_axis_has():
    window = make_window((70000,), (3,), 1, 1)
    spec = Spec(window, 1, jnp.dtype("float32"), jnp.dtype("float32"))
    x = jax.ShapeDtypeStruct((70000, 3, 32), "float32")
    kernel = jax.ShapeDtypeStruct((70000, 3, 3, 16), "float32")
    assert "grid_x = 70000" in lower("forward", (x, kernel), spec)


def test_precision_reaches_the_kernel():
    """XLA's default on these GPUs is TF32 too, and so is HIGH; HIGHEST is not."""
    programs = {}
    for precision in (None, *lax.Precision):
        spec, *arrays = problem_of(LAYERS[1], "float32", precision=precision)
        programs[precision] = lower("forward", pairs(*arrays)[0], spec)
    default = programs.pop(None)
    highest = programs.pop(lax.Precision.HIGHEST)
    assert all(program == default for program in programs.values())
    assert highest != default


def test_no_array_is_larger_than_the_layer_itself():
    """Patches would be: nothing between the arguments and the results, forward or backward."""
    spec, x, kernel, dy = problem_of((16, 3, 1, 1, 8, 8, 512), "float32")
    largest = max(a.size for a in (x, kernel, dy))
    for name, arguments in zip(MAPS, pairs(x, kernel, dy), strict=True):
        for implementation, fits in ((triton.TRITON, True), (slices.SLICES, False)):
            function = partial(getattr(implementation, name), spec=spec)
            sizes = list(outputs(jax.make_jaxpr(function)(*arguments).jaxpr))
            assert sizes
            assert (max(sizes) <= largest) == fits


def outputs(jaxpr):
    """Sizes of everything that a program writes to memory; a kernel's inside is in registers."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars)
        if equation.primitive.name == "pallas_call":
            continue
        for value in equation.params.values():
            for part in value if isinstance(value, tuple) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from outputs(inner)


@settings(max_examples=300)
@given(
    rows=st.integers(1, 5000),
    columns=st.integers(1, 5000),
    inner=st.integers(1, 5000),
    itemsize=st.sampled_from([2, 4, 8]),
)
def test_blocks_fit_every_gpu(rows, columns, inner, itemsize):
    tile = make_tile(rows, columns, inner, itemsize)
    for block in tile:
        assert block >= SMALLEST
        assert block & (block - 1) == 0
    registers = tile.rows * tile.columns * max(1, itemsize // 4) / (32 * tile.warps)
    assert registers <= 64
    # Ada and the small Amperes and Blackwells give 99 KiB to a program.
    assert STAGES * (tile.rows + tile.columns) * tile.inner * itemsize <= 99 * 1024
    for size, block in ((rows, tile.rows), (columns, tile.columns)):
        assert -(-size // block) * block <= 1.25 * (-(-size // SMALLEST) * SMALLEST)


@pytest.mark.parametrize(
    ("dtype", "precision", "match"),
    [
        ("float8_e4m3fn", None, "the dtype float8_e4m3fn"),
        ("float32", lax.DotAlgorithmPreset.BF16_BF16_F32, "precision="),
    ],
)
def test_what_is_not_supported_is_named(dtype, precision, match):
    spec, x, kernel, _ = problem_of((4, 3, 1, 1, 3, 5, 4), dtype, precision=precision)
    assert not triton.supports(spec, kernel.shape, 4, dtype)
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(partial(triton.forward, spec=spec), x, kernel)


def test_rows_beyond_int32_are_refused():
    for size, supported in ((2**9, True), (2**11, False)):
        spec, _, kernel, _ = problem_of((size, 3, 1, 1, 64, 64, 1), "float32")
        assert triton.supports(spec, kernel.shape, 1, "float32") == supported


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="compiled kernels need a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layer", [*LAYERS, (9, 3, 2, 1, 24, 40, 77)])
def test_compiled_kernels_equal_slices(layer, dtype):
    spec, *arrays = problem_of(layer, dtype, precision=lax.Precision.HIGHEST)
    values = [jax.random.normal(jax.random.key(i), a.shape, a.dtype) for i, a in enumerate(arrays)]
    for name, arguments in zip(MAPS, pairs(*values), strict=True):
        actual, expected = (
            jax.jit(partial(getattr(implementation, name), spec=spec))(*arguments)
            for implementation in (triton.TRITON, slices.SLICES)
        )
        assert_close(actual, np.asarray(expected, np.float64), dtype)
