"""TinyImageNet, padding of 4, LC - ws(1): 41.6 % top-1, 66.1 % top-5 in Table 5 (mean of 5 runs).

$ python train.py --config configs/tiny_imagenet_lc_ws1.py

Rates are those of Table 11. Other rows of the paper's Tables 4 to 6, with rates of Tables 10 to 12:

    ws(10) (37.4, 61.8)         --config.sharing.every=10 --config.optimizer.weight_decay=1e-4
    ws(100) (37.1, 62.8)        --config.sharing.every=100
    padding of 0 (24.9, 49.1)   --config.data.pad=0 --config.optimizer.weight_decay=1e-4
    padding of 8 (43.6, 67.9)   --config.data.pad=8
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of tiny_imagenet_conv.py with LC layers, and weights shared after every batch."""
    config = named_config("tiny_imagenet_conv")
    config.model.connectivity = "local"
    config.sharing.every = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    return config
