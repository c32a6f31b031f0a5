"""Against PyTorch's rules written down in NumPy, and against PyTorch itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxws.config import base_config
from jaxws.core.named_leaves import named_leaves
from jaxws.training.optimizers import last_learning_rate, make_optimizer, step_decay

OPTIMIZERS = pytest.mark.parametrize(
    ("name", "momentum"), [("adamw", 0.9), ("sgd", 0.0), ("sgd", 0.9)]
)
STEPS, DROP = 5, 3  # one batch an epoch: steps 3 and 4 have a lower rate


def make_config(name, momentum):
    config = base_config()
    config.optimizer.name, config.optimizer.momentum = name, momentum
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.05, 0.3
    config.optimizer.drop_epochs = (DROP,)
    return config


def problem():
    """Weights and a bias of one layer, and gradients of any size, zero among them."""
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    grads = [
        {
            name: rng.normal(size=p.shape) * 10.0 ** rng.integers(-9, 3, p.shape)
            for name, p in params.items()
        }
        for _ in range(STEPS)
    ]
    grads[1]["bias"][0] = 0
    return params, grads


def rate_at(step):
    return 0.05 if step < DROP else 0.05 / 4


def torch_adamw(params, grads):
    """The update of torch.optim.AdamW, as its documentation has it."""
    m = {name: np.zeros_like(p) for name, p in params.items()}
    v = {name: np.zeros_like(p) for name, p in params.items()}
    for t, gradient in enumerate(grads, start=1):
        rate, new = rate_at(t - 1), {}
        for name, g in gradient.items():
            decayed = params[name] - rate * 0.3 * params[name]
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            m_hat, v_hat = m[name] / (1 - 0.9**t), v[name] / (1 - 0.999**t)
            new[name] = decayed - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        params = new
        yield params


def torch_sgd(params, grads, momentum):
    """The update of torch.optim.SGD, as its documentation has it."""
    buffer = {name: np.zeros_like(p) for name, p in params.items()}
    for t, gradient in enumerate(grads):
        for name, g in gradient.items():
            buffer[name] = momentum * buffer[name] + g + 0.3 * params[name]
        params = {name: p - rate_at(t) * buffer[name] for name, p in params.items()}
        yield params


def ours(name, momentum):
    params, grads = problem()
    with jax.enable_x64(True):
        optimizer = make_optimizer(make_config(name, momentum), steps_per_epoch=1)
        params = jax.tree.map(jnp.asarray, params)
        state = optimizer.init(params)
        for gradient in grads:
            updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, params)
            params = optax.apply_updates(params, updates)
            yield jax.tree.map(np.asarray, params), float(last_learning_rate(state))


@OPTIMIZERS
def test_steps_equal_the_formulas_in_float64(name, momentum):
    params, grads = problem()
    expected = torch_adamw(params, grads) if name == "adamw" else torch_sgd(params, grads, momentum)
    for step, (theirs, (mine, rate)) in enumerate(zip(expected, ours(name, momentum), strict=True)):
        assert rate == pytest.approx(rate_at(step), rel=1e-12)
        for leaf in theirs:
            np.testing.assert_allclose(mine[leaf], theirs[leaf], rtol=1e-12, atol=1e-14)


@pytest.mark.torch
@OPTIMIZERS
def test_steps_equal_those_of_pytorch(name, momentum):
    torch = pytest.importorskip("torch")
    params, grads = problem()
    theirs = {leaf: torch.nn.Parameter(torch.tensor(p)) for leaf, p in params.items()}
    optimizer = (
        torch.optim.AdamW(theirs.values(), lr=0.05, weight_decay=0.3)
        if name == "adamw"
        else torch.optim.SGD(theirs.values(), lr=0.05, momentum=momentum, weight_decay=0.3)
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [DROP], gamma=0.25)
    for gradient, (mine, _) in zip(grads, ours(name, momentum), strict=True):
        for leaf, parameter in theirs.items():
            parameter.grad = torch.tensor(gradient[leaf])
        optimizer.step()
        schedule.step()
        for leaf, parameter in theirs.items():
            np.testing.assert_allclose(mine[leaf], parameter.detach().numpy(), rtol=1e-12)


def rates(config, steps, **arguments):
    """The rates of the first updates, of a parameter that has no gradient."""
    optimizer = make_optimizer(config, **arguments)

    def update(state, _):
        _, state = optimizer.update({"w": jnp.zeros(())}, state, {"w": jnp.zeros(())})
        return state, last_learning_rate(state)

    return jax.lax.scan(update, optimizer.init({"w": jnp.zeros(())}), None, steps)[1]


@pytest.mark.parametrize(
    ("epochs", "given", "drops"),
    [
        (200, None, (100, 150)),
        (50, None, (25, 37)),
        (20, None, (10, 15)),
        (30, None, (15, 22)),
        (2, None, (1,)),
        (1, None, ()),
        (50, (10, 20, 30), (10, 20, 30)),
        (50, (), ()),
    ],
)
def test_the_rate_drops_with_the_epochs_unless_it_is_said_when(epochs, given, drops):
    config = base_config()
    config.epochs, config.optimizer.drop_epochs = epochs, given
    actual = rates(config, 2 * epochs, steps_per_epoch=2)
    expected = [1e-3 / 4 ** sum(epoch >= drop for drop in drops) for epoch in range(epochs)]
    np.testing.assert_allclose(actual, np.repeat(expected, 2), rtol=1e-6)


def test_a_factor_multiplies_all_rates():
    config = base_config()
    config.epochs = 4
    whole, half = (rates(config, 4, steps_per_epoch=1, rate_factor=f) for f in (1.0, 0.5))
    np.testing.assert_allclose(half, 0.5 * whole, rtol=1e-6)


@OPTIMIZERS
def test_frozen_leaves_have_no_update_and_no_moments_and_others_decay_as_told(name, momentum):
    params, grads = problem()
    config = make_config(name, momentum)
    plain = make_optimizer(config, steps_per_epoch=1)
    config.optimizer.freeze, config.optimizer.decay_mask = ("norm/*", "f?"), ("kernel", "norm/*")
    optimizer = make_optimizer(config, steps_per_epoch=1)
    config.optimizer.weight_decay = 0.0
    without_decay = make_optimizer(config, steps_per_epoch=1)
    # Every leaf of the problem as it is, and frozen.
    both = params | {"norm": {"scale": params["bias"]}, "fc": params["kernel"]}
    gradients = grads[0] | {"norm": {"scale": grads[0]["bias"]}, "fc": grads[0]["kernel"]}

    def update(optimizer, gradients, params):
        params = jax.tree.map(jnp.float32, params)
        state = optimizer.init(params)
        return optimizer.update(jax.tree.map(jnp.float32, gradients), state, params)

    updates, state = update(optimizer, gradients, both)
    expected, whole = update(plain, grads[0], params)
    np.testing.assert_array_equal(updates["kernel"], expected["kernel"])
    undecayed, _ = update(without_decay, gradients, both)
    np.testing.assert_array_equal(updates["bias"], undecayed["bias"])
    assert not np.any(updates["norm"]["scale"]) and not np.any(updates["fc"])
    shapes, of_all = ([leaf.shape for leaf in jax.tree.leaves(s)] for s in (state, whole))
    assert shapes == of_all
    assert float(last_learning_rate(state)) == pytest.approx(0.05)


def test_unset_patterns_leave_the_state_of_old_checkpoints():
    config = make_config("adamw", 0.9)
    params = {"w": jnp.ones(2)}
    state = make_optimizer(config, steps_per_epoch=1).init(params)
    names = {"inner_state/0/mu/w", "inner_state/0/nu/w", "inner_state/0/count", "count"}
    assert names < named_leaves(state).keys()
    config.optimizer.freeze = ()
    assert jax.tree.structure(make_optimizer(config, 1).init(params)) == jax.tree.structure(state)


def test_an_unknown_optimizer_is_named():
    config = base_config()
    config.optimizer.name = "adam"
    with pytest.raises(ValueError, match=r"optimizer\.name='adam': expected one of"):
        make_optimizer(config, steps_per_epoch=1)


@pytest.mark.parametrize("drops", [(100, 150), (25, 37), (10, 15)])
def test_rate_is_divided_by_four_after_each_drop(drops):
    schedule = step_decay(1e-3, 98, drops)
    for epoch, factor in [
        (0, 1), (drops[0] - 1, 1), (drops[0], 4), (drops[1] - 1, 4), (drops[1], 16)
    ]:  # fmt: skip
        for batch in (0, 97):
            np.testing.assert_allclose(schedule(epoch * 98 + batch), 1e-3 / factor, rtol=1e-6)
