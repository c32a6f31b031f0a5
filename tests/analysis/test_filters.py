"""Similarity of filters against loops over pairs, on odd shapes; pairs that are drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws import share_weights
from jaxws.analysis import position_similarity, similarity_by_distance
from jaxws.analysis.filters import position_filters


def kernel_of(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=40)
@given(st.tuples(*[st.integers(1, 5)] * 2, *[st.integers(1, 3)] * 4), st.integers(0, 99))
def test_each_pair_is_what_a_loop_makes_of_it(shape, seed):
    if shape[0] * shape[1] < 2:
        return
    kernel = kernel_of(shape, seed)
    pairs = position_similarity(kernel)
    assert not pairs.sampled
    positions = list(np.ndindex(shape[:2]))
    for number, (a, b) in enumerate(itertools.combinations(positions, 2)):
        assert pairs.distance[number] == pytest.approx(np.hypot(a[0] - b[0], a[1] - b[1]))
        period = min(shape[2], shape[0]), min(shape[3], shape[1])
        same = all((one - other) % p == 0 for one, other, p in zip(a, b, period, strict=True))
        assert pairs.same_pool[number] == same
        for feature in range(shape[-1]):
            x, y = (kernel[at][..., feature].ravel().astype(float) for at in (a, b))
            expected = x @ y / np.sqrt(x @ x * (y @ y))
            assert pairs.similarity[number, feature] == pytest.approx(expected, abs=1e-6)
    assert number == len(pairs.distance) - 1


@pytest.mark.parametrize("most_pairs", [10_000, 400])
def test_shared_weights_are_alike_within_pools_and_not_between(most_pairs):
    kernel = share_weights({"local_kernel": kernel_of((7, 8, 3, 2, 4, 5))})["local_kernel"]
    pairs = position_similarity(np.asarray(kernel), most_pairs=most_pairs)
    assert pairs.sampled == (most_pairs == 400)
    np.testing.assert_allclose(pairs.similarity[pairs.same_pool], 1, atol=1e-6)
    assert np.abs(pairs.similarity[~pairs.same_pool]).max() < 0.9
    table = similarity_by_distance(pairs)
    assert sum(each.pairs for each in table) == len(pairs.distance)
    assert {each.mean == pytest.approx(1) for each in table if each.same_pool} == {True}
    nearest = min(each.distance for each in table if each.same_pool)
    assert nearest == 2  # the kernel is two wide


def test_pairs_are_drawn_evenly_and_always_the_same():
    kernel = kernel_of((5, 7, 3, 3, 1, 1))
    pairs, again, other = (
        position_similarity(kernel, most_pairs=500, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(pairs.similarity, again.similarity)
    assert not np.array_equal(pairs.similarity, other.similarity)
    assert pairs.distance.min() > 0  # no position with itself
    assert not pairs.same_pool[250:].any() and pairs.same_pool[:200].all()

    # All pairs of a distance and pool that there are are drawn, in the end.
    def kinds(p):
        return set(zip(p.distance.round(6), p.same_pool, strict=True))

    many = position_similarity(kernel, most_pairs=594, seed=0)
    assert many.sampled and kinds(many) <= kinds(position_similarity(kernel))


def test_filters_of_zeros_are_left_out():
    kernel = kernel_of((4, 4, 1, 1, 2, 2))
    kernel[1, 1, ..., 0] = 0
    (*table,) = similarity_by_distance(position_similarity(kernel))
    assert sum(each.undefined for each in table) == 15
    assert all(np.isfinite(each.mean) for each in table)
    silent = similarity_by_distance(position_similarity(0 * kernel))
    assert all(np.isnan(each.mean) for each in silent)


def test_filters_of_a_network():
    params = {
        "a": {"local_kernel": kernel_of((4, 5, 3, 3, 1, 2))},
        "b": {"conv": {"kernel": kernel_of((3, 3, 2, 4)), "bias": np.zeros(4)}},
        "tokens": {"local_kernel": kernel_of((6, 1, 2, 2))},
        "fc": {"kernel": kernel_of((4, 10))},
        "masked": {"masked_local_kernel": kernel_of((4, 5, 1, 1, 1, 2))},
    }
    mask = np.arange(20).reshape(4, 5, 1, 1, 1, 1) % 3 > 0
    variables = {"params": params, "masks": {"masked": {"masked_local_kernel": mask}}}
    found = position_filters(variables, {"b/conv": (4, 5)})
    assert {name: each.shape for name, each in found.items()} == {
        "a": (4, 5, 3, 3, 1, 2),
        "b/conv": (4, 5, 3, 3, 2, 4),
        "masked": (4, 5, 1, 1, 1, 2),
    }
    np.testing.assert_array_equal(found["masked"] != 0, np.broadcast_to(mask, (4, 5, 1, 1, 1, 2)))
    assert position_similarity(found["b/conv"]).similarity.min() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(4, 4, 3, 3, 1), (1, 1, 3, 3, 1, 2)])
def test_what_cannot_be_given(shape):
    with pytest.raises(ValueError, match="with two positions or more, and two pairs or more"):
        position_similarity(np.ones(shape))
    with pytest.raises(ValueError, match="most_pairs=1: expected"):
        position_similarity(np.ones((2, 2, 1, 1, 1, 1)), most_pairs=1)
