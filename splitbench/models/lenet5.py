"""LeNet-5, the smallest model that the benchmark runs on."""

from collections.abc import Sequence

from torch import nn

from splitbench.models.normalize import Normalize


class LeNet5(nn.Sequential):
    """Two convolutions and three linear layers.

    The cuts are called ``normalize, conv1, relu1, pool1, conv2, relu2, pool2, flatten, fc1, relu3,
    fc2, relu4`` and ``output``.

    Args:
        image_shape: Channels, height, width; at least 12 x 12.
        classes: Number of classes, >= 1.
        mean: Normalisation, one value or one for each channel.
        std: Likewise.

    Raises:
        ValueError: The images are too small.

    Deviations from the paper:
        ReLU instead of a scaled hyperbolic tangent, max pooling instead of trainable average
        pooling, every feature map of the second convolution sees all of the first, and a linear
        last layer. The first convolution pads by 2, as 28 x 28 digits were padded to 32 x 32.

    References:
        LeCun, Bottou, Bengio, Haffner. "Gradient-based learning applied to document recognition".
        Proceedings of the IEEE 1998. doi:10.1109/5.726791
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
        if min(height, width) < 12:
            raise ValueError(f"LeNet5 needs at least 12 x 12 pixels, got {height} x {width}")
        positions = ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        super().__init__()
        stages = {
            "normalize": Normalize(channels, mean=mean, std=std),
            "conv1": nn.Conv2d(channels, 6, 5, padding=2),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(6, 16, 5),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(16 * positions, 120),
            "relu3": nn.ReLU(),
            "fc2": nn.Linear(120, 84),
            "relu4": nn.ReLU(),
            "fc3": nn.Linear(84, classes),
        }
        for name, stage in stages.items():
            self.add_module(name, stage)
