"""Boxes of crops: torchvision's distribution, in closed form and against a loop of the test's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxws.data.host.crops import DRAWS, RATIO, centre_box, random_box, resized_shape

sides = st.integers(1, 600)


def boxes(width, height, number, seed=0):
    draws = np.random.default_rng(seed).random((number, DRAWS))
    return np.array([random_box(uniform, width, height) for uniform in draws])


@given(sides, sides, st.integers(0, 2**32 - 1))
def test_boxes_lie_in_the_image(width, height, seed):
    left, upper, right, lower = boxes(width, height, 20, seed).T
    assert (left >= 0).all() and (upper >= 0).all()
    assert (right <= width).all() and (lower <= height).all()
    assert (right > left).all() and (lower > upper).all()


def chi_square(observed, expected):
    assert expected.min() > 20
    return ((observed - expected) ** 2 / expected).sum()


def test_area_and_shape_have_the_density_of_uniform_draws_that_fit():
    """A box is drawn anew until it fits, so (area, log shape) is uniform where it does."""
    side, number = 10_000, 20_000
    left, upper, right, lower = boxes(side, side, number).T
    area = (right - left) * (lower - upper) / side**2
    shape = np.log((right - left) / (lower - upper))
    edges_area, bound = np.linspace(0.08, 1, 9), math.log(RATIO[1])
    edges_shape = np.linspace(-bound, bound, 7)
    observed, _, _ = np.histogram2d(area, shape, (edges_area, edges_shape))
    # Probability of each cell: the part of it below the curve area = exp(-|log shape|), beyond
    # which one side is longer than the image's, by the midpoint rule.
    grid = np.linspace(-bound, bound, 6 * 1000 + 1)
    middle = (grid[1:] + grid[:-1]) / 2
    below = np.clip(
        np.exp(-np.abs(middle))[None] - edges_area[:-1, None], 0, np.diff(edges_area)[0]
    )
    cells = below.reshape(8, 6, 1000).mean(axis=2)
    expected = number * cells / cells.sum()
    few = expected < 20  # the corners: merged into one cell
    observed = np.append(observed[~few], observed[few].sum())
    expected = np.append(expected[~few], expected[few].sum())
    # 0.9999 quantile of chi-square with 46 or fewer degrees of freedom.
    assert chi_square(observed, expected) < 89


def test_places_are_uniform():
    left, upper, right, lower = boxes(60, 48, 30_000).T
    for first, last, side in ((left, right, 60), (upper, lower, 48)):
        sized = first[last - first == 30]
        places = np.bincount(sized, minlength=side - 29)
        assert len(places) == side - 29
        assert chi_square(places, np.full(len(places), places.mean())) < 75  # 30 degrees: 0.99999


def test_the_same_tries_as_a_loop_that_draws_one_after_another():
    def reference(uniform, width, height):
        numbers = iter(uniform)
        for _ in range(10):
            area = (0.08 + 0.92 * next(numbers)) * width * height
            shape = (3 / 4) * (16 / 9) ** next(numbers)
            w, h = round((area * shape) ** 0.5), round((area / shape) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                y, x = uniform[20:]
                left, upper = math.floor(x * (width - w + 1)), math.floor(y * (height - h + 1))
                return left, upper, left + w, upper + h
        return None

    draws = np.random.default_rng(1).random((300, DRAWS))
    for uniform in draws:
        assert reference(uniform, 300, 200) in (None, random_box(uniform, 300, 200))


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (1000, 10, (493, 0, 506, 10)),  # as wide as 4:3 allows, in the centre
        (10, 1000, (0, 493, 10, 506)),
        (1, 1, (0, 0, 1, 1)),
    ],
)
def test_an_image_that_no_try_fits_gives_its_centre(width, height, box):
    uniform = np.full(DRAWS, 0.9999)
    uniform[1::2] = 0.5  # square boxes of nearly the image's area
    if width == height:
        box = (0, 0, 1, 1)
    assert random_box(uniform, width, height) == box


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), (341, 256)),
        ((375, 500), (256, 341)),
        ((256, 256), (256, 256)),
        ((1, 3), (256, 768)),
    ],
)
def test_shorter_side_is_resized_and_the_longer_rounded_down(size, expected):
    assert resized_shape(*size, 256) == expected


def test_centre_box_rounds_halves_to_even():
    assert centre_box(341, 256, 224)[:2] == (58, 16)  # 58.5
    assert centre_box(343, 256, 224)[:2] == (60, 16)  # 59.5
