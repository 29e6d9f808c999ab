"""What a search says about itself without the truth: what it explains, whether it had a slope."""

import dataclasses
import math

import pytest

from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.ridge import Ridge
from attacks.search_diagnostics import LARGEST, search_diagnostics
from experiments.doubts import search_failed
from splitbench.checks.attack_world import Undefended, toy_world
from splitbench.rng import normal_like, stream
from splitbench.threat import ThreatModel


def diagnosed(world, **settings):
    attack = LikelihoodMaximization(**settings)
    attack.fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))
    surface, release = world.surface("recover", ThreatModel()), world.release()
    guess = attack(release, surface, generator=stream(0, "recover"))
    return attack.diagnostics(guess, release, world.surface("diagnose", ThreatModel()))


def test_a_search_that_converges_explains_the_release():
    found = diagnosed(toy_world(), weights=(0.0,))
    assert found["residual_over_grey"] < 1e-3
    assert found["flat_share"] == 0
    assert "residual_over_noise" not in found


def test_a_search_that_hardly_moves_leaves_what_a_grey_image_leaves():
    found = diagnosed(toy_world(), weights=(0.0,), steps=1, learning_rate=1e-6)
    assert found["residual_over_grey"] == pytest.approx(1, abs=1e-3)


def test_where_the_channel_is_noisy_the_residual_is_held_against_the_noise():
    world = toy_world(noisy=True)
    moved = diagnosed(world, weights=(0.0,))
    stuck = diagnosed(world, weights=(0.0,), steps=1, learning_rate=1e-6)
    assert moved["residual_over_noise"] < 1 < stuck["residual_over_noise"]


class Loud(Undefended):
    """Adds so many times as much noise as the features vary."""

    stochastic = True

    def __init__(self, times):
        super().__init__()
        self.times = times

    def protect(self, features, *, generator):
        return tuple(f + self.times * f.std() * normal_like(f, generator) for f in features)


def loud(times):
    world = toy_world()
    deployment = dataclasses.replace(world.deployment, defense=Loud(times))
    object.__setattr__(world, "deployment", deployment)
    return world


def stuck(world):
    return diagnosed(world, weights=(0.0,), steps=1, learning_rate=1e-6)


def test_in_noise_as_strong_as_the_features_a_search_that_stays_grey_is_told_from_one_that_moves():
    assert stuck(loud(1.0))["residual_over_noise"] < 2
    assert search_failed(stuck(loud(1.0)))
    assert not search_failed(diagnosed(loud(1.0), weights=(0.0,)))


def test_of_a_release_that_is_all_noise_no_search_is_expected_to_explain_anything():
    assert not search_failed(stuck(loud(30.0)))


def test_a_client_without_a_slope_is_noticed():
    assert diagnosed(toy_world(silent=True), weights=(0.0,))["flat_share"] == 1


def test_an_attack_that_does_not_search_says_nothing():
    world = toy_world()
    attack = Ridge().fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))
    surface, release = world.surface("recover", ThreatModel()), world.release()
    guess = attack(release, surface, generator=stream(0, "recover"))
    assert attack.diagnostics(guess, release, surface) == {}


def test_what_is_infinite_or_unknown_is_cut_to_a_number_that_a_record_can_hold():
    class Endless(Undefended):
        """Nothing explains its release."""

        def negative_log_likelihood(self, observed, features, *, observations=1):
            return features[0].flatten(1).sum(1) * math.inf

    world = toy_world()
    deployment = dataclasses.replace(world.deployment, defense=Endless())
    object.__setattr__(world, "deployment", deployment)
    surface = world.surface("diagnose", ThreatModel())
    found = search_diagnostics(world.targets, world.release(), surface, None)
    assert all(math.isfinite(value) and value <= LARGEST for value in found.values())
    assert found["flat_share"] == 1
