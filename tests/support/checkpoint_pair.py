"""What two processes that share checkpoints do, as they are started by tests/support/pair.py."""

import json
import os
from contextlib import closing, nullcontext
from errno import EIO
from pathlib import Path
from unittest.mock import patch

import jax
import numpy as np

from jaxws.checkpointing.directory import steps_in
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import make_metadata
from jaxws.parallel import processes
from jaxws.parallel.mesh import make_mesh
from jaxws.parallel.placement import state_shardings
from jaxws.training.state import TrainState
from tests.support.damage import flip_bit, small_files_only


def numbers(step, filters=16):
    """A state of noise, with a locally connected layer and moments of it."""
    draw = np.random.default_rng(step).standard_normal

    def weights():
        kernel = draw((8, 8, 3, 3, 2, filters)).astype(np.float32)
        return {"conv1": {"local_kernel": kernel}, "fc": {"bias": draw(5).astype(np.float32)}}

    return TrainState(
        np.array(step, np.int32), weights(), {}, (np.array(step, np.int32), weights())
    )


def on_mesh(state, mesh):
    """The state, of which each process makes its part."""

    def put(array, sharding):
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, state, state_shardings(state, mesh))


def shapes_on(mesh, state):
    """Where a state like this one is to be restored to."""

    def shape(array, sharding):
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(shape, state, state_shardings(state, mesh))


def assert_is(restored, step):
    """Every part on this process's devices has the bits of the state of that step."""

    def check(array, expected):
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected[shard.index])

    jax.tree.map(check, restored, numbers(step))


def failing_copy():
    error = OSError(EIO, os.strerror(EIO))
    return patch("jaxws.checkpointing.manager.Writing._copy", side_effect=error)


def unreadable():
    error = ValueError("it is gone")
    return patch("jaxws.checkpointing.manager.read_metadata", side_effect=error)


def message(call):
    try:
        call()
    except ValueError as error:
        return str(error)


def use(checkpoints, found, mesh):
    index, other = processes.index(), make_mesh(2, 2, 2)
    like = shapes_on(other, numbers(0))

    def save(step, failing=None, on=0):
        with failing() if failing and index == on else nullcontext():
            state = on_mesh(numbers(step), mesh)
            checkpoints.save(state, make_metadata(state))
            checkpoints.wait()

    found["none"] = checkpoints.restore(like)
    save(4)
    assert_is(checkpoints.restore(like).state, 4)
    found["latest"] = checkpoints.latest_step()
    for step, failing, on in (
        (8, small_files_only, 1),
        (12, failing_copy, 1),
        (16, failing_copy, 0),
    ):
        save(step, failing, on)
        found["advice"].append(checkpoints.advice)
    processes.barrier("failed")
    found["after failures"] = sorted(path.name for path in found["path"].iterdir())
    processes.barrier("looked")
    save(20)
    save(24)
    processes.barrier("saved")
    found["steps"] = steps_in(found["path"])
    processes.barrier("listed")  # before process 0 sets the damaged one aside
    if index == 0:
        flip_bit(next((found["path"] / "24/state/ocdbt.process_1/d").iterdir()))
    restored = checkpoints.restore(like)
    found["restored"] = restored.metadata["step"]
    assert_is(restored.state, 20)
    narrow = shapes_on(other, numbers(0, filters=8))
    found["other network"] = message(lambda: checkpoints.restore(narrow))
    with unreadable() if index == 1 else nullcontext():
        found["one cannot read"] = message(lambda: checkpoints.restore(like))


def share_checkpoints(path, elsewhere):
    """Writes and reads checkpoints in every way, and then what this process was told and found.

    Args:
      path: where to.
      elsewhere: a directory with a checkpoint of step 1 that one device has written.
    """
    index, mesh, told = processes.index(), make_mesh(1, 4, 2), []
    found = {"told": told, "advice": [], "path": path}

    def opened(path):
        return closing(Checkpoints(path, 2, report=lambda *what: told.append(what)))

    found["not shared"] = message(lambda: opened(Path(f"{path}-{index}")))
    with jax.set_mesh(mesh):
        with opened(elsewhere) as checkpoints:
            assert_is(checkpoints.restore(shapes_on(mesh, numbers(0))).state, 1)
        with opened(path) as checkpoints:
            use(checkpoints, found, mesh)
    path.with_name(f"found{index}").write_text(json.dumps(found, default=str))
    return 0
