"""Learned perceptual image patch similarity."""

import warnings
from functools import cached_property
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from splitbench.metric import Metric
from splitbench.metrics.alexnet_weights import alexnet_convolutions
from splitbench.rng import isolated, stream

SMALLEST_SIDE = 64  # pixels; AlexNet's last features of a smaller image are one or two positions
BATCH = 64


class Lpips(Metric):
    """Distance of AlexNet's features, weighted as people judge similarity (LPIPS v0.1, AlexNet).

    Computed by the authors' `lpips` package, with the ImageNet weights of torchvision's AlexNet.
    Values of other backbones (VGG) are not comparable. Images whose shorter side has fewer than
    64 pixels are enlarged to 64 by bilinear interpolation, and grey images are repeated to three
    channels; values for such images are comparable with each other, not with the paper's.

    Cost: one forward of AlexNet's convolutions per image and per truth.

    Args:
        download: May fetch the weights with torchvision (233 MB) where they are neither in
            torch's cache nor in an installed package.

    Deviations from the paper:
        Enlarges small images and repeats grey ones, as said above.

    References:
        Zhang, Isola, Efros, Shechtman, Wang. "The unreasonable effectiveness of deep features as
        a perceptual metric". CVPR 2018. arXiv:1801.03924
    """

    key: ClassVar[str] = "lpips"
    leaks: ClassVar[Literal["up", "down"]] = "down"
    perfect = 0.0

    def __init__(self, *, download: bool = True) -> None:
        self.download = download

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Distance of each image from the truth, >= 0.

        Raises:
            MetricUnavailableError: AlexNet's weights are not to be had.
            ValueError: The images have neither one nor three channels.
        """
        network = self._network.to(guess.device)
        pairs = zip(torch.split(guess, BATCH), torch.split(truth, BATCH), strict=True)
        return torch.cat([network(_prepared(g), _prepared(t)).flatten() for g, t in pairs])

    @cached_property
    def _network(self) -> nn.Module:
        import lpips

        convolutions = alexnet_convolutions(download=self.download)
        # The package draws a random AlexNet first, which must not move anybody's random numbers.
        with isolated(stream(0, "lpips")), warnings.catch_warnings():
            for message in ("The parameter 'pretrained' is", "Arguments other than a weight enum"):
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
            network: nn.Module = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
        for layer, (weight, bias) in zip(layers, convolutions, strict=True):
            layer.load_state_dict({"weight": weight, "bias": bias})
        return network.eval().requires_grad_(False)


def _prepared(images: Tensor) -> Tensor:
    """Three channels in [-1, 1], at least 64 pixels on the shorter side."""
    channels, height, width = images.shape[1:]
    if channels not in (1, 3):
        raise ValueError(f"lpips takes grey or RGB images, got {channels} channels")
    scaled = (images.float() * 2 - 1).expand(-1, 3, -1, -1)
    shorter = min(height, width)
    if shorter >= SMALLEST_SIDE:
        return scaled
    size = [round(side * SMALLEST_SIDE / shorter) for side in (height, width)]
    return functional.interpolate(scaled, size=size, mode="bilinear", align_corners=False)
