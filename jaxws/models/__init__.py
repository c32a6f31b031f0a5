"""Networks of the paper, as functions of the layer they are built from."""

from jaxws.models.published import Loaded, load, published_names
from jaxws.models.resnet import ResNet, resnet18, resnet_cifar
from jaxws.models.spec import ModelSpec
from jaxws.models.torch_export import to_torch_state_dict
from jaxws.models.torch_import import from_torch_state_dict
from jaxws.models.vision_transformer import ViT, vit

__all__ = [
    "Loaded",
    "ModelSpec",
    "ResNet",
    "ViT",
    "from_torch_state_dict",
    "load",
    "published_names",
    "resnet18",
    "resnet_cifar",
    "to_torch_state_dict",
    "vit",
]
