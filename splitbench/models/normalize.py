"""The first stage of every model, so that images are in [0, 1] everywhere outside it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Shift and scale each channel: ``(x - mean) / std``.

    Nothing is checked at run time; metrics, attacks and loaders check that images are in [0, 1].

    Args:
        channels: Channels of the images, >= 1.
        mean: Of each channel of images in [0, 1]; one number serves all channels.
        std: Likewise, > 0.

    Raises:
        ValueError: As many values as channels are wanted, and positive deviations.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        *,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", _per_channel("mean", mean, channels))
        self.register_buffer("std", _per_channel("std", std, channels))
        if not bool((self.std > 0).all()):
            raise ValueError(f"std must be positive, got {std}")

    def forward(self, images: Tensor) -> Tensor:
        """Normalise ``(b, channels, h, w)``."""
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show the values in the model's repr."""
        mean, std = (v.flatten().tolist() for v in (self.mean, self.std))
        return f"{len(mean)}, mean={mean}, std={std}"


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> Tensor:
    values = list(value) if isinstance(value, Sequence) else [value] * channels
    if len(values) != channels:
        raise ValueError(f"{name} has {len(values)} values, but the images {channels} channels")
    return torch.tensor(values, dtype=torch.float32).reshape(channels, 1, 1)
