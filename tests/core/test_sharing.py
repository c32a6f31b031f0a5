import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxws import local_conv, pool_mean, pool_sizes, pool_variance, share_weights
from jaxws.core.local_kernels import map_local_kernels
from jaxws.core.pools import make_grid
from tests.support.drawn import normal

pytestmark = [pytest.mark.usefixtures("strict_promotion"), pytest.mark.versions]


# Grids that k divides, does not divide or exceeds, one pool, one position; in one to three
# dimensions. Only a few: each one is compiled.
SHAPES = [
    (7, 3, 2, 3),
    (2, 4, 1, 2),
    (6, 4, 3, 2, 1, 2),
    (8, 5, 3, 3, 2, 3),
    (2, 7, 3, 4, 2, 1),
    (4, 5, 1, 1, 2, 3),
    (1, 1, 2, 2, 1, 1),
    (4, 3, 2, 2, 1, 2, 1, 2),
]
POOLS, FEW = st.sampled_from(["grid", "global"]), st.sampled_from(SHAPES)


@st.composite
def any_shape(draw):
    ndim = draw(st.integers(1, 3))
    positions = draw(st.tuples(*[st.integers(1, 8 if ndim < 3 else 4)] * ndim))
    offsets = draw(st.tuples(*[st.integers(1, 4 if ndim < 3 else 2)] * ndim))
    return (*positions, *offsets, draw(st.integers(1, 2)), draw(st.integers(1, 3)))


