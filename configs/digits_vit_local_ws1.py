"""Handwritten digits, a ViT with projections of their own per token, shared after every batch.

$ python train.py --config configs/digits_vit_local_ws1.py

Of the paper's appendix A.4, which has no such experiment: no row of its tables.
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """36 patches of 4 x 4 pixels, and a schedule that fits a laptop."""
    config = base_config()
    config.epochs = 30
    config.batch_size = 64
    config.model.architecture = "vit"
    config.model.depth = 2
    config.model.width = 64
    config.model.patch_size = 4
    config.model.heads = 4
    config.model.mlp_ratio = 2
    config.model.same_start = True  # independent draws would be 6 times smaller once shared
    config.sharing.every = 1
    config.optimizer.learning_rate = 1e-3
    config.data.name = "digits"
    config.data.pad = 2
    config.data.flip = False
    return config
