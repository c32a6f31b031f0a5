"""Handwritten digits, LC with weight sharing after every batch: the default run."""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """Built-in data, a network and a schedule that fit a laptop."""
    config = base_config()
    config.epochs = 30
    config.batch_size = 64
    config.model.depth = 8
    config.model.width = 8
    config.sharing.every = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.drop_epochs = (15, 22)
    config.data.name = "digits"
    config.data.pad = 0
    config.data.flip = False
    return config