@st.composite
def kernels(draw, shapes=FEW):
    """LC kernels around zero, or around another mean."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    return rng.normal(draw(st.sampled_from([0.0, 3.0])), 1, draw(shapes)).astype(np.float32)


def numpy_pools(kernel, pools):
    """The pools one by one, by the definition: positions (i::k, j::k)."""
    ndim = kernel.ndim // 2 - 1
    periods = kernel.shape[ndim : 2 * ndim] if pools == "grid" else (1,) * ndim
    for start in itertools.product(*map(range, periods)):
        where = tuple(slice(s, None, p) for s, p in zip(start, periods, strict=True))
        if kernel[where].size:
            yield start, where, kernel[where].reshape(-1, *kernel.shape[ndim:])


def share_eagerly(kernel, **arguments):
    return share_weights({"local_kernel": kernel}, **arguments)["local_kernel"]


# One program each; op by op they take many times as long to compile.
STATIC = ("pools", "axis_name")
share = jax.jit(share_eagerly, static_argnames=STATIC)
mean_of = jax.jit(pool_mean, static_argnames=STATIC)
variance_of = jax.jit(pool_variance, static_argnames=STATIC)


@settings(max_examples=12)  # each shape is compiled
@given(kernels(), POOLS)
def test_every_weight_becomes_the_mean_of_its_pool(kernel, pools):
    shared = np.asarray(share(kernel, pools=pools))
    mean, variance = (np.asarray(f(kernel, pools=pools)) for f in (mean_of, variance_of))
    counts = np.asarray(pool_sizes(kernel, pools=pools))
    for start, where, members in numpy_pools(kernel, pools):
        expected = members.mean(0, dtype=np.float64)
        np.testing.assert_allclose(mean[start], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            variance[start], members.var(0, dtype=np.float64), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_array_equal(
            shared[where], np.broadcast_to(mean[start], shared[where].shape)
        )
        assert counts[start].item() == len(members)


@settings(max_examples=12)  # each shape is compiled
@given(kernels(), POOLS, st.sampled_from(["float32", "bfloat16"]))
def test_laws_of_a_projection(kernel, pools, dtype):
    kernel = jnp.asarray(kernel, dtype)
    shared = share(kernel, pools=pools)
    assert shared.dtype == kernel.dtype
    # Idempotent, to the last bit.
    np.testing.assert_array_equal(share(shared, pools=pools), shared)
    # Keeps every pool's mean: to rounding of the dtype that the mean is written back in.
    np.testing.assert_allclose(
        mean_of(shared, pools=pools),
        mean_of(kernel, pools=pools),
        rtol=float(jnp.finfo(dtype).eps),
        atol=1e-6,
    )
    # Never increases the variance within pools: it becomes zero.
    assert not np.any(variance_of(shared, pools=pools))


@settings(max_examples=8)
@given(kernels(), POOLS)
def test_gradient_is_the_projection_itself(kernel, pools):
    """Sharing is linear and symmetric, so pulling a cotangent back shares it."""
    cotangent = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
    pull = jax.jit(lambda k, d: jax.vjp(lambda k: share_eagerly(k, pools=pools), k)[1](d))
    (pulled,) = pull(kernel, cotangent)
    np.testing.assert_allclose(pulled, share(cotangent, pools=pools), rtol=1e-5, atol=1e-6)


@settings(max_examples=5)
@given(kernels())
def test_commutes_with_jit_and_vmap(kernel):
    shared = share_eagerly(kernel)
    np.testing.assert_allclose(share(kernel), shared, rtol=1e-6, atol=1e-6)
    stack = np.stack([kernel, kernel[::-1]])
    mapped = jax.jit(jax.vmap(share_eagerly))(stack)
    np.testing.assert_allclose(mapped[0], shared, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mapped[1], share(stack[1]), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "law",
    [
        test_every_weight_becomes_the_mean_of_its_pool,
        test_laws_of_a_projection,
        test_gradient_is_the_projection_itself,
    ],
)
def test_laws_for_kernels_of_any_shape(law):
    arguments = [kernels(any_shape()), POOLS]
    if law is test_laws_of_a_projection:
        arguments.append(st.sampled_from(["float32", "bfloat16"]))
    settings(max_examples=30)(given(*arguments)(law.hypothesis.inner_test))()


@pytest.mark.devices(8)
def test_commutes_with_pmap():
    kernels = np.random.default_rng(0).normal(size=(8, 7, 5, 3, 3, 2, 4)).astype(np.float32)
    mapped = jax.pmap(share_weights)({"a": {"local_kernel": kernels}, "bias": np.ones((8, 3))})
    np.testing.assert_array_equal(mapped["bias"], np.ones((8, 3)))
    for kernel, shared in zip(kernels, mapped["a"]["local_kernel"], strict=True):
        np.testing.assert_allclose(shared, share(kernel), rtol=1e-6, atol=1e-6)


@pytest.mark.devices(8)
@pytest.mark.parametrize("positions", [(16, 6), (8, 5), (24, 3)])
@pytest.mark.parametrize("pools", ["grid", "global"])
def test_positions_split_over_devices(positions, pools):
    """Slabs whose length k does not divide start in the middle of the grid's period."""
    kernel = np.random.default_rng(0).normal(size=(*positions, 3, 3, 2, 4)).astype(np.float32)
    expected = share(kernel, pools=pools)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    mapped = jax.jit(
        jax.shard_map(
            lambda k: share(k, pools=pools, axis_name="rows"),
            mesh=mesh,
            in_specs=P("rows"),
            out_specs=P("rows"),
        )
    )(kernel)
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)
    slabs = kernel.reshape(8, -1, *kernel.shape[1:])
    mapped = jax.pmap(lambda k: share(k, pools=pools, axis_name="d"), axis_name="d")(slabs)
    np.testing.assert_allclose(mapped.reshape(kernel.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.devices(8)
def test_positions_split_over_two_axes_of_a_mesh():
    kernel = np.random.default_rng(0).normal(size=(8, 10, 3, 3, 2, 4)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("rows", "columns"))
    mapped = jax.shard_map(
        lambda k: share(k, axis_name=("rows", "columns")),
        mesh=mesh,
        in_specs=P("rows", "columns"),
        out_specs=P("rows", "columns"),
    )(kernel)
    np.testing.assert_allclose(mapped, share(kernel), rtol=1e-5, atol=1e-6)
    by_column = jax.shard_map(
        lambda k: pool_mean(k, axis_name=(None, "columns")),
        mesh=mesh,
        in_specs=P(None, "columns"),
        out_specs=P(),
    )(kernel)
    np.testing.assert_allclose(by_column, mean_of(kernel), rtol=1e-5, atol=1e-6)


@pytest.mark.devices(8)
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P(), P("d"), P(None, None, None, None, None, "d")])
def test_keeps_sharding(axis_type, spec):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(axis_type,))
    kernel = np.random.default_rng(0).normal(size=(8, 5, 3, 3, 2, 16)).astype(np.float32)
    placed = jax.device_put(kernel, NamedSharding(mesh, spec))
    for function in (share_eagerly, share):
        shared = function(placed)
        assert shared.sharding.is_equivalent_to(placed.sharding, placed.ndim)
        np.testing.assert_allclose(shared, share(kernel), rtol=1e-5, atol=1e-6)


