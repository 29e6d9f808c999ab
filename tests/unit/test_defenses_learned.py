"""Defenses that train the client: NoPeek, the variational bottleneck, adversarial training."""

import copy
import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from defenses.adversarial_training import AdversarialTraining
from defenses.decoders import Decoders, Rivals
from defenses.gaussian_draw import LEAST, MOST, halves, nats
from defenses.no_peek import NoPeek
from defenses.proxy_decoder import ProxyDecoder
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import defense_world
from splitbench.dependence import distance_correlation
from splitbench.release import TensorSpec
from splitbench.rng import stream


@pytest.mark.parametrize(
    ("kind", "keywords", "complaint"),
    [
        (NoPeek, {"weight": -1.0}, "weight"),
        (NoPeek, {"weight": math.inf}, "weight"),
        (NoPeek, {"weight": 1.0, "batch_size": 0}, "batch_size"),
        (VariationalBottleneck, {"beta": 0.0}, "beta"),
        (VariationalBottleneck, {"beta": 0.1, "channels": 0}, "channels"),
        (VariationalBottleneck, {"beta": 0.1, "learning_rate": 0.0}, "learning_rate"),
        (AdversarialTraining, {"weight": -1.0}, "weight"),
        (AdversarialTraining, {"weight": 1.0, "decoders": 0}, "decoders"),
        (AdversarialTraining, {"weight": 1.0, "lives": -1}, "lives"),
        (AdversarialTraining, {"weight": 1.0, "finetune_epochs": -1}, "finetune_epochs"),
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(**keywords)


# NoPeek


def dependence(weight):
    world = defense_world()
    deployed = world.deploy(
        NoPeek(weight=weight, finetune_epochs=4, learning_rate=0.01, batch_size=60)
    )
    images = world.train.images()
    return float(distance_correlation(images, deployed.features(images)[0]))


def test_nopeek_lowers_the_distance_correlation_of_image_and_release():
    assert dependence(8.0) < 0.7 * dependence(0.0)


def test_a_batch_that_is_too_small_for_the_statistic_is_trained_on_the_task_alone():
    images, released = torch.rand(3, 1, 2, 2), (torch.rand(3, 5),)
    penalty = NoPeek(weight=1.0).penalty(images, torch.zeros(3, dtype=torch.int64), released)
    assert float(penalty) == 0


def test_nopeek_looks_at_all_released_tensors_together():
    images = torch.rand(40, 1, 3, 3, generator=stream(0, "images"))
    noise = torch.rand(40, 9, generator=stream(0, "noise"))
    labels = torch.zeros(40, dtype=torch.int64)
    alone = NoPeek(weight=1.0).penalty(images, labels, (noise,))
    beside = NoPeek(weight=1.0).penalty(images, labels, (noise, 10 * images))
    assert float(beside) > 0.9 > 0.2 > float(alone)


# Variational bottleneck


def gaussian(count=5):
    means = torch.randn(count, 3, 2, 2, generator=stream(0, "means"))
    spreads = torch.randn(count, 3, 2, 2, generator=stream(0, "spreads"))
    return means, spreads


def test_the_price_is_the_divergence_from_a_standard_normal_distribution():
    means, spreads = gaussian()
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(means, (spreads / 2).exp()),
        torch.distributions.Normal(0.0, 1.0),
    )
    torch.testing.assert_close(nats((means, spreads)), wanted.sum((1, 2, 3)))


@pytest.mark.parametrize("observations", [1, 4])
def test_the_likelihood_is_that_of_the_mean_of_so_many_draws(observations):
    means, spreads = gaussian()
    seen = means + 0.3
    scale = (spreads / 2).exp() / observations**0.5
    wanted = -torch.distributions.Normal(means, scale).log_prob(seen).sum((1, 2, 3))
    defense = VariationalBottleneck(beta=0.1)
    found = defense.negative_log_likelihood((seen,), (means, spreads), observations=observations)
    # Both up to a constant: that of k draws is the same for all images.
    torch.testing.assert_close(found - found[0], wanted - wanted[0], atol=1e-4, rtol=1e-5)


def test_what_is_sent_is_drawn_around_the_mean_with_the_variance():
    means, spreads = torch.full((4000, 2), 3.0), torch.full((4000, 2), math.log(0.25))
    (sent,) = VariationalBottleneck(beta=0.1).protect((means, spreads), generator=stream(0))
    assert float(sent.mean()) == pytest.approx(3.0, abs=0.03)
    assert float(sent.std()) == pytest.approx(0.5, abs=0.03)


def test_nats_that_are_dearer_are_fewer():
    world, fits = defense_world(), 4
    told = {}
    for beta, seed in product((0.001, 0.1), range(fits)):
        defense = VariationalBottleneck(
            beta=beta, channels=2, finetune_epochs=4, learning_rate=0.05, batch_size=40
        )
        features = world.deploy(defense, seed=seed).features(world.train.images())
        told[beta, seed] = float(nats(features).mean())
        assert all(LEAST <= float(s.min()) <= float(s.max()) <= MOST for _, s in halves(features))
    less = [told[0.001, seed] - told[0.1, seed] for seed in range(fits)]
    # Student's t over fits: by chance once in a hundred.
    assert np.mean(less) > stats.t.ppf(0.99, fits - 1) * np.std(less, ddof=1) / fits**0.5


# Adversarial training


def test_an_untrained_proxy_paints_the_mean_image():
    mean = torch.rand(2, 6, 5, generator=stream(0))
    specs = [TensorSpec("map", (3, 3, 2)), TensorSpec("tokens", (4, 7)), TensorSpec("row", (9,))]
    decoder = ProxyDecoder(specs, mean, width=4)
    released = tuple(torch.rand(8, *spec.shape, generator=stream(1)) for spec in specs)
    torch.testing.assert_close(decoder(released), mean.expand(8, 2, 6, 5))


class Paints(nn.Module):
    """One grey value, whatever it sees."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, released):
        return self.value + 0 * released[0]


def test_decoders_learn_and_are_started_anew_one_after_the_other():
    born = []

    def make():
        born.append(Paints(0.0))
        return born[-1]

    players, images = Decoders(2, make, life=4), torch.ones(3, 1, 2, 2)
    counts, errors = [], []
    for _ in range(12):
        errors.append(float(players.learn((images,), images)[0]))
        counts.append(len(born))
    assert errors[3] < errors[0] == 1
    assert counts[3] == 2  # nobody is replaced before one life is over
    assert counts[-1] == 6  # two rounds of two
    assert all(after - before <= 1 for before, after in pairwise(counts))


def test_the_best_decoder_counts():
    values = iter([0.5, 0.9])
    players = Decoders(2, lambda: Paints(next(values)), life=10)
    images = torch.ones(3, 1, 2, 2)
    error, _ = players.learn((images,), images)
    assert float(error) == pytest.approx(0.01, abs=1e-6)


def test_the_explained_share_and_its_gradient_are_those_of_the_best_decoder_as_it_stood():
    world = defense_world()
    rivals = Rivals(
        world.split.client, world.train, count=3, lives=0, width=4, steps=9, generator=stream(0)
    )
    images = world.train.images()
    for part in images.split(24)[:8]:
        rivals.explained(world.features(part), part)
    players = copy.deepcopy([decoder for decoder, _ in rivals._decoders._players])
    features = tuple(f.requires_grad_() for f in world.features(images))
    floor = (images - images.mean(0)).square().mean()
    shares = [1 - functional.mse_loss(decoder(features), images) / floor for decoder in players]
    wanted = max(shares, key=lambda share: float(share.detach()))
    found = rivals.explained(features, images)
    assert 0 < float(wanted.detach()) < 1
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, features), torch.autograd.grad(wanted, features)
    )
    after = [decoder for decoder, _ in rivals._decoders._players]
    assert not torch.equal(after[0](features), players[0](features))


def test_nothing_is_gained_where_no_decoder_beats_the_blind_guess():
    world = defense_world()
    rivals = Rivals(
        world.split.client, world.train, count=1, lives=0, width=4, steps=9, generator=stream(0)
    )
    features = tuple(f.requires_grad_() for f in world.features(world.train.images()))
    share = rivals.explained(features, 1 - world.train.images())  # of other images than it knows
    assert float(share) == 0
    assert not share.requires_grad


def test_nothing_is_trained_at_weight_zero():
    world = defense_world()
    deployed = world.deploy(AdversarialTraining(weight=0.0))
    assert torch.equal(deployed.features(world.targets)[0], world.features(world.targets)[0])
