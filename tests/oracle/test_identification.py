"""Which of N candidates it was: what a Gaussian mechanism allows, and what an attack achieves.

Retrieval is the best attack there is where the candidates are equally likely and equally far from
each other. A mechanism whose noise is ``1 / mu`` times the largest distance between two inputs is
mu-Gaussian differentially private, and T messages of one input are ``mu sqrt(T)``.
"""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from worlds import GREY, PIXELS, SIDE, STD, build

from attacks.nearest_neighbor import NearestNeighbor
from defenses.gaussian_noise import GaussianNoise
from splitbench.data.images import LabeledImages
from splitbench.feed import Feed

HEIGHT = 4.0  # of the one pixel in which a candidate differs from grey, in standard deviations
ROUNDS = 250  # targets of each candidate
COPIES = 40  # of each candidate in the gallery, so that the scale of each feature is well known


def candidates(times=1):
    """One bright pixel each: all at the distance ``HEIGHT sqrt(2)`` from each other."""
    images = GREY + STD * HEIGHT * torch.eye(PIXELS).view(-1, 1, SIDE, SIDE).repeat(times, 1, 1, 1)
    return LabeledImages(images, torch.zeros(len(images), dtype=torch.int64), ("a", "b"))


def world_of(noise):
    """Candidates released under noise of a given standard deviation."""
    world = build(lambda x: x, defense=GaussianNoise(noise_std=1.0), auxiliary=100, targets=1)
    measured = float(world.deployment.defense.stds(world.deployment.features(world.targets))[0])
    defense = GaussianNoise(noise_std=noise / measured)
    world = build(lambda x: x, defense=defense, auxiliary=100, targets=1)
    feed = Feed(candidates(COPIES), seed=0, validation_fraction=0.0, flip=False)
    return replace(world, feed=feed, targets=candidates(ROUNDS).images())


def best_success(ratio):
    """Of the likeliest of N orthogonal signals, of this height over the noise."""
    return integrate.quad(
        lambda t: stats.norm.pdf(t - ratio) * stats.norm.cdf(t) ** (PIXELS - 1), -8, 8 + ratio
    )[0]


def bound(mu):
    """Most that any attack on a mu-private mechanism finds, who chooses among N at random else."""
    return float(stats.norm.cdf(mu + stats.norm.ppf(1 / PIXELS)))


@pytest.mark.parametrize("observations", [1, 4, 16])
def test_retrieval_finds_as_many_as_the_best_attack_and_no_more_than_privacy_allows(observations):
    noise = 4.0
    world = world_of(noise)
    attack = NearestNeighbor(neighbors=1, draws=400)
    guess = world.guess(attack, observations=observations)
    found = (guess.flatten(1).argmax(1) == world.targets.flatten(1).argmax(1)).double().mean()
    ratio = HEIGHT / noise * sqrt(observations)
    chance = 4 * np.sqrt(0.25 / len(world.targets))
    assert float(found) == pytest.approx(best_success(ratio), abs=chance)
    assert float(found) <= bound(sqrt(2) * ratio) + chance


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_the_best_attack_stays_below_what_privacy_allows(ratio):
    assert 1 / PIXELS < best_success(ratio) <= bound(sqrt(2) * ratio)
