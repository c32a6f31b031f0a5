"""CIFAR-10, a ViT as usual: projections shared over tokens.

$ python train.py --config configs/cifar10_vit_shared.py --config.data.path=FOLDER

Of the paper's appendix A.4, which has no such experiment: no row of its tables. Nothing is tuned.
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of cifar10_vit_local.py with shared projections."""
    config = named_config("cifar10_vit_local")
    config.model.connectivity = "conv"
    return config
