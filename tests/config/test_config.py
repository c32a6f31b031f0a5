import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from jaxws.commands.parse_config import parse_config
from jaxws.config import choices
from jaxws.config.checks import check_config
from jaxws.config.fields import base_config, flat_fields, images_per_step
from jaxws.config.files import config_names, config_path, named_config
from jaxws.config.identity import FREE_FIELDS, differences, to_json
from jaxws.core import pools, topography
from jaxws.data.assumed import assumed_feed
from jaxws.training.run import build_model

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))

# Classes and the side of what the network sees.
TASKS = {
    "digits": (10, 24),
    "cifar10": (10, 32),
    "cifar100": (100, 32),
    "tiny_imagenet": (200, 48),
    "imagenet2012": (1000, 224),
}
FILES = [path for path in CONFIGS if path.stem != "paper"]  # which has no configuration of its own


def test_configs_have_the_names_of_their_files():
    assert [config_path(name) for name in config_names()] == CONFIGS
    for name in sorted(set(config_names()) - {"paper"}):
        by_name, found, _ = parse_config([f"--config={name}", "--config.seed=3"])
        assert found == str(config_path(name))
        check_config(by_name)
        by_file = parse_config([f"--config={found}", "--config.seed=3"])[0]
        assert dict(flat_fields(by_name)) == dict(flat_fields(by_file))
        assert dict(flat_fields(named_config(name))) == dict(flat_fields(by_file)) | {"seed": 0}


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "from jaxws.config.files import named_config\n"
    text += "def get_config(seed): c = named_config('digits_lc'); c.seed = int(seed); return c\n"
    (tmp_path / "digits_lc").write_text(text)
    config, *_ = parse_config(["--config=digits_lc:7"])
    assert (config.seed, config.epochs) == (7, 30)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_builds_its_network(path):
    config = named_config(path.stem)
    classes, side = TASKS[config.data.name]
    assert config.data.crop_size in (None, side)
    model = build_model(config.model, classes)
    images = jnp.zeros((1, side, side, 1 if config.data.name == "digits" else 3))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert params["fc"]["kernel"].shape[1] == classes
    kind = config.model.connectivity, config.data.name
    if config.model.architecture == "vit":
        # 48 and 16 inputs per patch; blocks of 8 width^2; of each token where local.
        blocks, patch, width, tokens = (2, 16, 64, 36) if side == 24 else (6, 48, 128, 64)
        copies = tokens if config.model.connectivity == "local" else 1
        projections = copies * (patch * width + blocks * 8 * width**2)
        others = tokens * width + blocks * 4 * width + 2 * width + (width + 1) * classes
        assert weights == projections + others
    elif kind == ("local", "imagenet2012"):
        assert 483e6 < weights < 485e6
    elif kind == ("local", "cifar10"):
        assert 40.7e6 < weights < 40.9e6
    elif config.model.connectivity == "conv":
        assert weights < 4e6


@pytest.mark.parametrize(
    "names",
    [
        ("digits_conv", "digits_lc", "digits_lc_ws1"),
        ("digits_vit_shared", "digits_vit_local", "digits_vit_local_ws1"),
    ],
    ids=["resnet", "vit"],
)
def test_digits_configs_differ_in_connectivity_sharing_and_rate_only(names):
    fields = [dict(flat_fields(named_config(name))) for name in names]
    differing = {key for key in fields[0] if len({str(f[key]) for f in fields}) > 1}
    differing.discard("optimizer.learning_rate")
    assert differing == {"model.connectivity", "sharing.every"}


