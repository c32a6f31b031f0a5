"""Handwritten digits, a ViT as usual: projections shared over tokens.

$ python train.py --config configs/digits_vit_shared.py

Of the paper's appendix A.4, which has no such experiment: no row of its tables.
"""

from ml_collections import ConfigDict

from configs.digits_vit_local import get_config as digits_vit_local


def get_config() -> ConfigDict:
    """The run of digits_vit_local.py with shared projections."""
    config = digits_vit_local()
    config.model.connectivity = "conv"
    return config
