"""Convolutions by kernels of LC layers, against XLA's; and where they leave it to XLA."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxws.core.implementations import native
from jaxws.layers import tied
from jaxws.layers.tied import Conv, prefers_batch_last, tied_conv
from jaxws.models import resnet_cifar

needs_compiler = pytest.mark.skipif(not native.available(), reason="no C++ compiler")
ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="for CPUs")
LAYERS = [
    # images, their size, channels, features, kernel size, arguments of nn.Conv
    (5, (7, 5), 3, 4, (3, 3), {}),
    (70, (9, 5), 5, 7, (3, 3), {"strides": 2, "padding": 1}),
    (33, (11, 10), 40, 18, (3, 2), {"padding": "VALID", "kernel_dilation": (3, 2)}),
    (3, (12, 20), 8, 4, (1, 1), {"strides": 2, "padding": 0, "feature_group_count": 2}),
    (17, (20, 19), 3, 16, (7, 7), {"strides": 2, "padding": ((3, 2), (0, 3))}),
    (40, (5, 6, 4), 6, 34, (2, 3, 1), {"padding": "CIRCULAR"}),
    (19, (50,), 9, 24, (5,), {"padding": "CAUSAL", "use_bias": True}),
]


def run(conv, loss=lambda y: jnp.sum(jnp.sin(y))):
    """A function that gives outputs and gradients of a layer, compiled as one program."""

    @jax.jit
    def outputs_and_gradients(params, x):
        def forward(params, x):
            y = conv.apply({"params": params}, x)
            return loss(y), y

        (_, y), gradients = jax.value_and_grad(forward, (0, 1), has_aux=True)(params, x)
        return y, gradients

    return outputs_and_gradients


def assert_close(actual, expected, rtol=1e-5):
    for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        scale = np.abs(np.asarray(b, np.float64)).max()
        np.testing.assert_allclose(a / scale, b / scale, atol=rtol)


def uses_xla(conv, params, x):
    return "conv_general_dilated" in str(jax.make_jaxpr(conv.apply)({"params": params}, x))


@ON_CPU
@needs_compiler
@pytest.mark.parametrize(("n", "size", "c", "f", "kernel_size", "arguments"), LAYERS)
def test_values_and_gradients_are_those_of_a_convolution(n, size, c, f, kernel_size, arguments):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *size, c)).astype(np.float32)
    arguments = {"use_bias": False, **arguments}
    ours, flax = (layer(f, kernel_size, **arguments) for layer in (Conv, nn.Conv))
    shape = (*kernel_size, c // arguments.get("feature_group_count", 1), f)
    params = {"kernel": rng.normal(size=shape).astype(np.float32)}
    if arguments["use_bias"]:
        params["bias"] = rng.normal(size=f).astype(np.float32)
    assert uses_xla(flax, params, x) and not uses_xla(ours, params, x)
    assert_close(run(ours)(params, x), run(flax)(params, x))


@ON_CPU
@needs_compiler
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_added_up_in_float32(dtype):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=size).astype(dtype) for size in ((9, 8, 8, 16), (3, 3, 16, 8)))
    arguments = ((1, 1), "SAME")
    wide = lax.conv_general_dilated(
        x.astype("float32"), kernel.astype("float32"), *arguments, dimension_numbers=NHWC
    )
    y = jax.jit(lambda x, kernel: tied_conv(x, kernel, *arguments))(x, kernel)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype("float32"), wide, rtol=float(jnp.finfo(dtype).eps))


NHWC = ("NHWC", "HWIO", "NHWC")


@ON_CPU
@needs_compiler
def test_gradients_of_gradients():
    """Of the filter's gradient too, which the kernels add up over positions."""
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((4, 6, 5, 3), (3, 3, 3, 2)))

    def penalty(conv, arrays):
        def loss(x, kernel):
            y = conv(x, kernel, (2, 1), "SAME", dimension_numbers=NHWC)
            return jnp.sum(jnp.sin(y))

        gradients = jax.grad(loss, (0, 1))(*arrays)
        return sum(jnp.sum(jnp.square(gradient)) for gradient in gradients)

    found, expected = (
        jax.jit(jax.grad(partial(penalty, conv)))((x, kernel))
        for conv in (tied_conv, lax.conv_general_dilated)
    )
    assert_close(found, expected, rtol=1e-4)


@ON_CPU
@needs_compiler
def test_networks_and_their_parameters_are_those_with_flax_s_layers():
    """In training, with rows that only fill up the batch, though activations lie otherwise."""
    x = np.random.default_rng(0).normal(size=(6, 9, 9, 3)).astype(np.float32)
    mask = np.arange(6) < 5
    found = []
    for conv in (Conv, nn.Conv):
        model = resnet_cifar(8, width=3, num_classes=4, conv=conv)
        variables = jax.jit(model.init)(jax.random.key(0), x[:1])

        def loss(params, model=model, rest=variables["batch_stats"]):
            logits, changed = model.apply(
                {"params": params, "batch_stats": rest}, x, train=True, mask=mask,
                mutable=["batch_stats"],
            )  # fmt: skip
            return jnp.sum(jnp.cos(logits[:5])), (logits[:5], changed)

        gradients = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        found.append((variables, gradients))
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    assert_close(found[0], found[1], rtol=1e-3)


@ON_CPU
@needs_compiler
def test_what_the_kernels_cannot_do_xla_does(monkeypatch):
    x, params = jnp.ones((2, 6, 6, 3)), {"kernel": jnp.ones((3, 3, 3, 2))}
    layer = partial(Conv, 2, (3, 3), use_bias=False)
    assert uses_xla(layer(input_dilation=2, padding=1), params, x)
    assert not uses_xla(layer(input_dilation=1), params, x)
    assert not prefers_batch_last(x.astype(int))
    with monkeypatch.context() as patch:
        patch.setattr(tied, "default_name", lambda dtype: "slices")
        assert uses_xla(layer(), params, x) and not prefers_batch_last(x)


@ON_CPU
@pytest.mark.devices(8)
def test_programs_of_several_devices_are_left_to_xla():
    """Which splits convolutions over devices, and no kernels of ours."""
    x, params = jnp.ones((8, 6, 6, 3)), {"kernel": jnp.ones((3, 3, 3, 2))}
    assert uses_xla(Conv(2, (3, 3), use_bias=False), params, x)
