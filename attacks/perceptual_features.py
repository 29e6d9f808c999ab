"""Distances in the features of a network of the adversary's own: a piece, not an attack."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

WIDTHS = (16, 32, 64)
FAINT = 1e-3  # features fainter than this, at a place, are not stretched to unit length


class PerceptualFeatures(nn.Module):
    """Three scales of plain convolutions and ReLUs, as they were initialised.

    Nothing is learnt: edges and corners of many kinds are compared, which takes no labels and
    favours no judge. On purpose it is also nothing like the classifier that judges guesses
    (`EvaluatorNet`: residual, normalised, SiLU), nor like the network of LPIPS: were a decoder
    trained on its judge's features, its marks would say little.

    Args:
        channels: Of the images.

    References:
        Ustyuzhaninov, Brendel, Gatys, Bethge. "Texture synthesis using shallow convolutional
        networks with random filters". 2016. arXiv:1606.00021
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = pairwise((channels, *WIDTHS))
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Features of images in [0, 1] at each scale, half as large as those before."""
        maps, seen = 2 * images - 1, []
        for i, stage in enumerate(self.stages):
            if i:
                maps = F.avg_pool2d(maps, 2, ceil_mode=True)
            maps = torch.relu(stage(maps))
            seen.append(maps)
        return seen

    def distance(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, ""]:
        """Mean over images, places and scales of the squared distance of unit vectors, in [0, 4].

        References:
            Zhang, Isola, Efros, Shechtman, Wang. "The unreasonable effectiveness of deep features
            as a perceptual metric". CVPR 2018. arXiv:1801.03924
        """
        total = torch.zeros((), device=guess.device)
        for a, b in zip(self(guess), self(truth), strict=True):
            total = total + (_unit(a) - _unit(b)).square().sum(1).mean()
        return total / len(WIDTHS)


def _unit(maps: Tensor) -> Tensor:
    """Vectors of unit length across channels."""
    return maps / maps.square().sum(1, keepdim=True).add(FAINT**2).sqrt()
