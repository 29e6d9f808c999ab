"""Neighbours in a chain that train the client against penalties: one loop, all of their effects."""

from functools import cache

import pytest
import torch

from defenses.adversarial_training import AdversarialTraining
from defenses.chain import Chain
from defenses.class_mixture import fit_mixture
from defenses.conditional_entropy import ConditionalEntropy
from defenses.decoders import Rivals
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.fisher_regularization import FisherRegularization
from defenses.gaussian_noise import GaussianNoise
from defenses.no_peek import NoPeek
from defenses.penalized_training import PenalizedTraining
from defenses.protected_split import behind
from defenses.resistance_transfer import ResistanceTransfer
from splitbench.checks.defense_messages import equal
from splitbench.checks.defense_world import defense_world
from splitbench.dependence import distance_correlation
from splitbench.rng import stream

LONG = {"finetune_epochs": 12, "learning_rate": 0.01, "batch_size": 60}
SHORT = {"finetune_epochs": 2, "learning_rate": 0.01, "batch_size": 50}


def chained(*members):
    return Chain(members={str(i): member for i, member in enumerate(members)})


class InTurn(Chain):
    """Fits every member by itself, each on what those before it have left."""

    def fit(self, split, train, *, generator, on_step=None):
        members = list(self.stages)
        for i, member in enumerate(members):
            member.fit(behind(split, members[:i], generator), train, generator=generator)


@cache
def measured(kind, dependence, entropy):
    """Distance correlation with the image, and scatter around centres, of the trained features."""
    members = {
        "dependence": NoPeek(weight=dependence, **LONG),
        "entropy": ConditionalEntropy(weight=entropy, **LONG),
    }
    world = defense_world()
    system = world.deploy(kind(members=members))
    images = world.train.images()
    features = system.features(images)
    mixture = fit_mixture(system.split.client, world.train, components=3, generator=stream(0))
    scatter = mixture.scatter(features, world.train.labels, noise_std=0.5, least=1.0)
    return float(distance_correlation(images, features[0])), float(scatter)


def test_both_ends_are_reached_at_once():
    """Each below the undefended model, and below what its neighbour leaves of it by itself."""
    told, scatter = measured(Chain, 8.0, 3.0)
    plain_told, plain_scatter = measured(Chain, 0.0, 0.0)
    assert told < 0.3 * plain_told
    assert scatter < 0.8 * plain_scatter
    assert told < 0.3 * measured(Chain, 0.0, 3.0)[0]
    assert scatter < 0.9 * measured(Chain, 8.0, 1e-9)[1]


def test_trained_in_turn_the_second_may_undo_what_the_first_has_learnt():
    """As it does here; LeNet-5 kept a part of it."""
    (together, _), (apart, _) = (measured(kind, 8.0, 3.0) for kind in (Chain, InTurn))
    assert together < 0.3 * apart
    assert apart > measured(Chain, 0.0, 0.0)[0]


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_member_that_is_off_leaves_its_neighbour_as_it_is_alone(place):
    world, alone = defense_world(), NoPeek(weight=2.0, **SHORT)
    off = ConditionalEntropy(weight=0.0, noise_std=0.0), NoPeek(weight=0.0)
    members = (*off, alone) if place == "before" else (alone, *off)
    found, wanted = (world.deploy(defense) for defense in (chained(*members), alone))
    assert equal(found.features(world.targets), wanted.features(world.targets))
    assert not equal(found.features(world.targets), world.features(world.targets))
    sent = [d.release(world.targets, generator=stream(0)) for d in (found, wanted)]
    assert equal(sent[0].tensors, sent[1].tensors)


def test_nothing_is_trained_where_all_members_are_off():
    world = defense_world()
    system = world.deploy(chained(NoPeek(weight=0.0), ConditionalEntropy(weight=0.0)))
    assert equal(system.features(world.targets), world.features(world.targets))
    release = system.release(world.targets, generator=stream(0))
    assert not equal(release.tensors, world.features(world.targets))  # the noise is left


