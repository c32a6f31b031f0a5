import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.training import loss_scale
from jaxws.training.loss_scale import LossScale, initial_loss_scale, next_loss_scale


def reference(finite, scale, interval):
    """PyTorch's rule, read from its documentation, with our two limits."""
    good = 0
    for step in finite:
        good = good + 1 if step else 0
        if not step:
            scale = max(scale * 0.5, 1.0)
        elif good == interval:
            scale, good = min(scale * 2.0, 2.0**24), 0
        yield scale, good


def history(finite, scale):
    """All scales of a run, the steps in one program."""

    def step(state, finite):
        state = next_loss_scale(state, finite)
        return state, state

    first = LossScale(jnp.asarray(scale, jnp.float32), jnp.asarray(0, jnp.int32))
    return jax.lax.scan(step, first, jnp.asarray(finite))[1]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("scale", [1.0, 2.0**16, 2.0**23])
def test_scale_follows_the_rule(share, scale, monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH_INTERVAL", 20)
    finite = np.random.default_rng(0).random(500) < share
    expected = zip(*reference(finite, scale, 20), strict=True)
    for ours, theirs in zip(history(finite, scale), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.torch
def test_scale_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    finite = np.random.default_rng(1).random(9000) < 0.9995
    scale, good = torch.tensor(2.0**16), torch.tensor(0, dtype=torch.int32)
    theirs = []
    for step in finite:
        found_inf = torch.tensor(float(not step))
        torch._amp_update_scale_(scale, good, found_inf, 2.0, 0.5, 2000)
        theirs.append(scale.item())
    np.testing.assert_array_equal(history(finite, loss_scale.INITIAL_SCALE).scale, theirs)


def test_only_float16_is_scaled():
    assert initial_loss_scale(jnp.float32) == initial_loss_scale("bfloat16") == ()
    assert {leaf.dtype.name for leaf in initial_loss_scale("float16")} == {"float32", "int32"}
