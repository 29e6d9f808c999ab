"""Inversion without queries: the stand-in, what it is aligned to, and what it must not see."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.feature_alignment import Reference
from attacks.inverse_network import InverseNetwork
from attacks.shadow_client import ALIGNMENTS, ShadowClient
from splitbench.checks.attack_trial import attempt
from splitbench.checks.attack_world import ToyFeed, toy_images, toy_world
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.rng import stream
from splitbench.shadow import Traffic, forgotten
from splitbench.threat import Access, Surface, ThreatModel, ThreatModelError

CLASSES = 32
DECODER = InverseNetwork(width=16, blocks=1, heads=0, patch=4, steps=60, batch_size=32)
QUERY_FREE = ThreatModel(client="architecture")


def shadow(**changes):
    settings = {
        "steps": 300,
        "batch_size": 32,
        "learning_rate": 0.1,
        "observed": 256,
        "weight": 1.0,
    }
    return ShadowClient(decoder=DECODER, **{**settings, **changes})


def many_classes():
    """A toy world whose server tells 32 classes apart: its logits depend on all features."""
    world = toy_world()
    ours, others = toy_images(512 + 6, "many classes"), toy_images(512, "their users")
    features = world.client(others.images())[0].flatten(1)
    centred = features - features.mean(0)
    weight = torch.randn(CLASSES, 64, generator=stream(0, "server"))
    weight *= 5 / (centred @ weight.T).std(0)[:, None]
    server = world.deployment.split.server
    server.head = nn.Linear(64, CLASSES).requires_grad_(False)
    server.head.weight.copy_(weight)
    server.head.bias.copy_(-(weight @ features.mean(0)))
    labels = server(world.client(ours.images())).argmax(1)
    ours = LabeledImages(ours.pixels, labels, tuple(str(k) for k in range(CLASSES)))
    world.client.images = 0
    return replace(
        world,
        feed=ToyFeed(ours.subset(slice(512))),
        targets=ours.images(slice(512, None)),
        overheard=Traffic(world.deployment, others, observations=1, seed=0),
    )


@pytest.fixture(scope="module")
def leaks():
    """What each way of imitating the client recovers without one query."""
    tries = {
        "moments": shadow(noise=0.0),
        "mmd": shadow(alignment="mmd", weight=10.0, noise=0.0),
        "discriminator": shadow(alignment="discriminator", noise=0.0),
        "labels": shadow(weight=0.0, noise=0.0),
        "labels, with noise": shadow(weight=0.0),
    }
    world = many_classes()
    return {
        name: world.leak(attempt(attack, many_classes(), threat=QUERY_FREE).guess)
        for name, attack in tries.items()
    }


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_an_aligned_shadow_beats_labels_alone_and_these_the_blind_guess(leaks, alignment):
    assert leaks[alignment] > leaks["labels"] + 0.2
    assert leaks["labels"] > 0.05


def test_a_decoder_that_learnt_with_noise_makes_more_of_a_shadow_that_is_off(leaks):
    assert leaks["labels, with noise"] > leaks["labels"] + 0.05


def test_the_decoder_learns_from_features_with_as_much_noise_as_it_is_told():
    heard = []

    class Listening(InverseNetwork):
        def learn(self, surface, *, generator):
            images, release = next(surface.pairs())
            heard.append(release.tensors[0] - surface.client.client(images)[0])
            heard.append(surface.client.client(images)[0])
            yield from super().learn(surface, generator=generator)

    settings = {"width": 8, "blocks": 1, "heads": 0, "patch": 4, "steps": 2, "batch_size": 8}
    attack = ShadowClient(
        decoder=Listening(**settings), steps=5, batch_size=8, observed=64, noise=0.5
    )
    attempt(attack, toy_world(), threat=QUERY_FREE)
    noise, features = heard[:2]
    varies = float((features - features.mean(0)).square().mean().sqrt())
    assert float(noise.std()) == pytest.approx(0.5 * varies, rel=0.1)
    assert abs(float(noise.mean())) < 0.1 * float(noise.std())


def test_alignment_alone_works_where_labels_mean_nothing():
    world = toy_world()
    assert world.leak(attempt(shadow(weight=10.0), world, threat=QUERY_FREE).guess) > 0.5


def shifted_world():
    """The adversary's images carry labels that the server has never heard of."""
    world = toy_world()
    strange = toy_images(64, "strange")
    strange = LabeledImages(strange.pixels, strange.labels + 100, tuple(map(str, range(200))))
    return replace(world, feed=ToyFeed(strange))


def test_labels_of_another_kind_are_left_out():
    threat = replace(QUERY_FREE, auxiliary="shifted")
    trial = attempt(shadow(weight=10.0), shifted_world(), threat=threat)
    assert toy_world().leak(trial.guess) > 0.5


def test_labels_of_another_kind_alone_teach_nothing_and_it_says_so():
    threat = replace(QUERY_FREE, auxiliary="shifted")
    with pytest.raises(ValueError, match="mean nothing to the server"):
        attempt(shadow(steps=5, weight=0.0), shifted_world(), threat=threat)


