"""Classifiers whose first stage normalises images in [0, 1]."""

from splitbench.models.lenet5 import LeNet5
from splitbench.models.normalize import Normalize
from splitbench.models.six_conv import SixConv
from splitbench.models.torchvision import googlenet, mobilenet_v2, resnet18, vgg11, vit

__all__ = [
    "LeNet5",
    "Normalize",
    "SixConv",
    "googlenet",
    "mobilenet_v2",
    "resnet18",
    "vgg11",
    "vit",
]
