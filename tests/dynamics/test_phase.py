"""How far a sleep phase gets: the closed form against simulations and the library."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws.dynamics import Rule, sleep_phase, variance_ratio
from tests.support.drawn import normal

pytestmark = pytest.mark.usefixtures("strict_promotion")


@settings(max_examples=30)
@given(
    inputs=st.sampled_from([1, 3, 12]),
    patterns=st.integers(4, 20),
    iterations=st.integers(1, 5),
    share=st.floats(0.05, 0.5),
    gamma=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_variance_falls_as_the_closed_form_says(inputs, patterns, iterations, share, gamma):
    """Of the expectation: a weight's noise is averaged over many layers at once in float64."""
    rate = share * 2 / (1 + (inputs + 1) / patterns + gamma)
    rule = Rule(iterations, patterns, rate, gamma)
    rng = np.random.default_rng(0)
    trials = 2000
    start = np.tile(np.eye(inputs)[0], (trials, 1))
    deviation = start
    for _ in range(iterations):
        x = rng.normal(size=(trials, patterns, inputs))
        hebbian = np.einsum("tnd,tn->td", x, np.einsum("tnd,td->tn", x, deviation)) / patterns
        deviation = deviation - rate * (hebbian + gamma * (deviation - start))
    squares = np.square(deviation).sum(axis=1)
    # Products of random matrices have long tails: the error is that of the mean, seen in the data.
    error = squares.std() / np.sqrt(trials)
    assert abs(squares.mean() - variance_ratio(inputs, rule)) < 6 * error + 1e-12


def test_no_rate_shares_faster_than_the_fastest():
    for inputs, patterns in ((3, 1), (18, 4), (576, 128)):
        rule = Rule(1, patterns, None, 0.0)
        best = variance_ratio(inputs, rule)
        assert best == pytest.approx(1 - rule.rate_for(inputs))
        for factor in (0.9, 1.1):
            other = rule._replace(rate=factor * rule.rate_for(inputs))
            assert variance_ratio(inputs, other) > best
    params = {"conv": {"local_kernel": normal((9, 9, 3, 3, 2, 3))}}
    rule = Rule(3, 9, None)
    np.testing.assert_array_equal(
        *(
            sleep_phase(jax.random.key(1), params, r)["conv"]["local_kernel"]
            for r in (rule, rule._replace(rate=rule.rate_for(18)))
        )
    )


def test_the_library_falls_as_the_closed_form_says():
    rule = Rule(iterations=10, patterns=16, rate=0.1, gamma=0.1)
    params = {
        str(index): {"local_kernel": normal((40, 1, 8, 50), seed=index)} for index in range(10)
    }
    slept = jax.jit(lambda p: sleep_phase(jax.random.key(1), p, rule))(params)
    ratios = [
        np.var(np.asarray(slept[name]["local_kernel"]), axis=0).mean()
        / np.var(np.asarray(params[name]["local_kernel"]), axis=0).mean()
        for name in params
    ]
    expected = variance_ratio(8, rule)
    assert abs(np.mean(ratios) - expected) < 4 * np.std(ratios) / np.sqrt(10)
    assert 0.01 < expected < 0.5
