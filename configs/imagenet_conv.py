"""ImageNet, 0.5x ResNet-18, conv: 63.5 % top-1, 84.7 % top-5 in Table 13 (1 run).

$ python train.py --config configs/imagenet_conv.py

Rates are those of appendix B.2.
"""

from ml_collections import ConfigDict

from jaxws.config import base_config


def get_config() -> ConfigDict:
    """ResNet-18 at half width, batch 256, 200 epochs."""
    config = base_config()
    config.batch_size = 256
    config.eval_batch_size = 256
    config.model.architecture = "resnet18"
    config.model.width = 32
    config.model.connectivity = "conv"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.data.name = "imagenet2012"
    config.data.mean_std = "imagenet"
    config.data.crop_size = 224  # training: of a random size and place, resized to this
    config.data.pad = 0
    return config
