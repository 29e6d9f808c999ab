"""Worlds of which the best estimate is known for every single image, not only what it errs.

Held against that estimate on the very same targets, an attack's error is known to a tenth of a
percent of the least possible one: what the images and the noise add to both cancels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F
from worlds import (
    GREY,
    PIXELS,
    SIDE,
    STD,
    Erasure,
    Outcome,
    World,
    build,
    gaussian_matrix,
    linear,
    smooth_covariance,
    wiener_risk,
)

from defenses.gaussian_noise import GaussianNoise
from splitbench.attack import Attack
from splitbench.release import Tensors

SIZES = {"auxiliary": 20_000, "targets": 20_000}


@dataclass(frozen=True)
class Law:
    """A world and its posterior mean.

    Attributes:
        world: What is attacked.
        best: The posterior mean of every target, ``(n, 1, 4, 4)`` in [0, 1].
        risk: Its expected squared error, in units of the variance of a pixel.
        observations: Releases of each target.
    """

    world: World
    best: Tensor
    risk: float
    observations: int = 1

    def guess(self, attack: Attack, *, count: int | None = None) -> Tensor:
        """What an attack makes of the first `count` targets."""
        return self.world.guess(attack, count=count, observations=self.observations)

    def excess(self, guess: Tensor) -> Outcome:
        """How much more a guess errs than the best estimate, as a share of the risk."""
        more = self.world.squares(guess) - self.world.squares(self.best[: len(guess)])
        return Outcome.of(more / self.risk)


def known(
    world: World, estimate: Callable[[Tensors], Tensor], risk: float, *, observations: int = 1
) -> Law:
    """The law of a world.

    Args:
        world: What is attacked.
        estimate: What is released of some images, to their posterior means, ``(n, 16)`` of pixels
            of zero mean and unit variance.
        risk: What it errs on average.
        observations: Releases of each target.
    """
    best = estimate(world.release(observations=observations).tensors).double()
    images = (GREY + STD * best).float().view(-1, 1, SIDE, SIDE)
    return Law(world, images, risk, observations)


def wiener(world: World, matrix: Tensor, covariance: Tensor, noise: float, often: int) -> Law:
    """Of ``W x + noise n``, averaged over so many releases."""
    cross = covariance @ matrix.T
    total = matrix @ cross + noise**2 / often * torch.eye(len(matrix), dtype=torch.float64)
    filtered = torch.linalg.solve(total, cross.T)
    risk = wiener_risk(matrix, noise / sqrt(often), covariance)
    return known(
        world, lambda sent: sent[0].flatten(1).double() @ filtered, risk, observations=often
    )


def white() -> Tensor:
    return torch.eye(PIXELS, dtype=torch.float64)


def noisy(observations: int = 1, **sizes: int) -> Law:
    """O5, O7: twelve random sums of smooth images under noise."""
    matrix, covariance = gaussian_matrix(12), smooth_covariance()
    defense = GaussianNoise(noise_std=0.6)
    world = build(linear(matrix), defense=defense, covariance=covariance, **{**SIZES, **sizes})
    return wiener(world, matrix, covariance, world.noise, observations)


def scalars() -> Law:
    """O9: every pixel under noise of a quarter of its variance."""
    world = build(lambda x: x, defense=GaussianNoise(noise_std=0.5), **SIZES)
    return wiener(world, white(), white(), world.noise, 1)


def projected(rows: int) -> Law:
    """O11: some random sums of independent pixels."""
    matrix = gaussian_matrix(rows)
    return wiener(build(linear(matrix), **SIZES), matrix, white(), 0.0, 1)


def averaged() -> Law:
    """O15: means of four independent pixels."""
    world = build(lambda x: F.avg_pool2d(x, 2), **SIZES)
    pixels = torch.eye(PIXELS, dtype=torch.float64).view(-1, 1, SIDE, SIDE)
    return wiener(world, F.avg_pool2d(pixels, 2).flatten(1).T, white(), 0.0, 1)


def principal() -> Law:
    """O20: the six leading principal components of smooth images."""
    covariance = smooth_covariance()
    axes = torch.linalg.eigh(covariance).eigenvectors[:, -6:].T
    world = build(linear(axes), covariance=covariance, **SIZES)
    return wiener(world, axes, covariance, 0.0, 1)


def rectified() -> Law:
    """O10: what is above the mean."""

    def estimate(sent: Tensors) -> Tensor:
        seen = sent[0].flatten(1)
        return torch.where(seen > 0, seen, -sqrt(2 / pi))

    return known(build(F.relu, **SIZES), estimate, (1 - 2 / pi) / 2)


def signs() -> Law:
    """O13: on which side of the mean."""
    world = build(lambda x: torch.where(x >= 0, 1.0, -1.0), **SIZES)
    return known(world, lambda sent: sqrt(2 / pi) * sent[0].flatten(1), 1 - 2 / pi)


def largest() -> Law:
    """O16: the larger one of two neighbours."""

    def estimate(sent: Tensors) -> Tensor:
        seen, normal = sent[0].double(), torch.distributions.Normal(0, 1)
        each = (seen - normal.log_prob(seen).exp() / normal.cdf(seen)) / 2
        return each.repeat_interleave(2, dim=3).flatten(1)

    world = build(lambda x: F.max_pool2d(x, (1, 2)), **SIZES)
    return known(world, estimate, 0.629866)


def erased(observations: int = 1) -> Law:
    """O17: half of the pixels, another half each time."""
    world = build(lambda x: x, defense=Erasure(rate=0.5), **SIZES)
    return known(
        world, lambda sent: sent[0].flatten(1), 0.5**observations, observations=observations
    )
