"""What every network that paints images from releases has: a piece, not an attack."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splitbench.release import Tensors


class ImageDecoder(nn.Module, ABC):
    """Paints what is to be added to a mean image.

    Attributes:
        live: Indices of the released tensors that hold any values.
        stems: The way in for each of them; has ``measure(values)``.
        canvas: The mean image, ``(c, h, w)``.
    """

    live: list[int]
    stems: nn.ModuleList
    canvas: nn.Parameter

    @abstractmethod
    def forward(self, tensors: Tensors) -> Float[Tensor, "b c h w"]:
        """Images, not yet clamped to [0, 1]."""

    @abstractmethod
    def matrices(self) -> list[nn.Parameter]:
        """Weights of the hidden layers, which are matrices: those that Muon moves."""

    @torch.no_grad()
    def prepare(self, examples: Tensors, mean_image: Tensor) -> None:
        """Standardise features as on these examples, and start at the mean image."""
        for i, way_in in zip(self.live, self.stems, strict=True):
            way_in.measure(examples[i])  # type: ignore[operator]  # every stem has it
        self.canvas.copy_(mean_image)
