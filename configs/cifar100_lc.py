"""CIFAR-100, padding of 4, LC: 49.8 % top-1, 75.5 % top-5 in Table 5 (mean of 5 runs).

$ python train.py --config configs/cifar100_lc.py

Rates are those of Table 11. Other rows of the paper's Tables 4 to 6, with rates of Tables 10 to 12:

    4 reps (52.1, 76.4)         --config.data.n_reps=4 --config.optimizer.learning_rate=1e-3
    8 reps (54.3, 77.9)         --config.data.n_reps=8 --config.optimizer.weight_decay=1e-4
    16 reps (55.9, 78.8)        --config.data.n_reps=16
    padding of 0 (34.9, 62.2)   --config.data.pad=0 --config.optimizer.learning_rate=1e-3
    padding of 8 (47.7, 74.8)   --config.data.pad=8 --config.optimizer.weight_decay=1e-4
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-20, batch 512, 200 epochs."""
    config = base_config()
    config.optimizer.learning_rate = 5e-4
    config.optimizer.weight_decay = 1e-2
    config.data.name = "cifar100"
    return config
