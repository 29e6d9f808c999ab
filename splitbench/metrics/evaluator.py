"""The independent classifier that judges guesses."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from splitbench.models.normalize import Normalize

GROUPS = 8  # of the group normalisation


class EvaluatorNet(nn.Module):
    """A small residual network: about 100,000 parameters, any image of 8 x 8 pixels or more.

    It shares nothing with the models under attack: residual, group normalisation (so that what
    it says of a guess does not depend on other guesses), SiLU, global average pooling.

    Args:
        image_shape: Channels, height, width; at least 8 x 8.
        classes: Number of classes, >= 1.
        mean: Normalisation, one value or one for each channel.
        std: Likewise.

    Raises:
        ValueError: The images are too small.

    Deviations from the paper:
        Two blocks, group instead of batch normalisation, SiLU instead of ReLU.

    References:
        He, Zhang, Ren, Sun. "Identity mappings in deep residual networks". ECCV 2016.
        arXiv:1603.05027
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
            raise ValueError(f"EvaluatorNet needs at least 8 x 8 pixels, got {height} x {width}")
        super().__init__()
        self.normalize = Normalize(channels, mean=mean, std=std)
        self.stem = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(_Block(32, 48, 1), _Block(48, 64, 2))
        self.head = nn.Sequential(
            nn.GroupNorm(GROUPS, 64),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, classes),
        )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Logits of images in [0, 1]."""
        logits: Tensor = self.head(self.blocks(self.stem(self.normalize(images))))
        return logits


class _Block(nn.Module):
    """Two normalised convolutions beside a projection, halving the resolution if asked to."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, before)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x)))
        inner = self.conv2(functional.silu(self.norm2(inner)))
        total: Tensor = self.shortcut(x) + inner
        return total
