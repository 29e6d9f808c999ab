"""A network that says which channels of a release matter: a piece, not a defense."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splitbench.release import Tensors, TensorSpec, channel_axis


class ChannelPruner(nn.Module):
    """Scores for each channel of each example, from the mean and the size of all its channels.

    Two small layers on numbers that the device computes in one pass over its features.

    Args:
        specs: Shapes of the features.
        width: Units of the hidden layer.
    """

    def __init__(self, specs: Sequence[TensorSpec], *, width: int) -> None:
        super().__init__()
        self.channels = [spec.shape[0 if len(spec.shape) == 3 else -1] for spec in specs]
        total = sum(self.channels)
        self.score = nn.Sequential(
            nn.LayerNorm(2 * total), nn.Linear(2 * total, width), nn.ReLU(), nn.Linear(width, total)
        )

    def forward(self, features: Tensors) -> Tensors:
        """Scores of each tensor, ``(b, channels)``.

        Raises:
            ValueError: The features have other channels than those that it was made for.
        """
        rows = [by_channel(f) for f in features]
        found = [r.shape[1] for r in rows]
        if found != self.channels:
            raise ValueError(
                f"the features have {found} channels, the pruner was made for {self.channels}: no "
                "defense before it in a chain may change them"
            )
        told = [part for r in rows for part in (r.mean(2), r.square().mean(2).sqrt())]
        scores: Tensor = self.score(torch.cat(told, dim=1))
        return torch.split(scores, self.channels, dim=1)


def hard_mask(scores: Float[Tensor, "b c"], kept: int) -> Float[Tensor, "b c"]:
    """1 for so many channels of the highest scores, of equal ones the first; else 0."""
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return torch.zeros_like(scores).scatter_(1, order[:, :kept], 1.0)


def soft_mask(scores: Float[Tensor, "b c"], kept: int, temperature: float) -> Float[Tensor, "b c"]:
    """A step from 0 to 1 halfway between the scores of the last kept and the first other channel.

    Args:
        scores: Of each channel.
        kept: Channels above the step, at least 1; where it is all of them, all are 1.
        temperature: Width of the step, > 0.
    """
    if kept == scores.shape[1]:
        return torch.ones_like(scores)
    ordered = scores.sort(dim=1, descending=True).values
    middle = (ordered[:, kept - 1] + ordered[:, kept]) / 2
    return torch.sigmoid((scores - middle[:, None]) / temperature)


def masked(features: Tensors, masks: Tensors) -> Tensors:
    """Features times a factor for each channel."""
    pairs = zip(features, masks, strict=True)
    return tuple(f * _spread(m, f) for f, m in pairs)


def by_channel(values: Tensor) -> Tensor:
    """A batch as ``(b, channels, values of each)``."""
    return values.movedim(channel_axis(values), 1).unsqueeze(-1).flatten(2)


def _spread(mask: Tensor, values: Tensor) -> Tensor:
    shape = [len(values), *[1] * (values.ndim - 1)]
    shape[channel_axis(values)] = mask.shape[1]
    return mask.view(shape)
