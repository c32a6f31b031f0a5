"""TinyImageNet, padding of 4, conv: 38.6 % top-1, 65.1 % top-5 in Table 5 (mean of 5 runs).

$ python train.py --config configs/tiny_imagenet_conv.py

Rates are those of Table 11. Other rows of the paper's Tables 4 to 6, with rates of Tables 10 to 12:

    padding of 0 (26.0, 51.2)   --config.data.pad=0 --config.optimizer.weight_decay=1e-2
    padding of 8 (42.6, 68.7)   --config.data.pad=8 --config.optimizer.weight_decay=1e-2
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-20, batch 512, 200 epochs, 48x48 pixels."""
    config = base_config()
    config.model.connectivity = "conv"
    config.optimizer.learning_rate = 5e-3
    config.optimizer.weight_decay = 1e-4
    config.data.name = "tiny_imagenet"
    config.data.mean_std = "imagenet"
    config.data.crop_size = 48  # of 64; training crops lie in the 48 + 2 * pad pixels of the centre
    config.data.flip = False
    return config
