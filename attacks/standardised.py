"""Releases as rows of unit variance: a piece that probes share."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attacks.retrieval import standardisation


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
