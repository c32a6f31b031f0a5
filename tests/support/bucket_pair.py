"""What two processes on machines of their own do with a run in a bucket."""

import os
from contextlib import closing
from unittest.mock import patch

import jax

from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import make_metadata
from jaxws.config import base_config
from jaxws.parallel import processes
from jaxws.parallel.mesh import make_mesh
from jaxws.records.followed_workdir import open_workdir
from jaxws.records.places import opened_place
from tests.support.checkpoint_pair import assert_is, numbers, on_mesh, shapes_on


def live_twice(url, server, machines):
    """A run is begun, and gone on with on machines that have nothing of it.

    Args:
      url: of the run.
      server: address of what stands for the service; lets through no part of step 2.
      machines: a directory for what those have of the run.
    """
    os.environ["TENSORSTORE_GCS_HTTP_URL"] = server
    for life, steps in (("first", (0, 3)), ("second", (3, 4))):
        machine = machines / life / f"{processes.index()}"
        with patch("jaxws.records.staging.user_cache", return_value=machine):
            print(_go_on(url, *steps, fails_at=2), flush=True)
    return 0


def _go_on(url, begin, end, fails_at):
    """Restores a checkpoint, unless the run begins, and saves those of the following steps."""
    told = []
    with opened_place(url) as (path, staging):
        workdir = open_workdir(path, base_config(), None, staging)
    with jax.set_mesh(mesh := make_mesh(2, 2, 1)), closing(workdir):
        checkpoints = Checkpoints(
            workdir.checkpoints, 1, report=lambda *a: told.append(a), exchange=workdir.exchange
        )
        with closing(checkpoints):
            restored = checkpoints.restore(shapes_on(mesh, numbers(0)))
            assert (restored is None) == (begin == 0)
            if begin:
                assert_is(restored.state, begin)
            for step in range(begin + 1, end + 1):
                state = on_mesh(numbers(step), mesh)
                checkpoints.save(state, make_metadata(state))
                checkpoints.wait()
                assert checkpoints.latest_step() == (step - 1 if step == fails_at else step)
    return told
