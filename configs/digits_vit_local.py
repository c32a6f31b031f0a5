"""Handwritten digits, a ViT with projections of their own per token, never shared.

$ python train.py --config configs/digits_vit_local.py

Of the paper's appendix A.4, which has no such experiment: no row of its tables.
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of digits_vit_local_ws1.py without sharing."""
    config = named_config("digits_vit_local_ws1")
    config.sharing.every = 0
    return config
