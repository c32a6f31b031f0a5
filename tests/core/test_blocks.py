"""Filters of blocks and of low rank, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import local_conv
from jaxws.core.blocks import block_count, expand_blocks
from jaxws.core.low_rank import combination_weights, low_rank_filters
from tests.support.drawn import normal

pytestmark = pytest.mark.usefixtures("strict_promotion")


SHAPES = [((9,), (4,)), ((7, 8), (3, 1)), ((5, 2, 6), (1, 4, 3))]  # positions, block


def test_each_position_has_the_filter_of_its_block():
    filters = [np.arange(np.prod(n)).reshape(n) for n in (block_count(*shape) for shape in SHAPES)]

    @jax.jit
    def run(filters):
        return [expand_blocks(f, *shape) for f, shape in zip(filters, SHAPES, strict=True)]

    for expanded, own, (positions, block) in zip(run(filters), filters, SHAPES, strict=True):
        for position in np.ndindex(*positions):
            assert expanded[position] == own[tuple(np.floor_divide(position, block))]


@pytest.mark.parametrize(
    ("image", "filters", "block", "arguments"),
    [
        ((7, 8), (3, 2), (3, 4), {}),
        ((7, 8), (2, 4), 2, {"strides": (2, 1), "padding": (1, 1)}),
        ((9,), (3,), 4, {"padding": "CIRCULAR"}),
        ((4, 5, 3), (2, 1, 3), (2, 5, 1), {}),
    ],
)
def test_blocks_are_a_layer_whose_filters_repeat(image, filters, block, arguments):
    """Values, and gradients that are summed over a block."""
    ndim = len(image)
    x, kernel = normal((2, *image, 2), 1), normal((*filters, *(3,) * ndim, 2, 4), 2)
    if arguments.get("strides"):
        kernel = normal((*filters, 3, 3, 2, 4), 2)

    @jax.jit
    def run(x, kernel):
        def layer(x, kernel):
            return local_conv(x, kernel, block_size=block, **arguments)

        def reference(x, kernel):
            sizes = (block,) * ndim if isinstance(block, int) else block
            y = jax.eval_shape(layer, x, kernel)
            places = [
                np.minimum(np.arange(size) // b, n - 1)
                for size, b, n in zip(y.shape[1:-1], sizes, filters, strict=True)
            ]
            untied = kernel[np.ix_(*places)]
            return local_conv(x, untied, implementation="slices", **arguments)

        both = [jax.vjp(function, x, kernel) for function in (layer, reference)]
        dy = jnp.cos(jnp.arange(both[0][0].size, dtype=x.dtype)).reshape(both[0][0].shape)
        return [(y, *pull_back(dy)) for y, pull_back in both]

    for actual, expected in zip(*run(x, kernel), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_wrong_numbers_of_blocks_are_named():
    x = jnp.ones((1, 8, 8, 2))
    with pytest.raises(ValueError, match=r"expected \(3, 3, 3, 3, 2, 4\).*blocks of \(3, 3\)"):
        local_conv(x, jnp.ones((2, 2, 3, 3, 2, 4)), block_size=3)
    with pytest.raises(ValueError, match="block_size"):
        local_conv(x, jnp.ones((2, 2, 3, 3, 2, 4)), block_size=0)


def test_low_rank_filters_equal_a_loop():
    rows, columns, basis = normal((4, 3), 1), normal((5, 3), 2), normal((3, 2, 3, 2, 4), 3)
    filters = low_rank_filters(basis, combination_weights([rows, columns]))
    wide = [np.asarray(a, np.float64) for a in (rows, columns, basis)]
    for h, w in np.ndindex(4, 5):
        weights = np.exp(wide[0][h] + wide[1][w])
        expected = sum(a * k for a, k in zip(weights / weights.sum(), wide[2], strict=True))
        np.testing.assert_allclose(filters[h, w], expected, rtol=1e-5, atol=1e-6)
    raw = combination_weights([rows, columns], normalise=False)
    np.testing.assert_array_equal(raw[2, 3], rows[2] + columns[3])
    whole = normal((4, 5, 3), 4)
    np.testing.assert_array_equal(combination_weights([whole], normalise=False), whole)
