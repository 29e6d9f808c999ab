"""Classifiers whose first stage normalises images in [0, 1]."""

from typing import TYPE_CHECKING, Any

from splitbench.models.lenet5 import LeNet5
from splitbench.models.normalize import Normalize
from splitbench.models.six_conv import SixConv

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """Those of torchvision when they are asked for: importing it takes as long as torch itself."""
    if name in __all__:
        from splitbench.models import torchvision

        return getattr(torchvision, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
