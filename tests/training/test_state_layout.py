"""States that are packed between steps, as on a TPU, and their checkpoints."""

import jax
import numpy as np
import pytest

from jaxws.core.packed import PackedKernel
from jaxws.core.pooled import PooledKernel
from jaxws.training import loop, programs, resume, state_layout
from tests.support.small_run import STEPS_PER_EPOCH, checkpoint_of, prepare_small, small_config


@pytest.fixture
def config(folder, tmp_path):
    config = small_config(folder, tmp_path / "tfds")
    config.epochs, config.sharing.every = 2, 1
    return config


def pack(patch):
    """From now on, as on a TPU."""
    for module in (state_layout, resume):
        patch.setattr(module, "uses_packed_layout", lambda: True)


def train(config, workdir):
    run = prepare_small(config, workdir)
    record = loop.train(run)
    return record, checkpoint_of(run.workdir)[1]


def test_packed_runs_leave_the_checkpoints_of_all_others(config, tmp_path, monkeypatch):
    """Packed for the first epoch, plain for the second, against plain throughout."""
    expected, expected_state = train(config, tmp_path / "plain")
    config.max_steps = STEPS_PER_EPOCH
    kernels = []
    steps = programs.train_step

    def spy(state, *args, **kwargs):
        kernel = state.params["conv1"]["local_kernel"]
        kernels.append((type(kernel), type(getattr(kernel, "filters", None))))
        return steps(state, *args, **kwargs)

    with monkeypatch.context() as patch:
        pack(patch)
        patch.setattr(programs, "train_step", spy)
        train(config, tmp_path / "mixed")
    # Traced twice: before weights are shared for the first time, and after.
    assert kernels == [(PackedKernel, type(None)), (PooledKernel, PackedKernel)]
    config.max_steps = None
    actual, state = train(config, tmp_path / "mixed")
    assert actual["step"] == expected["step"] == 2 * STEPS_PER_EPOCH
    assert actual["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-3)
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_a_packed_run_resumes(config, tmp_path, monkeypatch):
    pack(monkeypatch)
    shapes = jax.eval_shape(lambda: {"local_kernel": np.zeros((2, 1, 1, 1), np.float32)})
    sharding = state_layout.checkpoint_shapes(shapes)["local_kernel"].sharding
    assert {device.platform for device in sharding.device_set} == {"cpu"}
    state = {"local_kernel": np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1)}
    resident = state_layout.from_checkpoint(state)
    assert isinstance(resident["local_kernel"], PackedKernel)
    np.testing.assert_array_equal(
        state_layout.to_checkpoint(resident)["local_kernel"], state["local_kernel"]
    )
