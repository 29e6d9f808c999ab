"""Where nothing is there to be learnt no attack learns anything, whoever it is (O3, O4).

The settings are those with which every attack inverts the client where it can be inverted, on
images of four kinds that are far from alike: who knows anything has much to gain.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from everyone import DISCOVERED, everyone, kind
from torch import Tensor
from worlds import GREY, Plain, Static

from attacks.constant_color import ConstantColor
from attacks.key_recovery import KeyRecovery
from attacks.mean_image import MeanImage
from attacks.nearest_neighbor import NearestNeighbor
from attacks.ridge import Ridge
from defenses.secret_permutation import SecretPermutation
from splitbench.attack import Attack
from splitbench.checks.attack_world import CLASSES, SIDE, toy_images, toy_world
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.leakage import leakage
from splitbench.metrics.mean_squared_error import MeanSquaredError
from splitbench.rng import normal_like, stream
from splitbench.shadow import Traffic
from splitbench.statistics import Resampler, Summary
from splitbench.threat import Surface, ThreatModel

RESAMPLER = Resampler(level=0.99, resamples=1000)  # there are some eighty intervals
LEARNERS = [attack for attack in everyone() if not attack.floor]


class Whisper(Plain):
    """Noise of unit variance, and beneath it features of an eighth of that."""

    stochastic = True

    def protect(self, features, *, generator):
        return tuple(normal_like(f, generator) + 0.7 * f for f in features)


class KeyedStatic(SecretPermutation):
    """Noise that has nothing to do with the image, in a secret order."""

    stochastic = True

    def protect(self, features, *, generator):
        static = tuple(normal_like(f, generator) for f in features)
        return super().protect(static, generator=generator)


@dataclass(frozen=True)
class Channel:
    """The toy client behind some defense, more images than it has, and many more targets."""

    deployment: Deployment
    feed: Feed
    targets: Tensor

    def surface(self, purpose: str, threat: ThreatModel) -> Surface:
        others = toy_images(400, "other users")
        return Surface(
            self.deployment,
            threat,
            feed=self.feed,
            classes=CLASSES,
            image_shape=(1, SIDE, SIDE),
            seed=0,
            purpose=purpose,
            traffic=Traffic(self.deployment, others, observations=1, seed=0),
        )

    def guess(self, attack: Attack, threat: ThreatModel | None = None) -> Tensor:
        threat = threat or ThreatModel()
        attack.fit(self.surface("fit", threat), generator=stream(0, "fit"))
        release = self.deployment.release(self.targets, generator=stream(0, "victim"))
        surface = self.surface("recover", threat)
        known = release[slice(attack.max_targets)]
        return attack(known, surface, generator=stream(0, "recover"))

    def leak(self, guess: Tensor, truth: Tensor) -> Summary:
        """L of guesses, above the best of the blind ones: the law's own mean is among them."""
        blind = [self.guess(floor)[: len(guess)] for floor in (ConstantColor(), MeanImage())]
        guesses = (guess, *blind, torch.full_like(guess, GREY))
        mse, *floors = (MeanSquaredError()(g, truth).numpy() for g in guesses)
        return leakage(mse, np.stack(floors, axis=1), resampler=RESAMPLER)


@cache
def channel(defense: type[Defense] = Plain, *, silent: bool = False) -> Channel:
    deployment = toy_world(silent=silent).deployment
    chosen = defense()
    if not isinstance(chosen, Plain):
        chosen.fit(deployment.split, toy_images(50, "train"), generator=stream(0, "defense"))
    return Channel(
        replace(deployment, defense=chosen.eval()),
        Feed(toy_images(400, "auxiliary"), seed=0),
        toy_images(256, "targets").images(),
    )


def test_no_attack_is_left_out():
    assert {type(attack) for attack in everyone()} == {*DISCOVERED}
    assert len(DISCOVERED) > 15


@pytest.mark.parametrize("attack", LEARNERS, ids=kind)
def test_with_these_settings_everyone_learns_where_there_is_something(attack):
    world = channel()
    guess = world.guess(attack)
    assert world.leak(guess, world.targets[: len(guess)]).low > 0.1


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_from_noise_nobody_learns_anything(attack):
    world = channel(Static)
    guess = world.guess(attack)
    assert world.leak(guess, world.targets[: len(guess)]).low <= 0


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_from_a_constant_nobody_learns_anything(attack):
    world = channel(silent=True)
    guess = world.guess(attack)
    assert world.leak(guess, world.targets[: len(guess)]).low <= 0


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_the_release_of_another_image_says_nothing(attack):
    world = channel()
    guess = world.guess(attack)
    assert world.leak(guess.roll(1, 0), world.targets[: len(guess)]).low <= 0


def test_from_noise_in_a_secret_order_nothing_is_learnt():
    world = channel(KeyedStatic)
    attack = KeyRecovery(decoder=NearestNeighbor(neighbors=3))
    leak = world.leak(world.guess(attack, ThreatModel(key="secret")), world.targets)
    assert leak.low <= 0
    assert attack.export_state(), "no key was looked for"


def test_a_whisper_is_heard():
    """The interval is narrow enough to find a channel that leaks next to nothing."""
    world = channel(Whisper)
    leak = world.leak(world.guess(Ridge()), world.targets)
    assert 0 < leak.low < leak.high < 0.5
