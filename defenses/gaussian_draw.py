"""Draws from normal laws that the client computes: a piece, not a defense."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from defenses.bottleneck import NarrowingClient, narrowing
from defenses.noise_laws import gaussian_cell_surprise
from splitbench.release import Tensors, TensorSpec
from splitbench.rng import normal_like

LEAST, MOST = -10.0, 4.0  # between which the logarithm of a variance is kept
QUIET = -4.0  # logarithm of the variance before training


class GaussianClient(NarrowingClient):
    """A client that ends in a mean and a log variance for every value that is to be released.

    Args:
        body: The client up to the cut, images to features.
        specs: The features.
        channels: Channels of each released tensor, at most those that are there.
        stride: Side of the patch that becomes one released position, for image-like features.
    """

    def __init__(
        self, body: nn.Module, specs: Sequence[TensorSpec], *, channels: int, stride: int
    ) -> None:
        super().__init__(body, specs, channels=channels, stride=stride)
        self.spread = nn.ModuleList(narrowing(spec, channels, stride) for spec in specs)
        for part in self.spread:
            layer = part[-1] if isinstance(part, nn.Sequential) else part
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.constant_(layer.bias, QUIET)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensors:
        """Images ``(b, c, h, w)`` to the means of all tensors, then their log variances."""
        features = self.body(images)
        means = [m(f) for m, f in zip(self.narrow, features, strict=True)]
        spreads = [s(f).clamp(LEAST, MOST) for s, f in zip(self.spread, features, strict=True)]
        return (*means, *spreads)


def halves(features: Tensors) -> list[tuple[Tensor, Tensor]]:
    """Mean and log variance of each tensor that is released."""
    count = len(features) // 2
    return list(zip(features[:count], features[count:], strict=True))


def drawn(features: Tensors, generator: torch.Generator) -> Tensors:
    """Every value from its law; gradients flow into mean and log variance."""
    return tuple(
        mean + (spread / 2).exp() * normal_like(mean, generator)
        for mean, spread in halves(features)
    )


def nats(features: Tensors) -> Float[Tensor, " b"]:
    """``KL(N(mean, variance) || N(0, 1))`` of each image, summed over all released values."""
    total = torch.zeros(len(features[0]), device=features[0].device)
    for mean, spread in halves(features):
        each = (mean.square() + spread.exp() - 1 - spread) / 2
        total = total + each.unsqueeze(-1).flatten(1).sum(1)
    return total


def draw_surprise(observed: Tensors, features: Tensors, observations: int) -> Float[Tensor, " b"]:
    """``-log p`` of the mean of so many draws, in nats, up to a constant."""
    total = torch.zeros(len(observed[0]), device=observed[0].device)
    for seen, (mean, spread) in zip(observed, halves(features), strict=True):
        squared = observations * (seen - mean).square() * (-spread).exp()
        total = total + ((squared + spread) / 2).unsqueeze(-1).flatten(1).sum(1)
    return total


def draw_cell_surprise(low: Tensors, high: Tensors, features: Tensors) -> Float[Tensor, " b"]:
    """``-log P`` that each value of one draw lies between its ends, up to a constant.

    Where both ends are the same the density counts, in full: the scale is not the same for all.
    """
    means, spreads = zip(*halves(features), strict=True)
    total = gaussian_cell_surprise(low, high, means, tuple((s / 2).exp() for s in spreads))
    for a, b, spread in zip(low, high, spreads, strict=True):
        total = total + torch.where(a == b, spread / 2, 0).unsqueeze(-1).flatten(1).sum(1)
    return total


def draw_signal_and_noise(features: Tensors) -> tuple[Tensors, Tensors]:
    """Means and variances of the draws."""
    means, spreads = zip(*halves(features), strict=True)
    return tuple(means), tuple(spread.exp() for spread in spreads)


def draw_information(features: Tensors) -> Tensors:
    """Fisher's, of a draw about each mean, ``1 / variance``, and about each log variance, 1/2."""
    pairs = halves(features)
    means = (torch.exp(-spread) for _, spread in pairs)
    return (*means, *(torch.full_like(spread, 0.5) for _, spread in pairs))


class GaussianDraw:
    """A release that is drawn around `halves`, as the law that a defense has on its own."""

    def place(self, features: Tensors) -> Tensors:
        """Means, then log variances, as they are."""
        return features

    def information(self, features: Tensors) -> Tensors:
        """See `draw_information`."""
        return draw_information(features)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"]:
        """See `draw_surprise`."""
        return draw_surprise(observed, features, observations)

    def cell_surprise(self, low: Tensors, high: Tensors, features: Tensors) -> Float[Tensor, " b"]:
        """See `draw_cell_surprise`."""
        return draw_cell_surprise(low, high, features)


def summed(means: Tensors, variances: Sequence[Tensors]) -> Tensors:
    """Means, then the log variances of several normal noises on them together.

    Args:
        means: Of the first noise.
        variances: Of each noise on each tensor, shaped to multiply it.
    """
    parts = zip(means, *variances, strict=True)
    totals = [torch.stack([v.expand_as(mean) for v in each]).sum(0) for mean, *each in parts]
    return (*means, *(total.log() for total in totals))
