"""Training on a mesh has the numbers of training on one device, whatever the mesh."""

import jax
import numpy as np
import pytest

from jaxws.core.implementations import native
from jaxws.records.metrics_file import timeless
from jaxws.training.loop import train
from jaxws.training.optimizers import optimizer_settings
from jaxws.training.programs import compiled_step, step_settings
from jaxws.training.run import prepare
from tests.support.small_run import checkpoint_of, small_config

pytestmark = pytest.mark.devices(8)


@pytest.fixture
def config(folder, tmp_path):
    """Three steps of an epoch, the last of them of four images; five steps in all."""
    config = small_config(folder, tmp_path / "tfds")
    config.model.architecture = "tests.support.tiny_network:TINY"
    config.batch_size, config.eval_batch_size, config.max_steps = 8, 3, 5
    config.optimizer.name = "sgd"
    return config


def numbers_of(config, path, mesh):
    """Weights, moments and statistics at the end, and what was recorded."""
    config.mesh.data, config.mesh.h, config.mesh.w = mesh
    run = prepare(config, path)
    assert run.mesh.devices.shape == mesh
    train(run)
    records = [timeless(record) for record in run.workdir.records() if record["kind"] != "event"]
    return checkpoint_of(run.workdir)[1], records


# Layers of 7 x 7 positions are split by features or not at all, those of 8 x 8 by position.
CASES = {
    "8x1x1": ((8, 1, 1), {"sharing.every": 0, "accumulate": 2, "batch_size": 16}),
    "1x8x1": ((1, 8, 1), {"sharing.every": 1, "data.image_size": 8}),
    "1x4x2": ((1, 4, 2), {"sharing.every": 2, "data.image_size": 8, "data.n_reps": 2}),
    "2x2x2": ((2, 2, 2), {"sharing.every": 1}),
    "4x2x1": ((4, 2, 1), {"sharing.every": 2, "sharing.mode": "sleep", "data.image_size": 8}),
}


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_one_device(config, tmp_path, case):
    mesh, fields = CASES[case]
    config.update_from_flattened_dict(fields)
    expected, expected_records = numbers_of(config, tmp_path / "one", (1, 1, 1))
    actual, records = numbers_of(config, tmp_path / case, mesh)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert len(records) == len(expected_records)
    for a, b in zip(records, expected_records, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if "loss" in name or "top" in name:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not native.available(), reason="needs the C++ kernels")
def test_what_a_step_sends_is_never_a_weight_or_gradient_of_one_position(config, tmp_path):
    config.data.image_size, config.sharing.every = 8, 1
    config.mesh.data, config.mesh.h, config.mesh.w = 1, 4, 2
