"""Networks of the paper, as functions of the layer they are built from."""

from jaxws.models.resnet import ResNet, resnet18, resnet_cifar

__all__ = ["ResNet", "resnet18", "resnet_cifar"]