def test_core_knows_the_same_names():
    assert choices.POOLS == pools.POOLS
    assert choices.ARRANGEMENTS == topography.ARRANGEMENTS


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("epochs", 0, "config.epochs=0: expected at least 1"),
        ("batch_size", -1, "config.batch_size=-1"),
        ("model.architecture", "resnet50", "one of 'resnet_cifar', 'resnet18', 'vit'"),
        ("model.connectivity", "lc", "one of 'local', 'conv'"),
        ("sharing.every", -1, "config.sharing.every=-1"),
        ("optimizer.learning_rate", float("nan"), "config.optimizer.learning_rate=nan"),
        ("optimizer.drop_epochs", (150, 100), "increasing epoch numbers"),
        ("optimizer.drop_epochs", (0,), "increasing epoch numbers"),
        ("optimizer.name", "adam", "one of 'adamw', 'sgd'"),
        ("optimizer.momentum", 1.0, "config.optimizer.momentum=1.0: expected a number below 1"),
        ("model.dtype", "float8", "one of 'float32', 'bfloat16', 'float16'"),
        ("divergence.action", "ignore", "one of 'stop', 'skip'"),
        ("accumulate", 0, "config.accumulate=0: expected at least 1"),
        ("accumulate", 3, "config.accumulate=3: expected a divisor of config.batch_size=512"),
        ("data.on_corrupt", "ignore", "one of 'error', 'skip'"),
        ("data.pad", -4, "config.data.pad=-4"),
        ("data.n_reps", 0, "config.data.n_reps=0: expected at least 1"),
        ("data.n_reps", 3, "batch_size=512 counts views, .*n_reps=3 of each.* 510 and 513 can"),
        ("data.n_reps", 513, "config.data.n_reps=513 of each image: 513 can"),
        ("data.crop_size", 0, "config.data.crop_size=0"),
        ("data.split", "valid", "one of 'final', 'tuning'"),
        ("data.split_seed", -1, "config.data.split_seed=-1"),
        ("data.mean_std", "cifar", "one of 'train', 'imagenet'"),
        ("data.train_fraction", 0.0, "config.data.train_fraction=0.0: expected a part"),
        ("data.train_fraction", float("nan"), "config.data.train_fraction=nan"),
        ("profile", "10", "config.profile='10': expected a:b, such as 10:15"),
        ("profile", "5:5", "config.profile='5:5': expected a:b"),
        ("profile", "-1:5", "config.profile='-1:5': expected a:b"),
        ("optimizer.freeze", (3,), r"config.optimizer.freeze=\(3,\): expected patterns"),
        ("optimizer.decay_mask", ("",), "config.optimizer.decay_mask=.*expected patterns"),
        ("model.init_fresh", ("fc/*",), "without config.model.init_from"),
        ("plasticity.dale.signs", "random", "dale.signs='random': expected one of 'seed', 'init"),
        ("plasticity.dale.excitatory", 1.5, "excitatory=1.5: expected a part of the channels"),
        ("plasticity.dale.excitatory", 0.5, "without config.plasticity.dale.signs"),
        ("plasticity.dale.leaves", ("fc/*",), "without config.plasticity.dale.signs"),
        ("plasticity.dale.nonnegative", (3,), "expected patterns"),
        ("topography.smoothness", -1.0, "config.topography.smoothness=-1.0: expected at least 0"),
        ("topography.arrangement", "ring", "arrangement='ring': expected one of 'positions'"),
        ("topography.arrangement", "sheet", "without config.topography.smoothness"),
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


def set_field(config, key, value):
    *groups, leaf = key.split(".")
    for group in groups:
        config = config[group]
    config[leaf] = value


OPTIONAL_FLOATS = ("online.rate", "smoothness", "similarity", "excitatory")
NUMBERS = [
    (key, value)
    for key, value in flat_fields(base_config())
    if type(value) in (int, float) or key.endswith(("_steps", "_size", "threads", *OPTIONAL_FLOATS))
]


@pytest.mark.parametrize(("key", "default"), NUMBERS)
def test_no_number_is_taken_that_is_none_or_that_devices_cannot_hold(key, default):
    """What ConfigDict itself refuses, by its type, is a TypeError as the configuration is made."""
    wrong = [float("nan"), float("inf"), -float("inf"), 1e300, "1", (1,), 10**300]
    if not key.endswith(OPTIONAL_FLOATS) and not isinstance(default, float):
        wrong += [True, 10**30, 1.5]
    if default is not None:
        wrong.append(None)
    if key != "seed":
        wrong.append(-1)
    if key.startswith("sharing.") and key.endswith((".rate", "patterns", "iterations")):
        wrong.append(0)
    for value in wrong:
        config = base_config()
        with pytest.raises((ValueError, TypeError, OverflowError), match=f"{key}|type|too large"):
            set_field(config, key, value)
            check_config(config)


