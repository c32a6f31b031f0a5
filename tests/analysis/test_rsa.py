"""RDMs against np.corrcoef, Spearman correlations against SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from jaxws.analysis import rdm, rdm_similarity


@given(st.integers(2, 9), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_rdms_are_those_of_corrcoef(images, responses, seed):
    x = np.random.default_rng(seed).normal(3, 2, size=(images, responses))
    expected = 1 - np.corrcoef(x)
    np.testing.assert_allclose(rdm(x), expected, atol=1e-9)
    np.testing.assert_allclose(rdm(x * 7 - 3), expected, atol=1e-9)  # scale and offset do not count
    np.testing.assert_array_equal(np.diag(rdm(x)), 0)


def test_all_axes_behind_the_first_are_responses():
    x = np.random.default_rng(0).normal(size=(4, 3, 5, 2))
    np.testing.assert_allclose(rdm(x), 1 - np.corrcoef(x.reshape(4, -1)), atol=1e-12)


@given(arrays(float, (3, 15), elements=st.integers(0, 6)))
def test_similarities_are_spearmans(pairs):
    """Few different values: ties are the rule."""
    rdms = []
    for values in pairs:
        matrix = np.zeros((6, 6))
        matrix[np.triu_indices(6, 1)] = values
        rdms.append(matrix + matrix.T)
    found = rdm_similarity(rdms)
    for a, b in np.ndindex(3, 3):
        if len(set(pairs[a])) > 1 and len(set(pairs[b])) > 1:
            expected = stats.spearmanr(pairs[a], pairs[b]).statistic
            assert found[a, b] == pytest.approx(expected, abs=1e-9)
        else:
            assert np.isnan(found[a, b])


def test_images_without_a_correlation_do_not_count():
    x = np.random.default_rng(0).normal(size=(6, 8))
    dead = x.copy()
    dead[2] = 0.1  # whose mean is not 0.1 to the last bit
    found = rdm(dead)
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all()
    rest = np.delete(np.delete(rdm(x), 2, 0), 2, 1)
    np.testing.assert_array_equal(np.delete(np.delete(found, 2, 0), 2, 1), rest)
    assert rdm_similarity([found, rdm(x)])[0, 1] == pytest.approx(1)
    assert np.isnan(rdm_similarity([np.full((3, 3), np.nan), rest[:3, :3]])[0, 1])


def test_what_cannot_be_given():
    for wrong in (np.ones((1, 5)), np.ones((5, 1))):
        with pytest.raises(ValueError, match="with 2 images and 2 responses to each, or more"):
            rdm(wrong)
    for wrong in ([], [np.ones((2, 2))], [np.ones((4, 4)), np.ones((3, 3))], [np.ones((3, 4))]):
        with pytest.raises(ValueError, match=r"expected \(n, n\) with one n, 3 or more"):
            rdm_similarity(wrong)
