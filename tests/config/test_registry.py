"""Names of networks and sharing rules: those of the library and those from outside."""

import sys

import flax.linen as nn
import pytest

from jaxws.commands.parse_config import parse_config
from jaxws.config.checks import check_config
from jaxws.config.fields import base_config
from jaxws.config.identity import from_json, to_json
from jaxws.config.registry import ARCHITECTURES, REGISTRIES, SHARING_RULES, add_own_fields
from jaxws.models import ModelSpec
from jaxws.training.run import build_model

MODULE = """
import flax.linen as nn
import numpy as np
from ml_collections import config_dict
from jaxws.models import ModelSpec

NETWORK = ModelSpec(
    build=lambda config, classes: (config.size, config.note, config.gated),
    fields={"size": 3, "note": config_dict.placeholder(str), "gated": True},
)
TAKEN = ModelSpec(build=lambda config, classes: None, fields={"depth": 1})
network = 1


class Odd(nn.Module):
    scale: np.ndarray


UNHASHABLE = ModelSpec(build=lambda config, classes: Odd(np.ones(3)))
"""


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    """A module in the current directory, which is on no path."""
    (tmp_path / "outside_networks.py").write_text(MODULE)
    (tmp_path / "outside_broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield
    sys.modules.pop("outside_networks", None)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.leaf)
def test_every_entry_is_there_and_has_no_fields_of_its_own(registry):
    """Theirs are in config/fields.py: configurations are checked without importing them."""
    for name in registry.entries:
        assert registry.load(name).fields == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "'vit', or module:NAME for a ModelSpec of your own; did you mean 'resnet18'?"),
        ("outside_nets:A", "'outside_nets' cannot be imported (ModuleNotFoundError: No module"),
        ("outside_broken:A", "'outside_broken' cannot be imported (ZeroDivisionError: division"),
        (":A", "module '' cannot be imported (ValueError: Empty module name)"),
        ("outside_networks:NETWROK", "has no 'NETWROK'; it has 'NETWORK'."),
        ("outside_networks:_", "has no '_'; it has 'NETWORK', 'TAKEN', 'UNHA"),
        ("outside_networks:network", "is of type int; expected a jaxws.models.spec.ModelSpec"),
        ("outside_networks:TAKEN", "has a field 'depth' of its own, but there is a config.model.d"),
    ],
)
def test_a_wrong_name_says_what_to_do(name, message):
    config = base_config()
    config.model.architecture = name
    with pytest.raises(ValueError) as error:
        check_config(config)
    assert str(error.value).startswith(f"config.model.architecture={name!r}")
    assert message in str(error.value)


def test_names_are_those_of_their_kind():
    with pytest.raises(ValueError, match=r"expected a jaxws.training.sharing_rules.spec.SharingRu"):
        SHARING_RULES.load("outside_networks:NETWORK")
    with pytest.raises(ValueError, match=r"^--share='vit': expected one of 'instant'"):
        SHARING_RULES.check("vit", given_as="--share")
    assert isinstance(ARCHITECTURES.load("jaxws.models.resnet:RESNET18"), ModelSpec)


def test_own_fields_have_defaults_and_types():
    argv = ["--config=digits_lc", "--config.model.architecture=outside_networks:NETWORK"]
    config, *_ = parse_config([*argv, "--config.model.note=x", "--noconfig.model.gated"])
    assert (config.model.size, config.model.note, config.model.gated) == (3, "x", False)
    check_config(config)
    config, *_ = parse_config([*argv, "--config.model.size=5"])
    assert (config.model.size, config.model.note, config.model.gated) == (5, None, True)
    config, *_ = parse_config([*argv, "--config.model.note=x", "--config.model.note=None"])
    assert config.model.note is None
    with pytest.raises(ValueError, match=r"--config.model.size=many: expected a whole number"):
        parse_config([*argv, "--config.model.size=many"])
    with pytest.raises(ValueError, match=r"^unknown field config.model.sise: did you mean 'config"):
        parse_config([*argv, "--config.model.sise=3"])
    with pytest.raises(ValueError, match=r"^unknown field config.model.size"):
        parse_config(["--config=digits_lc", "--config.model.size=5"])


def test_own_fields_are_added_once_and_to_one_configuration():
    first, second = base_config(), base_config()
    for config in (first, second):
        config.model.architecture = "outside_networks:NETWORK"
        with pytest.raises(ValueError, match=r"config.model.gated is missing.*add_own_fields"):
            check_config(config)
        add_own_fields(config)
    first.model.note, first.model.size = "changed", 7
    add_own_fields(first)
    assert (first.model.note, first.model.size) == ("changed", 7)
    assert (second.model.note, second.model.size) == (None, 3)
    with pytest.raises(TypeError):
        second.model.note = 3  # it is a field of text
    second.model.sise = 3
    with pytest.raises(ValueError, match=r"config.model.sise: did you mean 'config.model.size'"):
        check_config(second)


def test_a_run_is_read_without_its_module():
    config = base_config()
    config.model.architecture = "outside_networks:NETWORK"
    add_own_fields(config)
    config.model.size = 9
    text = to_json(config, {})
    sys.modules.pop("outside_networks")
    read, _ = from_json(text)
    assert "outside_networks" not in sys.modules
    assert (read.model.size, read.model.note) == (9, None)
    assert to_json(read, {}) == text
    with pytest.raises(ValueError, match=r"unknown field config.model.gated"):
        from_json(text.replace("outside_networks:NETWORK", "vit"))


def test_what_is_built_is_a_network():
    config = base_config()
    config.model.architecture = "outside_networks:NETWORK"
    add_own_fields(config)
    with pytest.raises(ValueError, match=r"builds a tuple; expected a flax.linen.Module"):
        build_model(config.model, 10)
    config.model.architecture = "outside_networks:UNHASHABLE"
    with pytest.raises(ValueError, match="makes a Odd that cannot be hashed: programs"):
        build_model(config.model, 10)
    config.model.architecture = "vit"
    assert isinstance(build_model(config.model, 10), nn.Module)


def test_a_value_is_no_group_of_fields():
    config = base_config()
    del config.model
    config.model = 3
    add_own_fields(config)
    with pytest.raises(ValueError, match=r"config.model is a group of fields"):
        check_config(config)
