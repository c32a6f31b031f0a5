"""TinyImageNet, padding of 4, LC: 29.6 % top-1, 52.7 % top-5 in Table 5 (mean of 5 runs).

$ python train.py --config configs/tiny_imagenet_lc.py

Rates are those of Table 11. Other rows of the paper's Tables 4 to 6, with rates of Tables 10 to 12:

    4 reps (31.9, 54.9)         --config.data.n_reps=4 --config.optimizer.weight_decay=1e-2
    8 reps (33.0, 55.6)         --config.data.n_reps=8 --config.optimizer.weight_decay=1e-2
    16 reps (34.0, 56.2)        --config.data.n_reps=16 --config.optimizer.weight_decay=1e-2
    padding of 0 (12.0, 30.4)   --config.data.pad=0 --config.optimizer.learning_rate=1e-3
    padding of 8 (31.9, 55.4)   --config.data.pad=8 --config.optimizer.learning_rate=1e-3
                                --config.optimizer.weight_decay=1e-2
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of tiny_imagenet_conv.py with LC layers."""
    config = named_config("tiny_imagenet_conv")
    config.model.connectivity = "local"
    config.optimizer.learning_rate = 5e-4
    return config
