"""CIFAR-10, padding of 4, conv: 88.3 % in Table 5 (mean of 5 runs), rates of Table 11.

$ python train.py --config configs/cifar10_conv.py --config.data.path=FOLDER
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-20, batch 512, 200 epochs."""
    config = base_config()
    config.model.connectivity = "conv"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.weight_decay = 1e-4
    return config
