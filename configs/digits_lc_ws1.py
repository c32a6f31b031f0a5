"""Handwritten digits, LC with weight sharing after every batch: what `python train.py` runs.

The built-in data set: every digit stands at one place of a canvas nine times its size, and a test
digit at others. A network without weight sharing has to learn each digit at each place anew.
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """A ResNet-8 at half width, and a schedule that fits a laptop."""
    config = base_config()
    config.epochs = 30
    config.batch_size = 64
    config.model.depth = 8
    config.model.width = 8
    config.sharing.every = 1
    config.optimizer.learning_rate = 3e-3
    config.data.name = "digits"
    config.data.pad = 2
    config.data.flip = False
    return config
