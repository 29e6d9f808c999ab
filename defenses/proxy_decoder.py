"""A decoder that a defense trains against: a piece, not a defense."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from splitbench.release import Tensors, TensorSpec

SEED = 8  # largest side of the map that a vector or a sequence of tokens is turned into


class ProxyDecoder(nn.Module):
    """Releases to images: each tensor to a map, their sum at the image's size, two residual steps.

    It stands for the attacker while a defense is trained, who will be another one. Untrained, it
    paints the mean image.

    Args:
        specs: Shapes of the released tensors, of any rank.
        mean: Mean image, ``(c, h, w)``.
        width: Channels within.
    """

    def __init__(
        self, specs: Sequence[TensorSpec], mean: Float[Tensor, "c h w"], *, width: int
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", mean)
        self.size = mean.shape[1], mean.shape[2]
        self.ways_in = nn.ModuleList(_way_in(spec.shape, self.size, width) for spec in specs)
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(2)
        )
        self.paint = nn.Conv2d(width, len(mean), 3, padding=1)
        nn.init.zeros_(self.paint.weight)
        nn.init.zeros_(self.paint.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, released: Tensors) -> Float[Tensor, "b c h w"]:
        """Images, not clamped to [0, 1]."""
        maps = [way_in(t) for way_in, t in zip(self.ways_in, released, strict=True)]
        hidden = torch.stack([functional.interpolate(m, self.size) for m in maps]).sum(0)
        for step in self.steps:
            hidden = hidden + step(hidden)
        images: Tensor = self.mean + self.paint(hidden.relu())
        return images


def _way_in(shape: tuple[int, ...], size: tuple[int, int], width: int) -> nn.Module:
    if len(shape) == 3:
        return nn.Conv2d(shape[0], width, 3, padding=1)
    seed = [min(SEED, side) for side in size]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), width * math.prod(seed)),
        nn.Unflatten(1, (width, *seed)),
    )
