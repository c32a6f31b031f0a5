import importlib.util
import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jaxws.config import FREE_FIELDS, base_config, check_config, differences, flat_fields, to_json

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))

# Table 11 (padding of 4), CIFAR-10: connectivity, n of ws(n), learning rate, weight decay.
TABLE_11 = {
    "cifar10_conv": ("conv", 0, 0.01, 0.0001),
    "cifar10_lc": ("local", 0, 0.001, 0.0001),
    "cifar10_lc_ws1": ("local", 1, 0.001, 0.01),
    "cifar10_lc_ws10": ("local", 10, 0.0005, 0.01),
    "cifar10_lc_ws100": ("local", 100, 0.0005, 0.01),
}


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_is_valid(path):
    check_config(load(path))


@pytest.mark.parametrize("name", TABLE_11)
def test_cifar_configs_hold_the_papers_hyperparameters(name):
    config = load(CONFIGS[0].with_name(f"{name}.py"))
    assert TABLE_11[name] == (
        config.model.connectivity,
        config.sharing.every,
        config.optimizer.learning_rate,
        config.optimizer.weight_decay,
    )
    assert (config.batch_size, config.epochs) == (512, 200)
    assert (config.optimizer.drop_epochs, config.optimizer.drop_factor) == ((100, 150), 4)
    assert (config.data.name, config.data.pad, config.data.flip) == ("cifar10", 4, True)
    assert (config.model.architecture, config.model.depth, config.model.width) == (
        "resnet_cifar",
        20,
        16,
    )


def test_digits_configs_differ_in_connectivity_sharing_and_rate_only():
    fields = [
        dict(flat_fields(load(CONFIGS[0].with_name(f"digits_{name}.py"))))
        for name in ("conv", "lc", "lc_ws1")
    ]
    differing = {key for key in fields[0] if len({str(f[key]) for f in fields}) > 1}
    assert differing == {"model.connectivity", "sharing.every", "optimizer.learning_rate"}


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("epochs", 0, "config.epochs=0: expected at least 1"),
        ("batch_size", -1, "config.batch_size=-1"),
        ("model.architecture", "resnet50", "one of 'resnet_cifar', 'resnet18'"),
        ("model.connectivity", "lc", "one of 'local', 'conv'"),
        ("sharing.every", -1, "config.sharing.every=-1"),
        ("optimizer.learning_rate", float("nan"), "config.optimizer.learning_rate=nan"),
        ("optimizer.drop_epochs", (150, 100), "increasing epoch numbers"),
        ("optimizer.drop_epochs", (0,), "increasing epoch numbers"),
        ("data.on_corrupt", "ignore", "one of 'error', 'skip'"),
        ("data.pad", -4, "config.data.pad=-4"),
    ],
)
def test_impossible_values_are_named(key, value, match):
    config = base_config()
    *groups, leaf = key.split(".")
    target = config
    for group in groups:
        target = target[group]
    target[leaf] = value
    with pytest.raises(ValueError, match=match):
        check_config(config)


def test_a_convolution_has_nothing_to_share():
    config = base_config()
    config.model.connectivity = "conv"
    config.sharing.every = 1
    with pytest.raises(ValueError, match="nothing to share"):
        check_config(config)


def test_unknown_and_missing_fields():
    config = base_config()
    config.optimizer.lr = 1.0
    with pytest.raises(ValueError, match=r"did you mean 'config.optimizer.learning_rate'"):
        check_config(config)
    config = base_config()
    del config.data.flip
    with pytest.raises(ValueError, match=r"config.data.flip is missing"):
        check_config(config)
    with pytest.raises(ValueError, match="missing"):
        check_config(ConfigDict())


def test_differences_leave_out_free_fields():
    def against(config, **dataset):
        return differences(to_json(config, dataset), saved)

    config, saved = base_config(), to_json(base_config(), {"classes": 10})
    assert against(config, classes=10) == []
    config.max_steps, config.checkpoint.keep, config.data.data_dir = 3, 7, "/elsewhere"
    config.data.prefetch, config.data.threads, config.data.workers = 5, 6, 7
    assert set(FREE_FIELDS) == {
        *("max_steps", "checkpoint.keep"),
        *("data.data_dir", "data.prefetch", "data.threads", "data.workers"),
    }
    assert against(config, classes=10) == []
    config.model.width = 32
    assert against(config, classes=7) == [
        "config.model.width: 16 there, 32 here",
        "dataset.classes: 10 there, 7 here",
    ]
    older = json.loads(saved)
    del older["config"]["data.flip"]
    saved = json.dumps(older)
    assert "config.data.flip: None there, True here" in against(config, classes=10)
