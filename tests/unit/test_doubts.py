"""Flags of a record: each is raised by what it says, and by nothing near it."""

import dataclasses

import numpy as np
import pytest
import torch

from experiments.doubts import Findings, depends_on_batch, flags_of, payload_class_p
from experiments.page.flags import BY_NAME
from splitbench.checks.attack_world import Undefended, toy_world
from splitbench.record import Interval
from splitbench.rng import stream

SOUND = Findings(
    floor=False,
    gradient_free=False,
    knows_class=False,
    targets=200,
    leak=Interval(mean=0.5, low=0.4, high=0.6, n=200),
    accuracy=Interval(mean=0.8, low=0.7, high=0.9, n=200),
    majority=0.1,
    lengths=(100.0, 100.0),
    batch_dependent=False,
    diagnostics={"payload_class_p": 0.5, "residual_over_grey": 0.01, "flat_share": 0.0},
)
NOTHING = Interval(mean=-0.1, low=-0.2, high=-0.01, n=200)
TOO_MUCH = Interval(mean=1.1, low=1.05, high=1.2, n=200)

RAISES = {
    "few_targets": {"targets": 99},
    "gradients_mislead": {"gradient_free": True},
    "at_floor": {"leak": NOTHING},
    "above_one": {"leak": TOO_MUCH},
    "blind_leaks": {"floor": True, "leak": Interval(mean=0.03, low=0.02, high=0.04, n=200)},
    "utility_collapsed": {"majority": 0.7},
    "payload_varies": {"lengths": (100.0, 101.0)},
    "payload_tells_class": {"diagnostics": {"payload_class_p": 1e-4}},
    "batch_dependent": {"batch_dependent": True},
    "search_failed": {"diagnostics": {"residual_over_grey": 0.2}},
}
SPARES = {
    "few_targets": {"targets": 100},
    "at_floor": {"leak": Interval(mean=0.0, low=-0.1, high=0.1, n=200)},
    "above_one": {"leak": Interval(mean=1.0, low=1.0, high=1.0, n=200)},
    "blind_leaks": {"floor": True, "knows_class": True},
    "utility_collapsed": {"majority": 0.69},
    "payload_tells_class": {"diagnostics": {"payload_class_p": 0.002}},
    "search_failed": {"diagnostics": {"residual_over_noise": 1.4, "residual_over_grey": 0.7}},
}


def test_every_flag_that_is_tried_here_is_explained():
    assert {*RAISES} <= {*BY_NAME}


def test_a_sound_cell_has_no_flag():
    assert flags_of(SOUND) == ()


@pytest.mark.parametrize("flag", RAISES)
def test_a_flag_is_raised_by_what_it_says(flag):
    assert flags_of(dataclasses.replace(SOUND, **RAISES[flag])) == (flag,)


@pytest.mark.parametrize("flag", SPARES)
def test_a_flag_is_not_raised_on_the_other_side_of_its_limit(flag):
    assert flags_of(dataclasses.replace(SOUND, **SPARES[flag])) == ()


@pytest.mark.parametrize(
    ("grey", "guess", "flagged"),
    [(2.0, 1.95, True), (2.0, 1.45, False), (1.25, 1.25, True), (1.25, 1.1, False),
     (1.25, 0.98, False), (1.14, 1.14, False), (1.0, 1.0, False), (0.97, 0.99, False)],
)  # fmt: skip
def test_in_strong_noise_a_search_fails_that_explains_little_more_than_grey_does(
    grey, guess, flagged
):
    diagnostics = {"residual_over_noise": guess, "residual_over_grey": guess / grey}
    found = flags_of(dataclasses.replace(SOUND, diagnostics=diagnostics))
    assert found == (("search_failed",) if flagged else ())


@pytest.mark.parametrize(
    "diagnostics",
    [{"residual_over_noise": 2.1, "residual_over_grey": 0.11}, {"flat_share": 0.02}],
    ids=["more than the noise", "no slope"],
)
def test_a_search_fails_by_more_than_the_noise_or_without_a_slope(diagnostics):
    assert flags_of(dataclasses.replace(SOUND, diagnostics=diagnostics)) == ("search_failed",)


def test_a_search_that_explains_nearly_all_does_not_fail_by_the_little_noise_that_there_is():
    diagnostics = {"residual_over_noise": 50.0, "residual_over_grey": 0.01}
    assert flags_of(dataclasses.replace(SOUND, diagnostics=diagnostics)) == ()


def test_lengths_that_follow_the_class_are_told_from_lengths_that_do_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    lengths = rng.integers(100, 120, 200)
    assert payload_class_p(lengths, labels) > 0.01
    assert payload_class_p(lengths + 5 * labels, labels) < 1e-6


def test_lengths_that_are_all_equal_or_of_one_class_tell_nothing():
    labels = np.arange(10) % 2
    assert payload_class_p(np.full(10, 7), labels) == 1
    assert payload_class_p(np.arange(10), np.zeros(10, dtype=np.int64)) == 1


def test_chance_raises_the_flag_on_lengths_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    draws = [payload_class_p(rng.integers(0, 50, 100), rng.integers(0, 5, 100)) for _ in range(400)]
    assert np.mean(np.array(draws) < 0.05) == pytest.approx(0.05, abs=0.03)


class Mixing(Undefended):
    """Takes off what the images of a batch have in common."""

    def protect(self, features, *, generator):
        return tuple(f - f.mean(0, keepdim=True) for f in features)


@pytest.mark.parametrize(("defense", "mixes"), [(Mixing(), True), (Undefended(), False)])
def test_a_release_that_depends_on_its_batch_is_noticed(defense, mixes):
    deployment = dataclasses.replace(toy_world().deployment, defense=defense)
    images = torch.rand(9, 1, 8, 8, generator=stream(0, "images"))
    assert depends_on_batch(deployment, images) is mixes


def test_fresh_noise_is_no_dependence_on_the_batch():
    world = toy_world(noisy=True)
    assert not depends_on_batch(world.deployment, world.targets)


def test_two_images_are_too_few_to_ask():
    world = toy_world()
    deployment = dataclasses.replace(world.deployment, defense=Mixing())
    assert not depends_on_batch(deployment, world.targets[:2])
