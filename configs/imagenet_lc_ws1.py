"""ImageNet, 0.5x ResNet-18, LC - ws(1): 61.7 % top-1, 83.1 % top-5 in Table 13 (1 run).

$ python train.py --config configs/imagenet_lc_ws1.py

Rates are those of appendix B.2.

Other rows of Table 13:

    ws(10) (59.3, 81.1)         --config.sharing.every=10 --config.optimizer.learning_rate=5e-4
    ws(100) (54.5, 77.7)        --config.sharing.every=100 --config.optimizer.learning_rate=5e-4
    1st layer conv (63.6, 84.5) --config.model.first_layer_conv=true
                                --config.optimizer.learning_rate=5e-4
    and ws(10) (61.6, 83.1)     --config.model.first_layer_conv=true --config.sharing.every=10
                                --config.optimizer.learning_rate=5e-4
    and ws(100) (59.1, 81.1)    --config.model.first_layer_conv=true --config.sharing.every=100
                                --config.optimizer.learning_rate=5e-4
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of imagenet_conv.py with LC layers, and weights shared after every batch."""
    config = named_config("imagenet_conv")
    config.model.connectivity = "local"
    config.sharing.every = 1
    config.optimizer.learning_rate = 1e-3
    return config
