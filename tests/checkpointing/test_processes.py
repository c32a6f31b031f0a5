"""Checkpoints of several processes and of other meshes."""

import json
from contextlib import closing

import jax
import numpy as np
import pytest

from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import make_metadata, read_metadata
from jaxws.checkpointing.weights import read_weights
from jaxws.parallel.mesh import make_mesh
from tests.support.checkpoint_pair import (
    assert_is,
    numbers,
    on_mesh,
    shapes_on,
    share_checkpoints,
)
from tests.support.pair import Group


def write(path, state):
    told = []
    with closing(Checkpoints(path, 2, report=lambda *what: told.append(what))) as checkpoints:
        checkpoints.save(state, make_metadata(state))
    assert told == []


def read(path, like):
    with closing(Checkpoints(path, 2)) as checkpoints:
        return checkpoints.restore(like).state


def test_checkpoints_of_two_processes(tmp_path):
    """All in one life of them, in a directory whose name Orbax does not take."""
    path = tmp_path / "seed=[1]"
    write(tmp_path / "alone", jax.tree.map(jax.numpy.asarray, numbers(1)))
    pair = Group(tmp_path, share_checkpoints, path, tmp_path / "alone")
    assert pair.end() == [0, 0], pair.lines()
    found = [json.loads((tmp_path / f"found{index}").read_text()) for index in range(2)]
    told = found[0].pop("told")
    assert found[1].pop("told") == []  # process 0 tells
    assert found[0] == found[1]  # and both know the same
    facts = found[0]
    assert (facts["none"], facts["latest"], facts["steps"]) == (None, 4, [20, 24])
    assert facts["after failures"] == ["4", "newest"]
    assert "process 1: " in facts["not shared"] and "all processes share" in facts["not shared"]
    *failed, damaged = told
    causes = ["process 1: File too large", *(f"process {i}: Input/output error" for i in (1, 0))]
    for (step, event, line), at, cause in zip(failed, (8, 12, 16), causes, strict=True):
        assert (step, event) == (at, "checkpoint not written")
        assert line == (
            f"the checkpoint of step {at} could not be written ({cause}): the last one is of step 4"
        )
    mount = "see to the disk or its server"
    assert facts["advice"] == ["allow larger files (ulimit -f, or the file system)", mount, mount]
    assert damaged[:2] == [20, "damaged checkpoint"] and "24 is damaged, one of" in damaged[2]
    assert facts["restored"] == 20
    assert "float32[8,8,3,3,2,16] there, float32[8,8,3,3,2,8] here" in facts["other network"]
    assert facts["one cannot read"] == "process 1: it is gone"
    # One process with one device reads what they have written, the export's way too.
    assert_is(read(path, numbers(0)), 20)
    newest = checkpoint_dir(path, None)
    jax.tree.map(np.testing.assert_array_equal, read_weights(newest)["params"], numbers(20).params)
    versions = read_metadata(newest)["versions"]
    assert (versions["processes"], versions["devices"], versions["mesh"]) == ("2", "8", "1x4x2")


@pytest.mark.devices(8)
def test_a_checkpoint_of_any_mesh_is_restored_on_any_other(tmp_path):
    shapes = {"1x4x2": (1, 4, 2), "8x1x1": (8, 1, 1), "2x2x2": (2, 2, 2), "1x1x1": (1, 1, 1)}
    meshes = {name: make_mesh(*shape) for name, shape in shapes.items()}
    for writer in ("1x4x2", "1x1x1"):
        write(tmp_path / writer, on_mesh(numbers(4), meshes[writer]))
        for reader, mesh in meshes.items():
            if reader != writer:
                restored = read(tmp_path / writer, like := shapes_on(mesh, numbers(0)))
                assert_is(restored, 4)
                placed = jax.tree.map(lambda array: array.sharding, (restored, like))
                assert placed[0] == placed[1]
    assert_is(read(tmp_path / "1x4x2", numbers(0)), 4)
    (device,) = read(tmp_path / "1x4x2", numbers(0)).params["fc"]["bias"].devices()
    assert device == jax.devices()[0]
