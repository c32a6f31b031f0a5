"""CIFAR-10, a ViT as usual: projections shared over tokens.

$ python train.py --config configs/cifar10_vit_shared.py --config.data.path=FOLDER

Of the paper's appendix A.4, which has no such experiment: no row of its tables. Nothing is tuned.
"""

from ml_collections import ConfigDict

from configs.cifar10_vit_local import get_config as cifar10_vit_local


def get_config() -> ConfigDict:
    """The run of cifar10_vit_local.py with shared projections."""
    config = cifar10_vit_local()
    config.model.connectivity = "conv"
    return config
