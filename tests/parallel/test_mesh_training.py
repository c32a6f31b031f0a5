"""Training on a mesh has the numbers of training on one device, whatever the mesh."""

import functools

import jax
import numpy as np
import pytest

from jaxws.core.implementations import native
from jaxws.core.packed import pack_kernels
from jaxws.core.pooled import expand_pools, pool_kernels
from jaxws.data.feed import OneDevice
from jaxws.parallel.collectives import KINDS
from jaxws.parallel.hlo import Program
from jaxws.parallel.mesh import make_mesh
from jaxws.parallel.placement import MeshPlacing, placed, state_shardings
from jaxws.records.metrics_file import timeless
from jaxws.training.loop import train
from jaxws.training.optimizers import optimizer_settings
from jaxws.training.programs import compiled_initial_state, compiled_step, step_settings
from jaxws.training.run import prepare
from tests.support.small_run import (
    checkpoint_of,
    make_folder,
    small_config,
    train_whole_and_stopped,
)

pytestmark = pytest.mark.devices(8)

COMPARED = {"train_loss", "train_top1", "test_loss", "test_top1", "test_top5"}
STEPS = 3  # of 20 images in batches of 8: the last one is ragged

# Layers of 7 x 7 positions are split by features or not at all, those of 8 x 8 by position.
NEVER = {"sharing.every": 0, "accumulate": 2, "batch_size": 16}
# Of as many steps an epoch as small_run's.
WS1 = {"sharing.every": 1, "data.image_size": 8, "data.n_reps": 4, "batch_size": 24}
WS1_ODD = {"sharing.every": 1}
WS2 = {"sharing.every": 2, "data.image_size": 8, "data.n_reps": 2, "batch_size": 16}
SLEEP = {"sharing.every": 2, "sharing.mode": "sleep", "data.image_size": 8}
# Neighbours across devices, pools over them, and signs that outlast sleep.
CONSTRAINED = {
    "topography.smoothness": 1.0,
    "topography.similarity": 0.1,
    "plasticity.dale.signs": "seed",
    "plasticity.dale.leaves": ("conv*kernel",),
}
VIT = {
    "sharing.every": 1,
    "data.image_size": 8,
    "model.architecture": "vit",
    "model.depth": 1,
    "model.width": 8,
    "model.heads": 2,
    "model.patch_size": 2,
    "model.local_projections": ("embedding", "qkv", "out", "mlp"),
}
CASES = [
    ((8, 1, 1), NEVER),
    ((1, 4, 2), WS1),
    ((1, 8, 1), WS2),
    ((2, 2, 2), WS1_ODD),
    ((4, 2, 1), SLEEP | CONSTRAINED),
    pytest.param((1, 4, 2), WS1 | {"model.block_size": 2}, marks=pytest.mark.slow),
    pytest.param((2, 2, 2), VIT, marks=pytest.mark.slow),
    pytest.param((1, 4, 2), SLEEP | {"sharing.mode": "online"}, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    root = tmp_path_factory.mktemp("mesh")
    config = small_config(make_folder(root / "images"), root / "tfds")
    config.model.architecture = "tests.support.tiny_network:TINY"
    config.batch_size, config.eval_batch_size, config.epochs = 8, 3, 2
    config.optimizer.name = "sgd"
    return config


def configured(base, fields, mesh):
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    config.mesh.data, config.mesh.h, config.mesh.w = mesh
    return config


@functools.cache
def drawn(model, optimizer, image_shape):
    arguments = {"model": model, "optimizer": optimizer, "image_shape": image_shape}
    with jax.set_mesh(make_mesh()):
        state = compiled_initial_state(
            jax.random.key(0), dtype="float32", packed=False, **arguments
        )
        return jax.device_get(state)


def start(run):
    """The run's state as it is after its first steps: shared weights are pooled."""
    settings = step_settings(run, optimizer_settings(run.config, run.feed.steps_per_epoch))
    state = drawn(run.model, settings.optimizer, run.feed.image_shape)
    if run.sharing.keeps_shared:
        state = state.replace(params=jax.device_get(jax.jit(pool_kernels)(state.params)))
    return settings, state


def trained(run):
    """State and results after a few steps on the run's mesh."""
    settings, state = start(run)
    with jax.set_mesh(run.mesh):
        state = jax.device_put(state, state_shardings(state, run.mesh))
        results, inputs = [], run.feed.train_inputs(0)
        for _ in range(STEPS):
            state, sums, info = compiled_step(state, next(inputs), settings=settings)
            results.append((sums, info))
        for array, at in zip(
            jax.tree.leaves(state), jax.tree.leaves(state_shardings(state, run.mesh)), strict=True
        ):
            assert array.sharding.is_equivalent_to(at, array.ndim)
        return jax.device_get((expand_pools(state), results))


@pytest.mark.parametrize(("mesh", "fields"), CASES)
def test_steps_are_those_of_one_device(base, tmp_path, mesh, fields):
    one, run = (
        prepare(configured(base, fields, shape), tmp_path / str(shape))
        for shape in ((1, 1, 1), mesh)
    )
    (expected, expected_results), (actual, results) = trained(one), trained(run)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6), actual, expected)
    for (sums, info), (expected_sums, expected_info) in zip(results, expected_results, strict=True):
        assert sums["images"] == expected_sums["images"]
        np.testing.assert_allclose(sums["loss"], expected_sums["loss"], rtol=1e-6)
        np.testing.assert_allclose(info.grad_norm, expected_info.grad_norm, rtol=1e-5)
    if fields is WS2:
        no_weight_or_gradient_of_one_position_is_sent(run)


