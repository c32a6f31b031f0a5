"""ImageNet, 0.5x ResNet-18, LC: 46.7 % top-1, 70.0 % top-5 in Table 13 (1 run).

$ python train.py --config configs/imagenet_lc.py

Rates are those of appendix B.2.

Other rows of Table 13:

    1st layer conv (52.2, 75.1) --config.model.first_layer_conv=true
"""

from ml_collections import ConfigDict

from jaxws.config.files import named_config


def get_config() -> ConfigDict:
    """The run of imagenet_conv.py with LC layers, which want a smaller rate."""
    config = named_config("imagenet_conv")
    config.model.connectivity = "local"
    config.optimizer.learning_rate = 5e-4
    return config
