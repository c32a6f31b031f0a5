"""Which programs may be split over devices, and that only they do without the fast kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxws import local_conv
from jaxws.core.implementations import native
from jaxws.core.partitioning import may_be_partitioned, one_device

needs_kernels = pytest.mark.skipif(not native.available(), reason="no C++ compiler")
X, KERNEL = np.ones((8, 4, 4, 2), np.float32), np.ones((4, 4, 3, 3, 2, 3), np.float32)


def traced(x, **options):
    """What a program says of its argument while it is traced."""
    answers = []

    def program(x):
        answers.append(may_be_partitioned(x))
        return x

    jax.jit(program, **options)(x)
    return answers[0]


def uses_kernels(x):
    return "jaxws_forward" in jax.jit(local_conv).lower(x, KERNEL).as_text()


def test_never_with_one_device():
    x = jnp.ones((8, 2))
    assert not may_be_partitioned(x)
    assert not traced(x)


@pytest.mark.devices(8)
def test_arrays_at_hand_are_asked():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    one, split = jnp.ones((8, 2)), jax.device_put(jnp.ones((8, 2)), NamedSharding(mesh, P("d")))
    assert not may_be_partitioned(one, np.ones(3))
    assert may_be_partitioned(one, split)
    assert may_be_partitioned(jax.device_put(one, NamedSharding(mesh, P())))


@pytest.mark.devices(8)
def test_traced_ones_ask_the_context():
    mesh = jax.make_mesh((4, 2), ("d", "e"), axis_types=(AxisType.Auto,) * 2)
    x = jnp.ones((8, 2))
    assert traced(x)
    with one_device():
        assert not traced(x)
    with jax.set_mesh(mesh):
        assert traced(x)
    answers = []

    def note(x):
        answers.append(may_be_partitioned(x))
        return x

    over = dict(mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    jax.jit(jax.shard_map(note, **over, axis_names={"d", "e"}))(x)
    jax.jit(jax.shard_map(note, **over, axis_names={"d"}))(x)
    assert answers == [False, True]  # XLA still splits over axis e in the second


@needs_kernels
@pytest.mark.devices(8)
def test_kernels_run_wherever_one_device_does():
    assert not uses_kernels(X)
    with one_device():
        assert uses_kernels(X)
        y = jax.jit(local_conv)(X, KERNEL)
    np.testing.assert_allclose(y, local_conv(X, KERNEL, implementation="slices"), rtol=1e-5)


@needs_kernels
def test_kernels_are_what_users_run():
    assert uses_kernels(X)


@pytest.mark.devices(8)
def test_one_device_is_the_default_one():
    last = jax.devices()[-1]
    with jax.default_device(last), one_device():
        assert jax.jit(jnp.sin)(1.0).devices() == {last}