def no_weight_or_gradient_of_one_position_is_sent(run):
    """And every device computes its positions by the fast kernels."""
    settings, state = start(run)
    with jax.set_mesh(run.mesh):
        state = jax.device_put(state, state_shardings(state, run.mesh))
        inputs = next(run.feed.train_inputs(0))
        text = compiled_step.lower(state, inputs, settings=settings).compile().as_text()
    if native.available():
        for name in ("forward", "input_gradient", "kernel_gradient"):
            assert f"jaxws_{name}" in text
    kernels = [leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim == 6]
    weights = {array for size in kernels for array in (4 * size, 4 * size // 8)}  # bytes
    sent = [
        array.bytes
        for each in Program(text).runs()
        if each.instruction.opcode.removesuffix("-start") in KINDS
        for array in each.instruction.results
    ]
    assert sent
    assert not weights.intersection(sent)


def test_a_whole_run_on_a_mesh_is_resumed_and_has_the_records_of_one_device(base, tmp_path):
    """First weights, weights that become shared, evaluation and checkpoints too.

    Its steps are those of a case above, whose programs it finds.
    """
    config = configured(base, WS1, (1, 4, 2))
    config.epochs = 3
    run = train_whole_and_stopped(prepare, config, tmp_path)
    config = configured(config, {}, (1, 1, 1))
    one = prepare(config, tmp_path / "one")
    train(one)
    states = [checkpoint_of(each.workdir)[1] for each in (one, run)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5), *states)
    records = [[timeless(r) for r in each.workdir.records()] for each in (one, run)]
    for expected, actual in zip(*records, strict=True):
        assert actual.keys() == expected.keys()
        for name in actual.keys() & COMPARED:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5)


def test_packed_states_are_split_alike():
    """As on TPUs: what a device has of packed weights are those of its positions."""
    params = {"local_kernel": jax.numpy.arange(8.0 * 8 * 3 * 3 * 2 * 4).reshape(8, 8, 3, 3, 2, 4)}
    mesh = make_mesh(1, 4, 2)
    with jax.set_mesh(mesh):
        packed = jax.jit(lambda tree: placed(pack_kernels(tree)))(params)["local_kernel"].array
        pooled = jax.jit(lambda tree: placed(pool_kernels(tree)))(params)["local_kernel"].filters
    assert {shard.data.shape for shard in packed.addressable_shards} == {(2, 4, 4, 18)}
    assert pooled.sharding.is_fully_replicated


def test_rows_of_a_batch_lie_where_the_mesh_says():
    placing = MeshPlacing(make_mesh(2, 2, 2))
    batch = placing.batch({"label": np.arange(16)}, 16)["label"]
    assert [shard.data.tolist() for shard in batch.addressable_shards][:2] == [[0, 1], [2, 3]]
    key = placing.everywhere(jax.random.key(3))
    assert key.sharding.is_fully_replicated
    assert OneDevice().parts == 1
