"""Handwritten digits, a ViT as usual: projections shared over tokens.

$ python train.py --config configs/digits_vit_shared.py

Of the paper's appendix A.4, which has no such experiment: no row of its tables.
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of digits_vit_local.py with shared projections."""
    config = named_config("digits_vit_local")
    config.model.connectivity = "conv"
    return config