def test_global_pools_make_a_convolution():
    """A convolution is equivariant: shifting the image shifts the output (circular images)."""
    x = normal((2, 6, 6, 3))
    kernel = normal((6, 6, 3, 3, 3, 4), 1)

    @jax.jit
    def layer(x, kernel):
        around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
        return local_conv(around, kernel, padding="VALID")

    tied, grid = share(kernel, pools="global"), share(kernel)
    for shift in [(1, 0), (2, 5), (3, 3)]:
        shifted = jnp.roll(x, shift, (1, 2))
        y = jnp.roll(layer(x, tied), shift, (1, 2))
        np.testing.assert_allclose(layer(shifted, tied), y, rtol=1e-4, atol=1e-4)
        # Grid pools are equivariant to shifts by multiples of k only.
        y = jnp.roll(layer(x, grid), shift, (1, 2))
        multiple = all(s % 3 == 0 for s in shift)
        assert np.allclose(layer(shifted, grid), y, rtol=1e-4, atol=1e-4) == multiple


def test_one_by_one_layers_have_one_pool():
    kernel = np.random.default_rng(0).normal(size=(5, 4, 1, 1, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(share(kernel), share(kernel, pools="global"))


def test_structure_and_other_leaves_are_untouched():
    kernel, other = jnp.ones((2, 2, 1, 1, 1, 1)), jnp.arange(3)
    params = {"a": [{"local_kernel": kernel}], "b": (other, {"kernel": kernel, "none": None})}
    shared = share_weights(params)
    assert jax.tree.structure(shared) == jax.tree.structure(params)
    assert shared["b"][0] is other
    assert shared["b"][1]["kernel"] is kernel


def test_nnx_state_and_boxed_params():
    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.local_kernel = nnx.Param(rngs.normal((4, 4, 3, 3, 1, 2)))
            self.bias = nnx.Param(rngs.normal((4,)))

    state = nnx.state(Layer(nnx.Rngs(0)))
    shared = share_weights(state)
    assert isinstance(shared, nnx.State)
    np.testing.assert_array_equal(shared["bias"][...], state["bias"][...])
    np.testing.assert_array_equal(
        shared["local_kernel"][...], share(jnp.asarray(state["local_kernel"][...]))
    )
    boxed = {"local_kernel": nn.Partitioned(state["local_kernel"][...], names=(None,) * 6)}
    assert isinstance(share_weights(boxed)["local_kernel"], nn.Partitioned)
    np.testing.assert_array_equal(
        share_weights(boxed)["local_kernel"].value, shared["local_kernel"][...]
    )


def test_wrong_arguments_are_named():
    params = {"conv1": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 1))}}
    with pytest.raises(ValueError, match="pools='row'"):
        share_weights(params, pools="row")
    with pytest.raises(ValueError, match="at most 2 names"):
        share_weights(params, axis_name=("a", "b", "c"))
    with pytest.raises(ValueError, match="layer 'conv1' has shape"):
        share_weights(jax.tree.map(lambda leaf: leaf[None], params))


def test_map_local_kernels_gives_paths():
    paths = []
    params = {"a": {"b": {"local_kernel": jnp.ones((1, 1, 1, 1))}}, "kernel": jnp.ones(3)}
    map_local_kernels(lambda path, leaf: paths.append(path) or leaf, params)
    assert paths == ["a/b"]


@settings(max_examples=10)
@given(kernels(), POOLS)
def test_what_tpus_compute_is_the_same(kernel, pools):
    grid = make_grid(kernel, pools)
    member = jnp.asarray(kernel)[tuple(slice(p) for p in grid.periods)]
    np.testing.assert_array_equal(jax.jit(grid._select)(member), jax.jit(grid._tile)(member))


@pytest.mark.parametrize("pools", ["grid", "global"])
@pytest.mark.parametrize("positions", [64, 65, 199, 200])
def test_long_axes(positions, pools):
    """Layers of so many positions that their blocks are not added up one by one."""
    kernel = np.random.default_rng(0).normal(1, 1, (positions, 3, 1, 2)).astype(np.float32)
    shared = share(kernel, pools=pools)
    for _, where, members in numpy_pools(kernel, pools):
        expected = np.broadcast_to(members.mean(0, dtype=np.float64), members.shape)
        np.testing.assert_allclose(
            shared[where].reshape(expected.shape), expected, rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(share(shared, pools=pools), shared)
