"""CIFAR-100, padding of 4, conv: 59.2 % top-1, 84.9 % top-5 in Table 5 (mean of 5 runs).

$ python train.py --config configs/cifar100_conv.py

Rates are those of Table 11. Other rows of the paper's Tables 4 to 6, with rates of Tables 10 to 12:

    padding of 0 (49.5, 78.2)   --config.data.pad=0
    padding of 8 (59.6, 85.4)   --config.data.pad=8
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-20, batch 512, 200 epochs."""
    config = base_config()
    config.model.connectivity = "conv"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.weight_decay = 1e-2
    config.data.name = "cifar100"
    return config
