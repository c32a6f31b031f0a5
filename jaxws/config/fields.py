"""The configuration of a run: every knob and its default (checks.py: what it may be).

A file in ``configs/`` starts from :func:`base_config` and changes a few fields. Defaults are the
paper's CIFAR runs (appendix B.1, padding of 4).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict, config_dict


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
    config.batch_size = 512  # views of a step, n_reps of each of its batch_size // n_reps images
    config.eval_batch_size = 512
    config.accumulate = 1  # parts in which a batch's gradients are computed, to save memory
    config.evaluate_every = 1  # epochs between evaluations; the run's end is always evaluated
    config.max_steps = config_dict.placeholder(int)  # stop after so many steps
    config.log_every = 10  # steps between measurements in metrics.jsonl
    config.tensorboard = False  # event files too (pip install tensorboardX)
    config.compilation_cache = True  # keep compiled programs in the user's cache
    config.profile = config_dict.placeholder(str)  # a:b traces steps a to b - 1, from 0
    # Devices along each axis of a mesh (docs/pods.md); unset: all, arranged to send least.
    config.mesh = ConfigDict()
    config.mesh.data = config_dict.placeholder(int)  # weights are copied over these
    config.mesh.h = config_dict.placeholder(int)  # rows of positions are split over these
    config.mesh.w = config_dict.placeholder(int)  # columns of positions

    config.model = _model_fields()

    config.sharing = _sharing_fields()

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or sgd
    config.optimizer.momentum = 0.9  # sgd only
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    # The rate is divided after these epochs; unset: after 1/2 and 3/4 of them, as in the paper.
    config.optimizer.drop_epochs = config_dict.placeholder(tuple)
    config.optimizer.drop_factor = 4.0
    # Patterns of leaves, such as ('conv1/*', '*/bias') (docs/finetuning.md):
    config.optimizer.freeze = config_dict.placeholder(tuple)  # stay as they start
    config.optimizer.decay_mask = config_dict.placeholder(tuple)  # decay; unset: all

    # Constraints on what weights may become (docs/plasticity.md); unset, there are none.
    config.plasticity = ConfigDict()
    config.plasticity.dale = _dale_fields()
    config.topography = _topography_fields()

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
    model.architecture = "resnet_cifar"  # or resnet18, vit, module:NAME (docs/extending.md)
    model.depth = 20  # resnet_cifar: 6n + 2; vit: number of blocks
    model.width = 16  # features of the first stage; vit: of a token
    model.connectivity = "local"  # or conv; of a vit: projections shared over tokens
    model.block_size = config_dict.placeholder(int)  # of ResNets: so many x so many positions have
    # one filter; unset: each its own
    model.first_layer_conv = False  # "1st layer conv" of Table 13; ResNets only
    model.dtype = "float32"  # of activations; or bfloat16, float16 (with loss scaling)
    model.init_from = config_dict.placeholder(str)  # a run, checkpoint or file of weights
    model.init_fresh = config_dict.placeholder(tuple)  # patterns of leaves not to take from it
    # Of a vit only (appendix A.4):
    model.patch_size = 4  # side of a patch, in pixels
    model.heads = 4
    model.mlp_ratio = 4  # hidden features, in units of the width
    model.local_projections = ("embedding", "qkv", "out", "mlp")  # where not shared
    model.same_start = False  # tokens of these start from equal weights, as if shared before
    return model


def _sharing_fields() -> ConfigDict:
    sharing = ConfigDict()
    sharing.every = 0  # ws(n): after batches 0, n, 2n, ... of each epoch; 0 is never
    sharing.pools = "grid"  # or global: layers become convolutions
    sharing.mode = "instant"  # or by plasticity: sleep, online; or module:NAME
    sharing.borders = "in"  # or out: neurons that see padding keep to themselves
    sharing.sleep = ConfigDict()  # a phase, after each batch that ws(n) names
    sharing.sleep.iterations = 100
    sharing.sleep.patterns = 128  # of noise, in each iteration
    sharing.sleep.rate = 0.1
    sharing.sleep.gamma = 1e-5  # pull towards the weights at the start of the phase
    sharing.online = ConfigDict()  # one iteration, after each batch that ws(n) names
    sharing.online.patterns = 32
    sharing.online.rate = config_dict.placeholder(float)  # unset: each layer's fastest
    return sharing


def _dale_fields() -> ConfigDict:
    dale = ConfigDict()  # weights keep the sign of the channel that they read
    dale.signs = config_dict.placeholder(str)  # seed, initial: where they come from
    dale.excitatory = config_dict.placeholder(float)  # part of the channels, of seed; unset: 0.8
    dale.leaves = config_dict.placeholder(tuple)  # patterns; unset: ('layer*kernel',)
    dale.nonnegative = config_dict.placeholder(tuple)  # patterns; unset: ('layer*scale',)
    return dale


def _topography_fields() -> ConfigDict:
    topography = ConfigDict()  # what is added to the loss of LC networks, times its weight
    topography.smoothness = config_dict.placeholder(float)  # cosine distance of neighbours
    topography.arrangement = config_dict.placeholder(str)  # of these: positions (unset), or sheet
    topography.similarity = config_dict.placeholder(float)  # variance / squared mean in pools
    return topography


def _data_fields() -> ConfigDict:
    data = ConfigDict()
    data.name = "cifar10"  # digits, folder, or a data set prepared by TFDS
    data.path = config_dict.placeholder(str)  # a folder train/<class>/*.jpg, test/...
    data.data_dir = config_dict.placeholder(str)  # TFDS's, also gs://; unset: ~/tensorflow_datasets
    data.image_size = config_dict.placeholder(int)  # resize a folder's images to it
    data.on_corrupt = "error"  # or skip: leave undecodable images out
    data.split = "final"  # or tuning: test on training images that are held out
    data.split_seed = 0  # of the choice of images; the same for runs that are compared
    data.train_fraction = 1.0  # train on this part of the training images
    data.mean_std = "train"  # normalise by the training images' colours, or imagenet's
    data.crop_size = config_dict.placeholder(int)  # the network sees; unset: whole images
    data.pad = 4  # pixels that training crops may lie off the centre; mean colour outside
    data.flip = True  # random horizontal flip
    data.n_reps = 1  # views of each image in a batch; "n reps" of the paper
    data.prefetch = 2  # batches kept ready on the device
    # For images that are decoded as they are needed (ImageNet):
    data.decoder = "pil"  # or simplejpeg (faster; pip install simplejpeg)
    data.threads = config_dict.placeholder(int)  # unset: one per core, or one per worker
    data.workers = config_dict.placeholder(int)  # processes; 0: threads; unset: what suits
    return data


def images_per_step(config: ConfigDict) -> int:
    """How many images a training step takes, whose views fill its batch.

    An epoch shows every image once, so that it has ``data.n_reps`` times as many steps as one of
    single views.

    Args:
      config: a configuration, whose ``data.n_reps`` divides its ``batch_size``.

    Returns:
      The number of images.

    Example:
      >>> config = base_config()
      >>> config.data.n_reps = 16
      >>> images_per_step(config)
      32
    """
    return config.batch_size // config.data.n_reps


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
      >>> unknown_field("optimizer", ["optimizer.name", "seed"])
      "config.optimizer is a group of fields: give one of them, such as 'config.optimizer.name'."
    """
    if inside := [name for name in known if name.startswith(f"{key}.")]:
        return f"config.{key} is a group of fields: give one of them, such as 'config.{inside[0]}'."
    leaf = key.rsplit(".", 1)[-1]
    leaves = {name: name.rsplit(".", 1)[-1] for name in known}
    near = [n for n, words in leaves.items() if leaf == "".join(w[0] for w in words.split("_"))]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    near = near or [name for name in known if leaves[name] == leaf]
    hint = (
        f"did you mean 'config.{near[0]}'?"
        if near
        else "see jaxws/config/fields.py for all fields."
    )
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