def test_the_device_is_asked_nothing():
    world = toy_world()
    trial = attempt(shadow(steps=5), world, threat=QUERY_FREE)
    world.release()
    assert trial.queries == 0
    assert world.client.images == trial.overheard + 2 * len(world.targets)
    assert trial.used == {Access.ARCHITECTURE, Access.AUXILIARY, Access.SERVER}


def test_labels_alone_need_no_traffic():
    world = toy_world()
    assert attempt(shadow(steps=5, weight=0.0), world, threat=QUERY_FREE).overheard == 0


@pytest.mark.parametrize(
    "threat",
    [
        ThreatModel(client="none"),
        ThreatModel(client="query"),
        ThreatModel(client="architecture", auxiliary="none"),
    ],
    ids=["no client", "queries only", "no data"],
)
def test_without_what_it_needs_it_is_refused(threat):
    with pytest.raises(ThreatModelError, match="does not grant"):
        attempt(shadow(steps=5), toy_world(), threat=threat)


def test_where_nobody_else_sends_anything_it_says_so():
    world = toy_world()
    alone = Surface(
        world.deployment,
        QUERY_FREE,
        feed=world.feed,
        classes=4,
        image_shape=(1, 8, 8),
        seed=0,
    )
    with pytest.raises(ThreatModelError, match="without traffic"):
        shadow(steps=5).fit(alone, generator=torch.Generator())


class Halves(Defense):
    """Releases half of each vector, which no gradient passes unaided."""

    stochastic = False
    differentiable = True

    def protect(self, features, *, generator):
        return tuple(f[:, :2] for f in features)


def test_a_defense_that_changes_shapes_is_refused_with_the_reason():
    world = toy_world()
    world = replace(world, deployment=replace(world.deployment, defense=Halves().eval()))
    surface = Surface(
        world.deployment,
        QUERY_FREE,
        feed=world.feed,
        classes=4,
        image_shape=(1, 8, 8),
        seed=0,
        traffic=world.overheard,
    )
    with pytest.raises(ValueError, match="changes the shapes"):
        shadow(steps=5, weight=0.0).fit(surface, generator=torch.Generator())


class TestWhatIsForgotten:
    def test_is_every_parameter_and_every_running_statistic(self):
        client = toy_world().client
        client.norm.running_mean.fill_(3.0)
        fresh = forgotten(client, generator=stream(0, "fresh"))
        assert not torch.allclose(fresh.mix.weight, client.mix.weight)
        assert not fresh.norm.running_mean.any()
        assert client.norm.running_mean.eq(3.0).all()
        assert fresh.training
        assert not client.training
        assert all(p.requires_grad for p in fresh.parameters())

    def test_says_nothing_about_the_weights(self):
        client = toy_world().client
        first = forgotten(client, generator=stream(0, "fresh")).state_dict()
        with torch.no_grad():
            for parameter in client.parameters():
                parameter.mul_(7.0).add_(1.0)
        second = forgotten(client, generator=stream(0, "fresh")).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_includes_parameters_whose_module_cannot_initialise_them(self):
        module = nn.Module()
        module.token = nn.Parameter(torch.full((64,), 9.0))
        fresh = forgotten(module, generator=stream(0, "fresh"))
        assert 0 < float(fresh.token.detach().std()) < 0.1


@pytest.mark.parametrize("measure", ["moments", "mmd"])
class TestMismatch:
    def observed(self, name, count=400, *, shift=0.0, mix=0.0):
        values = torch.randn(count, 4, 3, 3, generator=stream(0, name))
        return (values + mix * values.roll(1, 1) + shift,)

    def mismatch(self, measure, tensors):
        generator = stream(0, "draws")
        return float(
            Reference(self.observed("reference"), measure).mismatch(tensors, generator=generator)
        )

    def test_is_next_to_nothing_for_another_sample(self, measure):
        assert abs(self.mismatch(measure, self.observed("sample"))) < 0.02

    @pytest.mark.parametrize("change", [{"shift": 1.0}, {"mix": 0.7}], ids=str)
    def test_grows_where_the_distribution_is_another(self, measure, change):
        same = self.mismatch(measure, self.observed("sample"))
        assert self.mismatch(measure, self.observed("sample", **change)) > same + 0.02

    def test_leads_back_to_the_distribution(self, measure):
        reference = Reference(self.observed("reference"), measure)
        shift = torch.tensor(1.0, requires_grad=True)
        (values,) = self.observed("sample")
        loss = reference.mismatch((values + shift,), generator=stream(0, "draws"))
        assert float(torch.autograd.grad(loss, shift)[0]) > 0

    def test_is_finite_where_nothing_moves(self, measure):
        constant = (torch.ones(8, 4, 3, 3),)
        reference = Reference(constant, measure)
        assert abs(float(reference.mismatch(constant, generator=stream(0, "draws")))) < 1e-3

    def test_takes_tokens_and_vectors(self, measure):
        tensors = (torch.ones(8, 5, 6), torch.zeros(8, 7))
        reference = Reference(tensors, measure)
        assert reference.mismatch(tensors, generator=stream(0, "draws")).ndim == 0
