"""The configuration of a run: every knob, its default, and what it may be.

A file in ``configs/`` starts from :func:`base_config` and changes a few fields. Defaults are the
paper's CIFAR runs (appendix B.1, padding of 4).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxws.profiling import parse_steps

_CHOICES = {
    "model.architecture": ("resnet_cifar", "resnet18", "vit"),
    "model.connectivity": ("local", "conv"),
    "model.dtype": ("float32", "bfloat16", "float16"),
    "optimizer.name": ("adamw", "sgd"),
    "sharing.pools": ("grid", "global"),
    "sharing.mode": ("instant", "sleep", "online"),
    "sharing.borders": ("in", "out"),
    "divergence.action": ("stop", "skip", "rollback"),
    "data.on_corrupt": ("error", "skip"),
    "data.decoder": ("pil", "simplejpeg"),
    "data.split": ("final", "tuning"),
    "data.mean_std": ("train", "imagenet"),
}
_MINIMA = {
    "epochs": 1,
    "batch_size": 1,
    "eval_batch_size": 1,
    "max_steps": 1,
    "accumulate": 1,
    "model.depth": 1,
    "model.width": 1,
    "model.patch_size": 1,
    "model.heads": 1,
    "model.mlp_ratio": 1,
    "sharing.every": 0,
    "optimizer.learning_rate": 0,
    "optimizer.weight_decay": 0,
    "optimizer.drop_factor": 1,
    "optimizer.momentum": 0,
    "data.pad": 0,
    "data.image_size": 1,
    "data.crop_size": 1,
    "data.n_reps": 1,
    "data.prefetch": 1,
    "data.threads": 1,
    "data.workers": 0,
    "data.split_seed": 0,
    "log_every": 1,
    "checkpoint.keep": 1,
    "checkpoint.every_steps": 1,
    "divergence.max_rollbacks": 1,
    "divergence.max_skipped": 1,
}


def base_config() -> ConfigDict:
    """The defaults of all experiments.

    Returns:
      A ``ConfigDict``; fields that are unset by default are typed placeholders, so that the command
      line can set them.

    Example:
      >>> base_config().epochs
      200
    """
    config = ConfigDict()
    config.seed = 0  # of weights, batch order and augmentation
    config.epochs = 200
    config.batch_size = 512
    config.eval_batch_size = 512
    config.accumulate = 1  # parts in which a batch's gradients are computed, to save memory
    config.max_steps = config_dict.placeholder(int)  # stop after so many steps
    config.log_every = 10  # steps between measurements in metrics.jsonl
    config.tensorboard = False  # event files too (pip install tensorboardX)
    config.profile = config_dict.placeholder(str)  # a:b traces steps a to b - 1, from 0

    config.model = _model_fields()

    config.sharing = ConfigDict()
    config.sharing.every = 0  # ws(n): after batches 0, n, 2n, ... of each epoch; 0 is never
    config.sharing.pools = "grid"  # or global: layers become convolutions
    config.sharing.mode = "instant"  # or by plasticity (jaxws.dynamics): sleep, online
    config.sharing.borders = "in"  # or out: neurons that see padding keep to themselves
    config.sharing.sleep = ConfigDict()  # a phase, after each batch that ws(n) names
    config.sharing.sleep.iterations = 100
    config.sharing.sleep.patterns = 128  # of noise, in each iteration
    config.sharing.sleep.rate = 0.1
    config.sharing.sleep.gamma = 1e-5  # pull towards the weights at the start of the phase
    config.sharing.online = ConfigDict()  # one iteration, after each batch that ws(n) names
    config.sharing.online.patterns = 32
    config.sharing.online.rate = config_dict.placeholder(float)  # unset: each layer's fastest

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or sgd
    config.optimizer.momentum = 0.9  # sgd only
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    # The rate is divided after these epochs; unset: after 1/2 and 3/4 of them, as in the paper.
    config.optimizer.drop_epochs = config_dict.placeholder(tuple)
    config.optimizer.drop_factor = 4.0

    config.data = _data_fields()

    config.checkpoint = ConfigDict()
    config.checkpoint.keep = 2  # the last checkpoints
    config.checkpoint.keep_best = True  # and that of the best top-1 on test images
    config.checkpoint.every_steps = config_dict.placeholder(int)  # unset: after each epoch

    # Where loss, gradients or weights are not finite, and no lower loss scale may help:
    config.divergence = ConfigDict()
    config.divergence.action = "stop"  # or skip: leave such steps out; or rollback
    config.divergence.max_skipped = 50  # in a row; then the run stops or rolls back
    config.divergence.rate_factor = 0.5  # of the learning rate, after each rollback
    config.divergence.max_rollbacks = 3
    return config


def _model_fields() -> ConfigDict:
    model = ConfigDict()
    model.architecture = "resnet_cifar"  # or resnet18, vit
    model.depth = 20  # resnet_cifar: 6n + 2; vit: number of blocks
    model.width = 16  # features of the first stage; vit: of a token
    model.connectivity = "local"  # or conv; of a vit: projections shared over tokens
    model.first_layer_conv = False  # "1st layer conv" of Table 13; ResNets only
    model.dtype = "float32"  # of activations; or bfloat16, float16 (with loss scaling)
    # Of a vit only (appendix A.4):
    model.patch_size = 4  # side of a patch, in pixels
    model.heads = 4
    model.mlp_ratio = 4  # hidden features, in units of the width
    model.local_projections = ("embedding", "qkv", "out", "mlp")  # where not shared
    model.same_start = False  # tokens of these start from equal weights, as if shared before
    return model


def _data_fields() -> ConfigDict:
    data = ConfigDict()
    data.name = "cifar10"  # digits, folder, or a data set prepared by TFDS
    data.path = config_dict.placeholder(str)  # a folder train/<class>/*.jpg, test/...
    data.data_dir = config_dict.placeholder(str)  # TFDS's; unset: ~/tensorflow_datasets
    data.image_size = config_dict.placeholder(int)  # resize a folder's images to it
    data.on_corrupt = "error"  # or skip: leave undecodable images out
    data.split = "final"  # or tuning: test on training images that are held out
    data.split_seed = 0  # of the choice of images; the same for runs that are compared
    data.train_fraction = 1.0  # train on this part of the training images
    data.mean_std = "train"  # normalise by the training images' colours, or imagenet's
    data.crop_size = config_dict.placeholder(int)  # the network sees; unset: whole images
    data.pad = 4  # pixels that training crops may lie off the centre; mean colour outside
    data.flip = True  # random horizontal flip
    data.n_reps = 1  # views of each image in a batch, which has batch_size * n_reps
    data.prefetch = 2  # batches kept ready on the device
    # For images that are decoded as they are needed (ImageNet):
    data.decoder = "pil"  # or simplejpeg (faster; pip install simplejpeg)
    data.threads = config_dict.placeholder(int)  # unset: one per core, or one per worker
    data.workers = config_dict.placeholder(int)  # processes; 0: threads; unset: what suits
    return data


def check_config(config: ConfigDict) -> None:
    """Checks a configuration before anything is read or written.

    Args:
      config: what a file in ``configs/`` and the command line made.

    Raises:
      ValueError: an unknown or missing field, or one with an impossible value.

    Example:
      >>> config = base_config()
      >>> config.model.dtype = "float31"
      >>> check_config(config)
      Traceback (most recent call last):
      ValueError: config.model.dtype='float31': expected one of 'float32', 'bfloat16', 'float16'.
    """
    known, given = dict(flat_fields(base_config())), dict(flat_fields(config))
    for key in given:
        if key not in known:
            raise ValueError(unknown_field(key, known))
    for key in known:
        if key not in given:
            raise ValueError(f"config.{key} is missing: start from jaxws.config.base_config().")
    for key, choices in _CHOICES.items():
        if given[key] not in choices:
            expected = ", ".join(map(repr, choices))
            raise ValueError(f"config.{key}={given[key]!r}: expected one of {expected}.")
    for key, minimum in _MINIMA.items():
        if given[key] is not None and not given[key] >= minimum:
            raise ValueError(f"config.{key}={given[key]!r}: expected at least {minimum}.")
    if not 0 < given["data.train_fraction"] <= 1:
        raise ValueError(
            f"config.data.train_fraction={given['data.train_fraction']!r}: expected a part of the"
            " training images, above 0 and at most 1."
        )
    if given["profile"] is not None:
        parse_steps(given["profile"])
    _check_optimizer(given)
    _check_sharing(given)
    if not 0 < given["divergence.rate_factor"] <= 1:
        raise ValueError(
            f"config.divergence.rate_factor={given['divergence.rate_factor']!r}: expected a factor"
            " above 0 and at most 1."
        )


def _check_sharing(given: Mapping[str, Any]) -> None:
    if given["model.connectivity"] == "conv" and given["sharing.every"]:
        raise ValueError(
            f"config.sharing.every={given['sharing.every']} with config.model.connectivity='conv':"
            " a convolution has nothing to share; set sharing.every=0 or connectivity='local'."
        )
    mode = given["sharing.mode"]
    if mode != "instant" and not given["sharing.every"]:
        raise ValueError(
            f"config.sharing.mode={mode!r} with config.sharing.every=0, which is never: set"
            " config.sharing.every=1, or another n of ws(n)."
        )
    if mode != "instant" and given["sharing.pools"] == "global":
        raise ValueError(
            f"config.sharing.mode={mode!r} with config.sharing.pools='global': neurons can only"
            " equalise what they see of the same pattern; expected pools='grid'."
        )


def _check_optimizer(given: Mapping[str, Any]) -> None:
    if not given["optimizer.momentum"] < 1:
        raise ValueError(
            f"config.optimizer.momentum={given['optimizer.momentum']!r}: expected a number below 1."
        )
    rows, parts = given["batch_size"] * given["data.n_reps"], given["accumulate"]
    if rows % parts:
        raise ValueError(
            f"config.accumulate={parts}: expected a divisor of the {rows} images of a batch"
            " (config.batch_size * config.data.n_reps)."
        )
    drops = tuple(given["optimizer.drop_epochs"] or ())
    whole = all(isinstance(epoch, int) and epoch >= 1 for epoch in drops)
    if not whole or sorted(set(drops)) != list(drops):
        raise ValueError(
            f"config.optimizer.drop_epochs={drops}: expected increasing epoch numbers from 1."
        )


def unknown_field(key: str, known: Any) -> str:
    """The error message for a field that does not exist, with the closest one that does.

    Args:
      key: the dotted name that was given.
      known: the dotted names that exist.

    Returns:
      One sentence.

    Example:
      >>> unknown_field("optimizer.lr", ["optimizer.learning_rate", "seed"])
      "unknown field config.optimizer.lr: did you mean 'config.optimizer.learning_rate'?"
    """
    leaf = key.rsplit(".", 1)[-1]
    leaves = {name: name.rsplit(".", 1)[-1] for name in known}
    near = [n for n, words in leaves.items() if leaf == "".join(w[0] for w in words.split("_"))]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    near = near or [name for name in known if leaves[name] == leaf]
    hint = f"did you mean 'config.{near[0]}'?" if near else "see jaxws/config.py for all fields."
    return f"unknown field config.{key}: {hint}"


def flat_fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Lists all fields by dotted name.

    Args:
      config: a configuration.
      prefix: put in front of every name.

    Yields:
      Pairs such as ``('model.depth', 20)``.

    Example:
      >>> dict(flat_fields(base_config()))["model.depth"]
      20
    """
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat_fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
