"""Releases as rows, and what is made of them: pieces that probes share."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attacks.retrieval import standardisation
from splitbench.threat import Surface


class Standardised:
    """Centres and scales each value of a release by what it does over auxiliary images.

    Values that never change become 0.
    """

    def __init__(self, mean: Float[Tensor, " d"], scale: Float[Tensor, " d"]) -> None:
        """Take up what `of` measured."""
        self.mean = mean
        self.scale = scale

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Standardised":
        """Measure."""
        return cls(features.mean(0), standardisation(features))

    def __call__(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Standardise; without gradients."""
        return (features - self.mean) * self.scale


def times(surface: Surface, draws: int) -> int:
    """How many releases of an image an adversary should ask for that would like so many.

    One under a query budget; fewer where each release is pooled from several observations.
    """
    if surface.threat.query_budget is not None:
        return 1
    return max(1, draws // surface.threat.observations)


def drawn(surface: Surface, values: Tensor, draws: int) -> tuple[Tensor, list[Tensor]]:
    """All auxiliary images as flat releases, again and again where these are random.

    Args:
        surface: Of the adversary.
        values: What is known about each image of ``surface.auxiliary``.
        draws: Releases of each image that are wanted, >= 1.

    Returns:
        The values ``(n,)``, and for each draw the releases ``(n, d)`` that belong to them; one draw
        only where nothing is random.
    """
    first = [(known, release.flat()) for known, release in surface.labelled_pairs(values)]
    views = [torch.cat([features for _, features in first])]
    for _ in range(times(surface, draws) - 1):
        parts: list[Tensor] = []
        for _, release in surface.labelled_pairs(values):
            parts.append(release.flat())
            if len(parts) == 1 and torch.equal(parts[0], first[0][1]):
                return torch.cat([known for known, _ in first]), views
        views.append(torch.cat(parts))
    return torch.cat([known for known, _ in first]), views


def balance(values: Int[Tensor, " n"], count: int) -> Float[Tensor, " values"]:
    """Weights that give every value that occurs the same say; their mean over examples is 1."""
    times = torch.bincount(values, minlength=count).float()
    occurring = (times > 0).sum()
    return torch.where(times > 0, len(values) / (occurring * times.clamp(min=1)), 0.0)


def balanced_loss(
    scores: Float[Tensor, "b values"],
    values: Int[Tensor, " b"],
    weights: Float[Tensor, " values"],
) -> Float[Tensor, ""]:
    """Cross-entropy in nats, every example with the weight of its value."""
    losses = functional.cross_entropy(scores, values, reduction="none")
    return (losses * weights[values]).mean()
