"""What a checkpoint says about the machine that wrote it."""

import jax
import pytest

from jaxws.checkpointing.metadata import bits_depend_on, other_versions
from jaxws.parallel.mesh import make_mesh

ARRAYS = {"params/conv1/local_kernel": "float32[8,8,3,3,3,4]"}


def _written(arrays=ARRAYS, **changed):
    return {"arrays": arrays, "versions": bits_depend_on(arrays) | changed}


def test_another_implementation_of_the_layers_is_told():
    assert other_versions(_written()) is None
    assert "local_conv: 'another' there" in other_versions(_written(local_conv="another"))
    # Masked layers have one as well; convolutions have none.
    assert "local_conv" in bits_depend_on(["params/conv1/masked_local_kernel"])
    assert "local_conv" not in bits_depend_on(["params/conv1/kernel"])


@pytest.mark.parametrize("what", ["devices", "mesh", "processes", "visible devices", "cores"])
def test_another_number_of_devices_or_cores_is_told(what):
    if what in ("visible devices", "cores") and jax.default_backend() != "cpu":
        pytest.skip("they divide sums on CPUs alone")
    assert f"{what}: '1000' there" in other_versions(_written(**{what: "1000"}))


@pytest.mark.devices(8)
def test_devices_are_those_that_the_run_uses():
    with jax.set_mesh(make_mesh(1, 2, 2)):
        there = _written()
    assert (there["versions"]["devices"], there["versions"]["mesh"]) == ("4", "1x2x2")
    assert "devices: '4' there, '1' here; mesh: '1x2x2' there" in other_versions(there)


def test_a_checkpoint_of_an_older_version_says_less():
    older = _written()
    for name in ("local_conv", "devices", "mesh", "processes", "visible devices", "cores"):
        older["versions"].pop(name, None)
    assert other_versions(older) is None
