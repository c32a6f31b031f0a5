"""CIFAR-10, a ViT with projections of their own per token, shared after every batch.

$ python train.py --config configs/cifar10_vit_local_ws1.py --config.data.path=FOLDER

Of the paper's appendix A.4, which has no such experiment: no row of its tables. Nothing is tuned.
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """64 patches of 4 x 4 pixels, six blocks of width 128; batch 512, 200 epochs."""
    config = base_config()
    config.model.architecture = "vit"
    config.model.depth = 6
    config.model.width = 128
    config.model.patch_size = 4
    config.model.heads = 4
    config.model.mlp_ratio = 2
    config.model.same_start = True  # independent draws would be 8 times smaller once shared
    config.sharing.every = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    return config
