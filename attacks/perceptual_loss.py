"""A loss that asks for pictures that look right: a piece, not an attack."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def perceptual_loss(
    guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean absolute error plus half of ``1 - SSIM``.

    The structural similarity has the Gaussian window of 11 x 11 of the original where the image is
    large enough, else the largest odd one that fits, and only whole windows count.

    References:
        Wang, Bovik, Sheikh, Simoncelli. "Image quality assessment: from error visibility to
        structural similarity". IEEE Transactions on Image Processing 2004.
        doi:10.1109/TIP.2003.819861
    """
    window = _window(guess)
    a, b = _blur(guess, window), _blur(truth, window)
    spread = _blur(guess.square(), window) + _blur(truth.square(), window) - a**2 - b**2
    shared = _blur(guess * truth, window) - a * b
    similarity = (2 * a * b + C1) * (2 * shared + C2) / ((a**2 + b**2 + C1) * (spread + C2))
    return (guess - truth).abs().mean() + 0.5 * (1 - similarity.mean())


def _window(images: Tensor) -> Tensor:
    side = min(WINDOW, *images.shape[2:])
    side -= 1 - side % 2
    place = torch.arange(side, device=images.device) - side // 2
    weights = torch.exp(-(place**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _blur(images: Tensor, window: Tensor) -> Tensor:
    channels = images.shape[1]
    row = window.expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(images, row, groups=channels), row.transpose(2, 3), groups=channels)
