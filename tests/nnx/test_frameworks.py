"""One small network in Linen, NNX and Equinox: the same numbers, trained and shared."""

import equinox as eqx
import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxws
import jaxws.nnx
from tests.support.drawn import normal

pytestmark = pytest.mark.versions

IMAGES, LABELS = normal((8, 9, 8, 2), 1), np.arange(8) % 3
STEPS, RATE = 3, 0.1


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(jaxws.LocalConv(4, (3, 3), 2, padding=1, name="conv")(x))
        x = x.reshape(*x.shape[:-3], -1, 4)
        return jaxws.LocalDense(3, use_bias=False, name="dense")(x).mean(-2)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv = jaxws.nnx.LocalConv(2, 4, (3, 3), 2, padding=1, image_size=(9, 8), rngs=rngs)
        self.dense = jaxws.nnx.LocalDense(4, 3, tokens=20, use_bias=False, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv(x))
        return self.dense(x.reshape(*x.shape[:-3], -1, 4)).mean(-2)


class EquinoxConv(eqx.Module):
    """What somebody writes who has another library: a leaf by that name, and the function."""

    local_kernel: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return jaxws.local_conv(x, self.local_kernel, strides=2, padding=1) + self.bias


class EquinoxDense(eqx.Module):
    local_kernel: jax.Array

    def __call__(self, x):
        return jaxws.local_conv(x, self.local_kernel)


class Equinox(eqx.Module):
    conv: EquinoxConv
    dense: EquinoxDense

    def __call__(self, x):
        x = jax.nn.relu(self.conv(x))
        return self.dense(x.reshape(*x.shape[:-3], -1, 4)).mean(-2)


def cross_entropy(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


OPTIMIZER = optax.sgd(RATE, momentum=0.9)


def train_linen(params):
    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(
            lambda p: cross_entropy(Linen().apply({"params": p}, IMAGES))
        )(params)
        updates, state = OPTIMIZER.update(gradient, state)
        return jaxws.share_weights(optax.apply_updates(params, updates)), state, loss

    state, losses = OPTIMIZER.init(params), []
    for _ in range(STEPS):
        params, state, loss = step(params, state)
        losses.append(loss)
    return losses, params


def train_nnx(params):
    model = Nnx(nnx.Rngs(0))
    nnx.update(model, nnx.State(jax.tree.map(nnx.Param, params)))
    optimizer = nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, gradient = nnx.value_and_grad(lambda m: cross_entropy(m(IMAGES)))(model)
        optimizer.update(model, gradient)
        jaxws.nnx.share_weights(model)
        return loss

    losses = [step(model, optimizer) for _ in range(STEPS)]
    return losses, nnx.to_pure_dict(nnx.state(model, nnx.Param))


def train_equinox(params):
    model = Equinox(EquinoxConv(**params["conv"]), EquinoxDense(**params["dense"]))
    state, losses = OPTIMIZER.init(model), []

    @eqx.filter_jit
    def step(model, state):
        loss, gradient = eqx.filter_value_and_grad(lambda m: cross_entropy(m(IMAGES)))(model)
        updates, state = OPTIMIZER.update(gradient, state)
        return jaxws.share_weights(eqx.apply_updates(model, updates)), state, loss

    for _ in range(STEPS):
        model, state, loss = step(model, state)
        losses.append(loss)
    return losses, {
        "conv": {"local_kernel": model.conv.local_kernel, "bias": model.conv.bias},
        "dense": {"local_kernel": model.dense.local_kernel},
    }


def test_the_same_network_trains_to_the_same_numbers():
    shapes = jax.eval_shape(Linen().init, jax.random.key(0), IMAGES)["params"]
    params = jax.tree.map(lambda leaf: 0.3 * normal(leaf.shape, 2), shapes)
    losses, trained = train_linen(params)
    assert losses[-1] < losses[0]
    snr = jaxws.weight_snr(trained)
    assert all(np.isinf(value) for value in snr.values())
    for train in (train_nnx, train_equinox):
        other_losses, other = train(params)
        np.testing.assert_allclose(other_losses, losses, rtol=1e-6)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), other, trained
        )


def test_the_library_reads_modules_of_all_three():
    """A pytree is a pytree: a module by itself, or its state."""
    model = Nnx(nnx.Rngs(0))
    by_state = jaxws.weight_snr(nnx.state(model, nnx.Param))
    assert by_state == jaxws.nnx.weight_snr(model)
    assert set(by_state) == {"conv", "dense"}
    equinox = Equinox(
        EquinoxConv(model.conv.local_kernel[...], model.conv.bias[...]),
        EquinoxDense(model.dense.local_kernel[...]),
    )
    assert jaxws.weight_snr(equinox) == by_state
    kernel = jaxws.share_weights(equinox).conv.local_kernel
    np.testing.assert_array_equal(
        kernel, jaxws.share_weights({"local_kernel": equinox.conv.local_kernel})["local_kernel"]
    )
