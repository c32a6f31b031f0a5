"""CIFAR-100, padding of 4, LC - ws(1): 58.7 % top-1, 83.4 % top-5 in Table 5 (mean of 5 runs).

$ python train.py --config configs/cifar100_lc_ws1.py

Rates are those of Table 11. Other rows of the paper's Tables 4 to 6, with rates of Tables 10 to 12:

    ws(10) (55.7, 80.9)         --config.sharing.every=10 --config.optimizer.learning_rate=5e-4
                                --config.optimizer.weight_decay=1e-2
    ws(100) (52.8, 80.1)        --config.sharing.every=100 --config.optimizer.learning_rate=5e-4
                                --config.optimizer.weight_decay=1e-2
    padding of 0 (41.8, 70.1)   --config.data.pad=0 --config.optimizer.weight_decay=1e-2
    padding of 8 (59.2, 84.0)   --config.data.pad=8 --config.optimizer.weight_decay=1e-2
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-20, batch 512, 200 epochs."""
    config = base_config()
    config.sharing.every = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-4
    config.data.name = "cifar100"
    return config
