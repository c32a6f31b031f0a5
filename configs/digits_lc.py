"""Handwritten digits, LC without weight sharing."""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of digits_lc_ws1.py without sharing."""
    config = named_config("digits_lc_ws1")
    config.sharing.every = 0
    return config
