"""Orientation tuning of Gabor filters of known orientations, and of curves in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxws import LocalConv
from jaxws.analysis import Gratings, grating_responses, orientation_tuning

SIZE = 11  # of a Gabor filter
FREQUENCY = 0.2
GRATINGS = Gratings(frequencies=(0.1, FREQUENCY, 0.4), phases=4)
MEAN, STD = 0.3, 0.25  # of the normalisation
IMAGE = (15, 13, 1)
# Every position has another orientation: 0 to 180 degrees in 15 steps.
ORIENTATIONS = (180 * np.arange(15) / 15).reshape(5, 3)


def gabor(orientation, phase):
    """Bars of an orientation, counter-clockwise from horizontal, under a Gaussian."""
    angle = np.deg2rad(orientation)
    down, right = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    up = -down
    across = up * np.cos(angle) - right * np.sin(angle)  # along (-sin, cos) in (right, up)
    envelope = np.exp(-(down**2 + right**2) / (2 * 2.2**2))
    return envelope * np.cos(2 * np.pi * FREQUENCY * across + phase)


@pytest.fixture(scope="module")
def kernel():
    """(5, 3, i, j, 1, 2): Gabors of two phases."""
    filters = [[[gabor(o, p) for p in (0, 1.1)] for o in row] for row in ORIENTATIONS]
    return np.moveaxis(np.array(filters, np.float32), 2, -1)[..., None, :]


@pytest.fixture(scope="module")
def responses(kernel):
    layer = LocalConv(2, (SIZE, SIZE), padding="VALID", use_bias=True)
    bias = np.full((5, 3, 2), 0.7, np.float32)
    variables = {"params": {"local_kernel": kernel, "bias": bias}}
    found = grating_responses(
        layer, variables, IMAGE, [""], GRATINGS, pixel_mean=MEAN, pixel_std=STD
    )
    return found[""]


def test_gabors_are_measured_at_their_orientation_at_every_position(responses):
    tuning = orientation_tuning(responses, GRATINGS)
    for feature in range(2):
        error = (tuning.preferred[..., feature] - ORIENTATIONS + 90) % 180 - 90
        assert np.abs(error).max() < 0.5
    assert (tuning.frequency == FREQUENCY).all()
    assert (tuning.selectivity > 0.6).all()


def test_responses_are_the_filters_own_amplitudes(responses, kernel):
    """Half the modulus of the filter's Fourier component, whatever its phase and place."""
    down, right = np.mgrid[:SIZE, :SIZE]
    for number, orientation in enumerate(GRATINGS.orientations):
        angle = np.deg2rad(orientation)
        for column, frequency in enumerate(GRATINGS.frequencies):
            turns = frequency * (down * np.cos(angle) + right * np.sin(angle))
            wave = np.exp(2j * np.pi * turns)
            component = np.abs(np.einsum("hwijcf,ij->hwf", kernel, wave))
            expected = component * GRATINGS.mean * GRATINGS.contrast / STD / 2
            np.testing.assert_allclose(responses[number, column], expected, rtol=1e-3, atol=2e-4)


def test_gratings_look_as_they_say():
    gratings = Gratings()
    horizontal, vertical, slash = (
        gratings.images((9, 9, 2), orientation, 1 / 8)[0, ..., 1] for orientation in (0, 90, 45)
    )
    np.testing.assert_allclose(horizontal, horizontal[:, :1].repeat(9, 1), atol=1e-6)
    np.testing.assert_allclose(vertical, horizontal.T, atol=1e-6)
    assert slash[3, 5] == pytest.approx(slash[4, 4]) and slash[3, 3] != pytest.approx(slash[4, 4])
    assert horizontal.min() >= 0 and horizontal.max() == pytest.approx(1)
    assert horizontal[0, 0] == pytest.approx(horizontal[8, 0])  # one cycle later
    opposite = gratings.images((9, 9, 1), 0, 1 / 8)[4, ..., 0]
    np.testing.assert_allclose(horizontal + opposite, 1, atol=1e-6)


@given(st.floats(0, 179.99), st.floats(0.01, 1))
def test_the_mean_orientation_of_a_cosine_is_its_own(orientation, depth):
    """r = 1 + d cos(2 (theta - preferred)) has a selectivity of d / 2."""
    angles = np.deg2rad(np.array(Gratings().orientations) - orientation)
    responses = np.ones((12, 4, 1)) * 0.1
    responses[:, 2, 0] = 1 + depth * np.cos(2 * angles)
    tuning = orientation_tuning(responses)
    assert 0 <= tuning.preferred[0] < 180
    assert (tuning.preferred[0] - orientation + 90) % 180 - 90 == pytest.approx(0, abs=1e-6)
    assert tuning.selectivity[0] == pytest.approx(depth / 2)
    assert tuning.frequency[0] == Gratings().frequencies[2]
    assert tuning.response[0] == responses.max()


def test_a_single_orientation_is_all_that_a_perfect_unit_hears_and_silent_ones_none():
    responses = np.zeros((12, 4, 2))
    responses[11, 0, 0] = 3
    tuning = orientation_tuning(responses)
    assert tuning.preferred[0] == pytest.approx(165) and tuning.selectivity[0] == pytest.approx(1)
    assert np.isnan(tuning.preferred[1]) and np.isnan(tuning.selectivity[1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"phases": 5}, "phases=5: expected an even number of 4 or more"),
        ({"phases": 2}, "phases=2: expected"),
        ({"orientations": (0.0, 90.0)}, "expected 3 or more"),
        ({"orientations": (0.0, 45.0, 90.0)}, "expected equal steps over 180 degrees"),
        ({"frequencies": (0.6,)}, r"expected some in \(0, 0.5\]"),
        ({"frequencies": ()}, "expected some in"),
        ({"contrast": 1.5}, "expected a mean in"),
    ],
)
def test_gratings_that_would_not_do(changes, expected):
    with pytest.raises(ValueError, match=expected):
        grating_responses(None, {}, IMAGE, [""], Gratings(**changes))
    with pytest.raises(
        ValueError, match=r"responses have shape \(3, 2\): expected \(12, 4\) first"
    ):
        orientation_tuning(np.ones((3, 2)))