class Watches(PenalizedTraining):
    """Writes down what it is asked, and pulls the mean of the release to 1."""

    def __init__(self, *, weight=1.0, finetune_epochs=2, learning_rate=0.01, batch_size=50):
        super().__init__(
            weight=weight,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        self.diary = []

    def begin(self, split, train, *, generator):
        self.diary.append("begin")
        self._client = [split.client]  # not a part of this module

    def penalty(self, images, labels, released):
        self.diary.append("step")
        (bare,) = self._client[0](images)
        self.seen = (released[0] - bare).detach()
        return (released[0].mean() - 1).square()

    def renew(self, split, train, *, generator):
        self.diary.append("renew")
        assert split.client is self._client[0]

    def end(self):
        self.diary.append("end")


def test_each_member_is_asked_once_in_every_step_and_follows_every_epoch():
    world, chain = defense_world(), chained(Watches(), NoPeek(weight=1.0, **SHORT), Watches())
    progress = []
    chain.fit(world.split, world.train, generator=stream(0), on_step=progress.append)
    epoch = [*["step"] * 5, "renew"]
    for member in (chain.stages[0], chain.stages[2]):
        assert member.diary == ["begin", *epoch, *epoch, "end"]
    assert len(progress) == 10


def test_a_penalty_sees_the_noise_of_those_before_it_and_none_of_those_behind():
    entropy = ConditionalEntropy(weight=1.0, noise_std=0.5, **SHORT)
    world, chain = defense_world(), chained(Watches(), entropy, Watches())
    chain.fit(world.split, world.train, generator=stream(0))
    first, _, last = chain.stages
    assert not first.seen.any()
    # Beside the client behind the noise, which draws anew: two draws are between the two.
    (rms,) = chain.stages[1].noise.scale(world.features(world.targets))
    assert float(last.seen.std()) == pytest.approx(2**0.5 * 0.5 * float(rms), rel=0.1)


def test_the_noise_of_a_member_that_is_off_is_there_for_the_others():
    entropy = ConditionalEntropy(weight=0.0, noise_std=2.0)
    world, chain = defense_world(), chained(entropy, Watches())
    chain.fit(world.split, world.train, generator=stream(0))
    assert chain.stages[1].diary.count("step") == 10
    features = chain.stages[0].protect(world.features(world.targets), generator=stream(1))
    bare = world.features(world.train.images())[0]
    spread = (features[0] - world.features(world.targets)[0]).std()
    assert float(spread) == pytest.approx(2 * float(bare.square().mean().sqrt()), rel=0.1)


def test_the_loss_is_the_sum_of_all():
    """One step of Adam from the same start goes where the gradient of the sum points."""
    once = {"finetune_epochs": 1, "learning_rate": 1e-4, "batch_size": 240}
    world = defense_world()
    members = NoPeek(weight=2.0, **once), Watches(weight=3.0, **once)
    images, labels = world.train.images(), world.train.labels
    before = [p.detach().clone() for p in world.split.client.parameters()]
    parameters = [p.requires_grad_() for p in world.split.client.parameters()]
    (features,) = world.split.client(images)
    loss = torch.nn.functional.cross_entropy(world.split.server((features,)), labels)
    loss = loss + 2 * distance_correlation(images, features)
    loss = loss + 3 * (features.mean() - 1).square()
    slopes = torch.autograd.grad(loss, parameters)
    seen = []
    chained(*members).fit(world.split, world.train, generator=stream(0), on_step=seen.append)
    for start, end, slope in zip(before, parameters, slopes, strict=True):
        steep = slope.abs() > 1e-4
        assert steep.any()
        assert torch.equal((end - start).sign()[steep], -slope.sign()[steep])
    assert seen[0].loss == pytest.approx(float(loss.detach()))


def test_decoders_take_a_step_for_each_of_the_client(monkeypatch):
    steps, explained = [], Rivals.explained

    def counted(self, released, images):
        steps.append(len(images))
        return explained(self, released, images)

    monkeypatch.setattr(Rivals, "explained", counted)
    adversary = AdversarialTraining(weight=1.0, decoders=1, width=4, **SHORT)
    entropy = ConditionalEntropy(weight=1.0, **SHORT)
    flat = FisherRegularization(weight=0.1, **SHORT)
    system = defense_world().deploy(chained(entropy, adversary, flat))
    assert steps == [50, 50, 50, 50, 40] * 2
    left = vars(system.defense.stages[0]) | vars(system.defense.stages[1])
    assert not {"_rivals", "_mixture", "_features", "_information"} & set(left)


@pytest.mark.parametrize("order", ["entropy last", "entropy first", "behind a bottleneck"])
@pytest.mark.parametrize("observations", [1, 4])
def test_the_likelihood_is_that_of_the_noise_around_the_trained_features(order, observations):
    noise, told = ConditionalEntropy(weight=1.0, **SHORT), NoPeek(weight=1.0, **SHORT)
    members = {
        "entropy last": (told, noise),
        "entropy first": (noise, told),
        "behind a bottleneck": (DistillationBottleneck(channels=2, epochs=1), told, noise),
    }[order]
    world = defense_world()
    system = world.deploy(chained(*members))
    release = system.release(world.targets, generator=stream(0), observations=observations)
    features = system.features(world.targets)
    assert system.is_likelihood(release, features)
    rms = float(system.features(world.train.images())[0].square().mean().sqrt())
    law = torch.distributions.Normal(features[0], 0.5 * rms / observations**0.5)
    wanted = -law.log_prob(release.tensors[0]).flatten(1).sum(1)
    found = system.mismatch(release, features, observations=observations)
    torch.testing.assert_close(found - found[0], wanted - wanted[0], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("keyword", "value"), [("finetune_epochs", 3), ("learning_rate", 0.02), ("batch_size", 40)]
)
def test_neighbours_have_one_schedule(keyword, value):
    other = ConditionalEntropy(weight=1.0, **{**SHORT, keyword: value})
    with pytest.raises(ValueError, match=f"'0' has {keyword}=.* '1' has {keyword}={value};"):
        chained(NoPeek(weight=1.0, **SHORT), other)


@pytest.mark.parametrize(
    "members",
    [
        (NoPeek(weight=1.0, **SHORT), ConditionalEntropy(weight=0.0, **LONG)),
        (NoPeek(weight=1.0, **SHORT), GaussianNoise(noise_std=1.0), NoPeek(weight=1.0, **LONG)),
        (NoPeek(weight=1.0, **SHORT), ResistanceTransfer(weight=1.0, **LONG)),
    ],
    ids=["off", "not neighbours", "stages of its own"],
)
def test_who_is_not_trained_together_needs_no_common_schedule(members):
    assert chained(*members).changes_client


def test_stages_of_its_own_are_run_in_its_turn():
    transfer = ResistanceTransfer(
        weight=1.0, decoders=1, width=4, transfer_epochs=1, finetune_epochs=1
    )
    world, chain = defense_world(), chained(Watches(), transfer, Watches())
    chain.fit(world.split, world.train, generator=stream(0))
    for member in (chain.stages[0], chain.stages[2]):
        assert member.diary.count("begin") == member.diary.count("end") == 1
