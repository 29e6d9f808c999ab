"""Conditional entropy: what its penalty measures, what training does to it, where it can stand."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from defenses.chain import Chain
from defenses.class_mixture import ClassMixture, fit_mixture
from defenses.conditional_entropy import ConditionalEntropy
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.quantization import Quantization
from splitbench.checks.defense_world import defense_world
from splitbench.data.images import LabeledImages
from splitbench.rng import stream


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"weight": -1.0}, "weight"),
        ({"weight": 1.0, "noise_std": 0.0}, "noise_std=0"),
        ({"weight": 0.0, "noise_std": -1.0}, "noise_std"),
        ({"weight": 1.0, "components": 0}, "components"),
        ({"weight": 1.0, "threshold": 0.5}, "threshold"),
        ({"weight": 1.0, "learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_a_bad_setting_is_refused(keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        ConditionalEntropy(**keywords)


def clouds(count=3000, wide=0.4):
    """Two classes; the second has two clouds of its own. One tensor with four values."""
    labels = torch.arange(count) % 3 // 2
    means = torch.tensor([[2.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, -3.0]])
    which = torch.arange(count) % 3
    noise = torch.randn(count, 4, generator=stream(0, "clouds"))
    return means[which] + wide * noise, labels, which


class Values(nn.Module):
    """The pixels, as one tensor."""

    def forward(self, images):
        return (images.flatten(1),)


def fitted(features, labels, components):
    images = LabeledImages(features[:, None, None], labels, ("a", "b"))
    return fit_mixture(Values(), images, components=components, generator=stream(0))


def scatter(found, features, labels, *, noise_std=0.5, least=1.0):
    return found.scatter((features,), labels, noise_std=noise_std, least=least)


def test_the_centres_are_found_within_each_class():
    features, labels, which = clouds()
    labels = (which > 0).long()
    found = fitted(features, labels, 2)
    assert found.classes.tolist() == [0, 0, 1, 1]
    ends = sorted(found.centres[2:].round().tolist())
    assert ends == [[0, 0, 0, -3], [0, 3, 0, 0]]


def test_the_penalty_is_twice_the_entropy_of_the_noisy_component_beyond_the_noise():
    """For one class and centre: per value, 2 h(N(m, v + s)) - 2 h(N(0, s))."""
    generator = stream(0, "one")
    spread = torch.tensor([0.1, 0.5, 1.0, 2.0])
    features = spread * torch.randn(50_000, 4, generator=generator)
    labels = torch.zeros(50_000, dtype=torch.int64)
    found = ClassMixture(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))
    noise = 0.3 * math.sqrt(float(spread.square().mean()))
    total = np.sqrt(spread.numpy() ** 2 + noise**2)
    wanted = 2 * (stats.norm(scale=total).entropy() - stats.norm(scale=noise).entropy()).mean()
    penalty = scatter(found, features, labels, noise_std=0.3)
    assert float(penalty) == pytest.approx(wanted, rel=0.01)


def test_components_count_by_their_share_and_nothing_counts_below_the_threshold():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    found = ClassMixture(centres, torch.tensor([0, 1]))
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [10.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    noise = 0.25 * float(features.square().mean())
    wanted = 0.75 * math.log(1 + 1 / noise) / 2
    assert float(scatter(found, features, labels)) == pytest.approx(wanted, rel=1e-5)
    least = math.sqrt(1 + 1 / noise)
    half = scatter(found, features, labels, least=least)
    assert float(half) == pytest.approx(wanted / 2, rel=1e-5)
    assert float(scatter(found, features, labels, least=1.01 * least**2)) == 0


def test_the_size_of_the_features_is_no_way_out():
    features, labels, which = clouds()
    small = 0.01 * features
    plain = scatter(fitted(features, labels, 3), features, labels)
    shrunk = scatter(fitted(small, labels, 3), small, labels)
    torch.testing.assert_close(shrunk, plain, rtol=1e-3, atol=0)
    # Nor within an epoch, where the centres stand still: the first derivative is 0.
    centres = torch.stack([features[which == k].mean(0) for k in range(3)])
    scale = torch.ones((), requires_grad=True)
    scatter(ClassMixture(centres, torch.tensor([0, 0, 1])), scale * features, labels).backward()
    assert abs(float(scale.grad)) < 0.01 * float(plain)


def test_a_class_that_was_not_in_the_sample_takes_the_nearest_centre_of_all():
    found = ClassMixture(torch.tensor([[0.0], [5.0]]), torch.tensor([0, 1]))
    rows = torch.tensor([[4.0], [4.0], [1.0]])
    assert found.nearest(rows, torch.tensor([0, 2, 2])).tolist() == [0, 1, 0]


def test_a_class_of_few_images_has_as_many_centres():
    features, labels, _ = clouds(6)
    found = fitted(features, labels, 5)
    assert found.classes.tolist() == [0] * 4 + [1] * 2


@cache
def trained(weight):
    defense = ConditionalEntropy(
        weight=weight, noise_std=0.5, finetune_epochs=12, learning_rate=0.01, batch_size=60
    )
    return defense_world().deploy(defense)


def spread(system):
    """Of the features of the train role around centres found afterwards."""
    train = defense_world().train
    found = fit_mixture(system.split.client, train, components=3, generator=stream(0))
    (features,) = system.features(train.images())
    return float(scatter(found, features.flatten(1), train.labels))


def test_training_draws_the_features_of_a_class_together_relative_to_the_noise():
    """Against what cross-entropy under the same noise leaves after as many steps."""
    assert spread(trained(3.0)) < 0.6 * spread(trained(1e-9))


def test_the_noise_is_relative_to_the_features_as_they_were_left():
    system = trained(3.0)
    features = system.features(defense_world().train.images())
    sent = system.defense.protect(features, generator=stream(1))
    share = (sent[0] - features[0]).square().mean() / features[0].square().mean()
    assert float(share) == pytest.approx(0.25, rel=0.05)
    assert not hasattr(system.defense, "_mixture")
    assert not hasattr(system.defense, "_features")


@pytest.mark.parametrize("observations", [1, 4])
def test_the_likelihood_is_that_of_the_noise_around_the_trained_features(observations):
    world, system = defense_world(), trained(3.0)
    release = system.release(world.targets, generator=stream(0), observations=observations)
    features = system.features(world.targets)
    found = system.defense.negative_log_likelihood(
        release.tensors, features, observations=observations
    )
    rms = float(system.features(world.train.images())[0].square().mean().sqrt())
    law = torch.distributions.Normal(features[0], 0.5 * rms / observations**0.5)
    wanted = -law.log_prob(release.tensors[0]).flatten(1).sum(1)
    torch.testing.assert_close(found - found[0], wanted - wanted[0], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("place", ["before bits", "after a bottleneck"])
def test_it_is_a_plug_in_for_other_defenses(place):
    entropy = ConditionalEntropy(weight=1.0, finetune_epochs=1, batch_size=60)
    other = {
        "before bits": {"entropy": entropy, "bits": Quantization(bits=4)},
        "after a bottleneck": {
            "bottleneck": DistillationBottleneck(channels=2, epochs=1),
            "entropy": entropy,
        },
    }
    world = defense_world()
    system = world.deploy(Chain(members=other[place]))
    release = system.release(world.targets, generator=stream(0))
    assert system.is_likelihood(release, system.features(world.targets))
    assert system.predict(release).shape == (8, 3)
