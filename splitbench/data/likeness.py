"""Images of one data set in the form of another's."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from splitbench.data.images import LabeledImages

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue in a grey value (ITU-R BT.601)


def alike(images: LabeledImages, shape: tuple[int, int, int]) -> LabeledImages:
    """Bring images to the channels and size that a model takes.

    Args:
        images: Grey or RGB.
        shape: Channels (1 or 3), height, width. Sides are scaled one by one, with antialiasing:
            what the images show may be stretched, but none of it is cut off.

    Returns:
        The same examples, uint8; unchanged where they have the shape already.

    Raises:
        ValueError: Images or shape are neither grey nor RGB.
    """
    if images.shape == shape:
        return images
    for channels in (images.shape[0], shape[0]):
        if channels not in (1, 3):
            raise ValueError(f"{channels} channels: want grey or RGB images")
    coloured = _coloured(images.images(), shape[0])
    sized = functional.interpolate(
        coloured, size=shape[1:], mode="bilinear", align_corners=False, antialias=True
    )
    pixels = (sized.clamp(0, 1) * 255).round().to(torch.uint8)
    return replace(images, pixels=pixels)


def _coloured(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == 3 and channels == 1:
        return (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return images.expand(-1, channels, -1, -1)
