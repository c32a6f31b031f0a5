import numpy as np
import pytest

from jaxws.training.schedules import shares_after, step_decay


@pytest.mark.parametrize("drops", [(100, 150), (25, 37), (10, 15)])
def test_rate_is_divided_by_four_after_each_drop(drops):
    schedule = step_decay(1e-3, 98, drops)
    for epoch, factor in [
        (0, 1), (drops[0] - 1, 1), (drops[0], 4), (drops[1] - 1, 4), (drops[1], 16)
    ]:  # fmt: skip
        for batch in (0, 97):
            np.testing.assert_allclose(schedule(epoch * 98 + batch), 1e-3 / factor, rtol=1e-6)


def test_sharing_counts_batches_from_zero_in_every_epoch():
    shared = [step for step in range(3 * 98) if shares_after(step, 100, 98)]
    assert shared == [0, 98, 196]  # ws(100): once an epoch of CIFAR
    shared = [step for step in range(2 * 98) if shares_after(step, 10, 98)]
    assert shared == [*range(0, 98, 10), *range(98, 196, 10)]
    assert all(shares_after(step, 1, 98) for step in range(200))
    assert not any(shares_after(step, 0, 98) for step in range(200))
