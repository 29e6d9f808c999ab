"""Shredder: the noise is learnt, sampled, and known as well to the adversary as to the device."""

import copy
import math
from functools import cache

import pytest
import torch
from scipy import stats
from torch.nn import functional

from defenses.laplace_law import LaplaceLaw
from defenses.noise_scale import QUIETEST
from defenses.shredder import Shredder
from splitbench.rng import stream
from tests.unit.test_defenses_training import trained

CUT = "hidden"
SETTING = {"noise_std": 1.0, "noise_epochs": 6, "tensors": 6, "batch_size": 24}


@cache
def fitted(**changes):
    return trained(CUT).deploy(Shredder(**{**SETTING, "noise_learning_rate": 0.05, **changes}))


def task_loss(deployment, locations=None):
    """Cross-entropy of the train role under the fitted noise, or under other locations."""
    world = trained(CUT)
    deployment = copy.deepcopy(deployment)
    if locations is not None:
        deployment.defense.law.location_0 = locations
    images, labels = world.train.images().repeat(8, 1, 1, 1), world.train.labels.repeat(8)
    sent = deployment.release(images, generator=stream(0, "message"))
    return float(functional.cross_entropy(deployment.predict(sent), labels))


def test_training_changes_the_law_and_makes_it_cost_the_task_less():
    raw, learnt = fitted(noise_epochs=0), fitted(reward=0.0)
    assert not torch.equal(raw.defense.law.location_0, learnt.defense.law.location_0)
    assert not torch.equal(raw.defense.law.std_0, learnt.defense.law.std_0)
    assert task_loss(learnt) < 0.9 * task_loss(raw)


@pytest.mark.parametrize("rewards", ["power", "spread"])
def test_the_reward_makes_the_noise_larger(rewards):
    def power(deployment):
        law = deployment.defense.law
        counted = law.std_0.square()
        return float((counted + law.location_0.square() * (rewards == "power")).mean())

    assert power(fitted(reward=1.0, rewards=rewards)) > 1.2 * power(fitted(reward=0.0))


def test_the_reward_of_the_spread_leaves_more_noise_to_who_knows_the_location():
    spread, power = (fitted(reward=1.0, rewards=rewards) for rewards in ("spread", "power"))
    assert spread.defense.snr_db < power.defense.snr_db


def test_two_messages_differ_and_neither_repeats_the_location():
    deployed, image = fitted(), trained(CUT).targets[:1].repeat(2, 1, 1, 1)
    sent = deployed.release(image, generator=stream(0, "message")).tensors[0]
    noise = sent - deployed.features(image)[0]
    assert not (noise[0] == noise[1]).any()
    assert not (noise == deployed.defense.law.location_0).any()


def test_the_ratio_of_signal_to_noise_falls_with_the_knob_and_is_that_of_the_messages():
    found = [fitted(noise_std=std).defense.snr_db for std in (0.5, 1.0, 2.0)]
    assert found == sorted(found, reverse=True)
    deployed, images = fitted(), trained(CUT).train.images()
    clean = deployed.features(images)[0]
    often = images.repeat(20, 1, 1, 1)
    sent = deployed.release(often, generator=stream(0, "message")).tensors[0]
    noise = sent - clean.repeat(20, 1) - deployed.defense.law.location_0
    measured = 10 * math.log10(float(clean.square().mean() / noise.square().mean()))
    assert deployed.defense.snr_db == pytest.approx(measured, abs=0.1)
    assert Shredder(noise_std=0.0).snr_db == math.inf


def test_the_learnt_location_serves_the_task_better_than_none_or_the_same_one_elsewhere():
    deployed = fitted(reward=0.0)
    location = deployed.defense.law.location_0
    others = [location.roll(shift) for shift in range(1, len(location))] + [0 * location]
    assert task_loss(deployed) < min(task_loss(deployed, other) for other in others)


def test_the_likelihood_is_the_product_of_the_laws_of_the_elements():
    defense = fitted().defense
    z, f, g = torch.randn(3, 5, 8, generator=stream(0, "oracle"))
    law = stats.laplace(defense.law.location_0.numpy(), defense.law.std_0.numpy() / math.sqrt(2))
    wanted = (law.logpdf(z - g) - law.logpdf(z - f)).sum(1)
    one, other = (defense.negative_log_likelihood((z,), (guess,)) for guess in (f, g))
    assert (one - other).tolist() == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-3)
    cell = defense.cell_surprise((z - 0.1,), (z + 0.2,), (f,))
    mass = -(torch.tensor(law.cdf(z + 0.2 - f)) - torch.tensor(law.cdf(z - 0.1 - f))).log().sum(1)
    assert cell.tolist() == pytest.approx(mass.tolist(), rel=1e-4)


def test_many_releases_pool_to_the_features_moved_by_the_location():
    deployed, images = fitted(), trained(CUT).targets
    pooled = deployed.release(images, generator=stream(0, "message"), observations=400).tensors[0]
    moved = deployed.features(images)[0] + deployed.defense.law.location_0
    error = ((pooled - moved) / deployed.defense.law.std_0).square().mean().sqrt()
    assert float(error) < 2 * math.sqrt(0.5 / 400)  # the variance of a median is half the mean's


def test_the_law_is_the_median_and_the_mean_distance_to_it():
    draws = torch.tensor([[1.0, 5.0], [2.0, 5.0], [9.0, 5.0]])
    law = LaplaceLaw()
    law.fit((draws,))
    assert law.locations[0].tolist() == [2.0, 5.0]
    loud = math.sqrt(2) * 8 / 3
    assert law.stds[0].tolist() == pytest.approx([loud, QUIETEST * loud / 2])


def test_an_unfitted_law_and_settings_out_of_range_are_refused():
    with pytest.raises(RuntimeError, match="call fit"):
        Shredder(noise_std=1.0).protect((torch.zeros(1, 2),), generator=stream(0, "x"))
    for wrong, said in (
        ({"noise_std": -1.0}, "noise_std=-1.0"),
        ({"noise_std": math.inf}, "noise_std=inf"),
        ({"reward": -0.1}, "reward=-0.1"),
        ({"tensors": 1}, "at least 2"),
        ({"noise_epochs": -1}, "must not be negative"),
        ({"noise_learning_rate": 0.0}, "must be positive"),
    ):
        with pytest.raises(ValueError, match=said):
            Shredder(**{"noise_std": 1.0, **wrong})
