"""CIFAR-10, padding of 4, LC: 80.9 % in Table 5 (mean of 5 runs), rates of Table 11.

$ python train.py --config configs/cifar10_lc.py --config.data.path=FOLDER

Other rows of Table 5, with rates of Table 11:

    4 reps (82.9)               --config.data.n_reps=4 --config.optimizer.weight_decay=1e-2
    8 reps (83.8)               --config.data.n_reps=8 --config.optimizer.learning_rate=5e-4
                                --config.optimizer.weight_decay=1e-2
    16 reps (85.0)              --config.data.n_reps=16 --config.optimizer.learning_rate=5e-4
                                --config.optimizer.weight_decay=1e-2
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-20, batch 512, 200 epochs."""
    config = base_config()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-4
    return config
