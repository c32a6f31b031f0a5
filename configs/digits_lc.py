"""Handwritten digits, LC without weight sharing."""

from ml_collections import ConfigDict

from configs.digits_lc_ws1 import get_config as digits_lc_ws1


def get_config() -> ConfigDict:
    """The run of digits_lc_ws1.py without sharing."""
    config = digits_lc_ws1()
    config.sharing.every = 0
    return config
