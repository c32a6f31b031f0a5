"""Handwritten digits, convolutional."""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of digits_lc.py with convolutions, which want a larger rate."""
    config = named_config("digits_lc")
    config.model.connectivity = "conv"
    config.optimizer.learning_rate = 1e-2
    return config
