"""The CIFAR-10 network on which model inversion of collaborative inference was first shown."""

from collections.abc import Sequence

from torch import nn

from splitbench.models.normalize import Normalize


class SixConv(nn.Sequential):
    """Six 3 x 3 convolutions in three pairs, and two linear layers.

    The cuts have the paper's names in lower case: ``normalize, conv11, relu11, conv12, relu12,
    pool1, conv21, ..., relu32, pool3, flatten, fc1, sigmoid`` and ``output``.

    Args:
        image_shape: Channels, height, width; at least 8 x 8.
        classes: Number of classes, >= 1.
        mean: Normalisation, one value or one for each channel.
        std: Likewise.

    Raises:
        ValueError: The images are too small.

    Deviations from the paper:
        None.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        classes: int,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
    ) -> None:
        channels, height, width = image_shape
        if min(height, width) < 8:
            raise ValueError(f"SixConv needs at least 8 x 8 pixels, got {height} x {width}")
        super().__init__()
        self.add_module("normalize", Normalize(channels, mean=mean, std=std))
        for pair, maps in enumerate((64, 128, 128), start=1):
            for place in (1, 2):
                self.add_module(f"conv{pair}{place}", nn.Conv2d(channels, maps, 3, padding=1))
                self.add_module(f"relu{pair}{place}", nn.ReLU())
                channels = maps
            self.add_module(f"pool{pair}", nn.MaxPool2d(2))
        self.add_module("flatten", nn.Flatten())
        self.add_module("fc1", nn.Linear(channels * (height // 8) * (width // 8), 512))
        self.add_module("sigmoid", nn.Sigmoid())
        self.add_module("fc2", nn.Linear(512, classes))
