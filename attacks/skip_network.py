"""A small hourglass that paints images from a fixed code: a piece, not an attack."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

CODE = 16  # channels of the code
SKIPPED = 4  # channels that go around a scale
SLOPE = 0.2  # of the leaky ReLU


class SkipNetwork(nn.Module):
    """Halves a code `scales` times and doubles it again, with thin bridges on each level.

    Sizes are rounded up, so images may be of any size. No part knows other examples of a batch.

    Args:
        channels: Of the images.
        width: Channels inside.
        scales: Times that the sides are halved, at least 1.
    """

    def __init__(self, channels: int, *, width: int, scales: int) -> None:
        super().__init__()
        inputs = [CODE, *[width] * (scales - 1)]
        self.bridges = nn.ModuleList(_block(i, SKIPPED, 1) for i in inputs)
        self.down = nn.ModuleList(
            nn.Sequential(_block(i, width, 3), _block(width, width, 3)) for i in inputs
        )
        self.up = nn.ModuleList(
            nn.Sequential(_block(width + SKIPPED, width, 3), _block(width, width, 1))
            for _ in inputs
        )
        self.head = nn.Conv2d(width, channels, 1)

    def forward(self, code: Float[Tensor, "b code h w"]) -> Float[Tensor, "b c h w"]:
        """Images in (0, 1)."""
        level, around = code, []
        for bridge, down in zip(self.bridges, self.down, strict=True):
            around.append(bridge(level))
            level = down(F.avg_pool2d(level, 2, ceil_mode=True))
        for bridged, up in zip(reversed(around), self.up, strict=True):
            wide = F.interpolate(level, size=bridged.shape[-2:], mode="nearest")
            level = up(torch.cat([wide, bridged], dim=1))
        images: Tensor = self.head(level).sigmoid()
        return images


def _block(inputs: int, outputs: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, padding=side // 2),
        nn.GroupNorm(1, outputs),
        nn.LeakyReLU(SLOPE),
    )