@pytest.mark.parametrize("value", [10**300, "x", None, 1, 0.5])
def test_flags_are_true_or_false(value):
    config = base_config()
    with pytest.raises((ValueError, TypeError), match=r"config.data.flip=|type"):
        config.data.flip = value
        check_config(config)


@pytest.mark.parametrize(("n_reps", "steps"), [(1, 98), (4, 391), (8, 782), (16, 1563)])
def test_n_reps_are_n_times_as_many_steps_of_512_views(n_reps, steps):
    """As the paper's: 512 // n images a step, and an epoch still shows each image once."""
    config = base_config()
    config.data.n_reps = config.accumulate = n_reps
    check_config(config)
    assert images_per_step(config) == 512 // n_reps
    assert assumed_feed(config).steps_per_epoch == steps


def test_epochs_of_drops_can_be_given_on_the_command_line():
    file = f"--config={CONFIGS[0].with_name('cifar10_lc.py')}"
    assert parse_config([file])[0].optimizer.drop_epochs is None
    config, _, _ = parse_config([file, "--config.optimizer.drop_epochs=(7, 9)"])
    assert config.optimizer.drop_epochs == (7, 9)
    check_config(config)


def test_a_convolution_has_nothing_to_share():
    config = base_config()
    config.model.connectivity = "conv"
    config.sharing.every = 1
    with pytest.raises(ValueError, match="nothing to share"):
        check_config(config)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (
            {"plasticity.dale.signs": "initial", "plasticity.dale.excitatory": 0.5},
            "where weights say which channels",
        ),
        (
            {"topography.smoothness": 1.0, "model.connectivity": "conv"},
            "smoothness=1.0 with config.model.connectivity='conv'",
        ),
        ({"topography.similarity": 1.0, "sharing.every": 1}, "every step ends with equal weights"),
    ],
)
def test_constraints_that_would_do_nothing_are_told(fields, match):
    config = base_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=match):
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
    config.evaluate_every = 2
    config.max_steps, config.checkpoint.keep, config.data.data_dir = 3, 7, "/elsewhere"
    config.data.path = "/pictures"
    config.data.prefetch, config.data.threads, config.data.workers = 5, 6, 7
    config.tensorboard, config.profile, config.compilation_cache = True, "3:4", False
    config.checkpoint.keep_best, config.checkpoint.every_steps = False, 8
    config.divergence.action, config.divergence.max_rollbacks = "rollback", 9
    config.divergence.max_skipped = 10
    assert set(FREE_FIELDS) == {
        *("mesh.data", "mesh.h", "mesh.w"),
        *("evaluate_every", "max_steps", "tensorboard", "profile", "compilation_cache"),
        *("checkpoint.keep", "checkpoint.keep_best", "checkpoint.every_steps"),
        *("divergence.action", "divergence.max_rollbacks", "divergence.max_skipped"),
        *("data.path", "data.data_dir", "data.prefetch", "data.threads", "data.workers"),
    }
    assert against(config, classes=10) == []
    config.model.width = 32
    assert against(config, classes=7) == [
        "config.model.width: 16 there, 32 here",
        "dataset.classes: 10 there, 7 here",
        "the data: 'cifar10' there, folder '/pictures' here",
    ]
    older = json.loads(saved)
    del older["config"]["data.flip"]
    # Those of constraints, which older versions had not, are unset by default.
    for key in [k for k in older["config"] if k.startswith(("plasticity.", "topography."))]:
        del older["config"][key]
    saved = json.dumps(older)
    assert not [line for line in against(config, classes=10) if "plasticity" in line]
    assert "config.data.flip: None there, True here" in against(config, classes=10)
