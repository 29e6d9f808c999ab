"""The options of the distilled bottleneck: trained against decoders, drawn at a price per nat."""

import math

import pytest
import torch
from scipy import stats

from defenses.adversarial_training import AdversarialTraining
from defenses.chain import Chain
from defenses.distillation_bottleneck import DECODERS, LIVES, WIDTH, DistillationBottleneck
from defenses.gaussian_draw import draw_cell_surprise, nats
from defenses.quantization import Quantization
from defenses.top_k import TopK
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import defense_world
from splitbench.rng import stream

QUICK = {"channels": 2, "epochs": 6, "learning_rate": 0.02, "batch_size": 40}


def deployed(cut="relu", **options):
    world = defense_world(cut)
    return world, world.deploy(DistillationBottleneck(**{**QUICK, **options}))


@pytest.mark.parametrize("option", ["adversarial_weight", "nat_price"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_a_bad_option_is_refused(option, value):
    with pytest.raises(ValueError, match=option):
        DistillationBottleneck(channels=2, **{option: value})


def test_the_decoders_are_those_of_adversarial_training():
    other = AdversarialTraining(weight=1.0)
    assert (other.decoders, other.lives, other.width) == (DECODERS, LIVES, WIDTH)


def explained(weight):
    """Share of the images' variance that decoders explain that are trained once all stands."""
    world, system = deployed(adversarial_weight=weight, channels=1)
    images = world.train.images()
    released = system.release(images, generator=stream(0, "message")).tensors
    columns = torch.cat([released[0].flatten(1), torch.ones(len(images), 1)], dim=1).double()
    wanted = images.flatten(1).double()
    error = wanted - columns @ torch.linalg.lstsq(columns, wanted, driver="gelsd").solution
    return 1 - float(error.square().sum() / (wanted - wanted.mean(0)).square().sum())


def test_what_is_trained_against_decoders_explains_less_of_the_image():
    assert explained(20.0) < 0.8 * explained(0.0)


def test_every_nat_that_is_dearer_is_a_nat_less():
    told = []
    for price in (1e-4, 0.1):
        world, system = deployed(nat_price=price)
        told.append(float(nats(system.features(world.train.images())).mean()))
    assert told[1] < 0.7 * told[0]


@pytest.mark.parametrize("cut", ["relu", "branch", "hidden"])
def test_only_a_price_per_nat_makes_it_random(cut):
    for options in ({}, {"adversarial_weight": 1.0}):
        world, system = deployed(cut, epochs=1, **options)
        features = system.features(world.targets)
        sent = system.defense.protect(features, generator=stream(0))
        assert not system.defense.stochastic
        assert sent is features
        assert system.defense.negative_log_likelihood(sent, features) is None
        assert system.defense.cell_surprise(sent, sent, features) is None
        assert system.defense.information(features) is None


@pytest.mark.parametrize("observations", [1, 3])
def test_the_law_of_a_draw_is_that_of_the_variational_bottleneck(observations):
    """Whose own closed forms are tested elsewhere: an adaptive attack sees one and the same law."""
    world, system = deployed(epochs=1, nat_price=0.01)
    other = VariationalBottleneck(beta=0.01)
    features = system.features(world.targets)
    assert len(features) == 2
    release = system.release(world.targets, generator=stream(0), observations=observations)
    if observations == 1:
        (drawn,) = other.protect(features, generator=stream(0))
        assert torch.equal(release.tensors[0], drawn)
    found, wanted = (
        kind.negative_log_likelihood(release.tensors, features, observations=observations)
        for kind in (system.defense, other)
    )
    assert torch.equal(found, wanted)
    assert system.is_likelihood(release, features)
    for one, two in zip(
        system.defense.information(features), other.information(features), strict=True
    ):
        assert torch.equal(one, two)


def test_the_guarantee_names_the_options_that_are_used():
    said = DistillationBottleneck(channels=2, adversarial_weight=4.0, nat_price=0.01).guarantee()
    assert said.kind == "empirical"
    assert "decoders at weight 4" in said.statement
    assert "0.01 per nat" in said.statement
    plain = DistillationBottleneck(channels=2).guarantee().statement
    assert plain == "a bottleneck of 2 channels; no formal guarantee"


# What follows a draw in a chain


def test_a_rounded_draw_has_the_probability_of_its_cell():
    means, spreads = (torch.randn(5, 3, generator=stream(0, n)) for n in ("means", "spreads"))
    low = means - torch.rand(5, 3, generator=stream(0, "low"))
    high = low + 0.5
    law = stats.norm(loc=means.numpy(), scale=(spreads / 2).exp().numpy())
    wanted = -torch.from_numpy(law.cdf(high.numpy()) - law.cdf(low.numpy())).log().sum(1)
    found = draw_cell_surprise((low,), (high,), (means, spreads))
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-4, atol=1e-4)


def test_a_draw_that_is_sent_exactly_has_its_whole_density():
    means, spreads = (torch.randn(5, 3, generator=stream(0, n)) for n in ("means", "spreads"))
    seen = means + 0.2
    found = draw_cell_surprise((seen,), (seen,), (means, spreads))
    law = torch.distributions.Normal(means, (spreads / 2).exp())
    wanted = -law.log_prob(seen).sum(1)
    torch.testing.assert_close(found - found[0], wanted - wanted[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("last", [Quantization(bits=3), TopK(share=0.4)], ids=repr)
@pytest.mark.parametrize(
    "first",
    [
        DistillationBottleneck(channels=2, nat_price=0.001),
        VariationalBottleneck(beta=0.001, channels=2),
    ],
    ids=lambda defense: type(defense).__name__,
)
def test_an_attack_on_a_chain_knows_the_law_of_a_draw_that_was_cut_short(first, last):
    world = defense_world()
    system = world.deploy(Chain(members={"bottleneck": first, "last": last}))
    release = system.transmit(world.targets, generator=stream(0))
    features = system.features(world.targets)
    assert system.is_likelihood(release, features)
    truth, other = (
        system.mismatch(release, guess)
        for guess in (features, tuple(f.roll(1, 0) for f in features))
    )
    assert truth.shape == (len(world.targets),)
    assert float(truth.mean()) < float(other.mean())


def test_decoders_of_a_chain_learn_from_what_comes_out_of_the_bottleneck():
    members = {
        "bottleneck": DistillationBottleneck(channels=2, stride=2, epochs=1),
        "training": AdversarialTraining(weight=1.0, decoders=1, width=4, finetune_epochs=1),
    }
    world = defense_world()
    sent = world.deploy(Chain(members=members)).release(world.targets, generator=stream(0))
    assert sent.tensors[0].shape == (8, 2, 3, 3)
