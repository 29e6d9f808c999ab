"""A choice among guesses: right where the release betrays the good one, modest elsewhere."""

import dataclasses

import pytest
import torch

from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.likelihood_selection import LikelihoodSelection
from attacks.mean_image import MeanImage
from attacks.nearest_neighbor import NearestNeighbor
from attacks.ridge import Ridge
from splitbench.checks.attack_world import Undefended, toy_world
from splitbench.feed import Feed
from splitbench.rng import stream
from splitbench.threat import Access, ThreatModel


class Partial(Ridge):
    """Recovers the bright images, or the dark ones, and shows grey for the others."""

    def __init__(self, *, bright: bool) -> None:
        super().__init__()
        self.bright = bright

    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        known = (guess.flatten(1).mean(1) > 0.5) == self.bright
        return torch.where(known[:, None, None, None], guess, 0.5)


class Overfit(Ridge):
    """Explains the release of `Sighted` exactly; the half that it does not see is noise."""

    def recover(self, release, surface, *, generator):
        good = super().recover(release, surface, generator=generator)
        noise = torch.rand(good.shape, generator=generator)
        return torch.cat([good[..., :4], noise[..., 4:]], dim=3)


class Sighted(torch.nn.Module):
    """A client that sees the left half of an image."""

    def __init__(self, client):
        super().__init__()
        self.client = client

    def forward(self, images):
        seen = torch.cat([images[..., :4], torch.zeros_like(images[..., 4:])], dim=3)
        return self.client(seen)


def world_with(held_out, **options):
    """A toy world that holds out this share of the auxiliary images."""
    world = toy_world(**options)
    feed = Feed(world.feed.train, seed=0, validation_fraction=held_out)
    object.__setattr__(world, "feed", feed)
    return world


def fitted(attack, world):
    return attack.fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))


def guess(attack, world):
    surface = world.surface("recover", ThreatModel())
    return attack(world.release(), surface, generator=stream(0, "recover"))


def halves():
    return {"bright": Partial(bright=True), "dark": Partial(bright=False)}


def test_of_members_that_know_different_images_each_is_shown_where_it_knows():
    world = world_with(0.5)
    choice = fitted(LikelihoodSelection(members=halves()), world)
    alone = [world.leak(guess(member, world)) for member in choice.members.values()]
    assert max(alone) < 0.9
    assert world.leak(guess(choice, world)) > 0.97
    assert world.leak(guess(choice, world)) > max(alone)


class Shouting(Undefended):
    """Tells a likelihood with a large part that is the message's own, whatever the image."""

    def negative_log_likelihood(self, observed, features, *, observations=1):
        distance = (observed[0] - features[0]).flatten(1).square().sum(1)
        return distance + 100 * (1e4 * observed[0].flatten(1).sum(1)).sin()


def test_what_a_mismatch_owes_to_the_message_alone_does_not_disturb_the_choice():
    plain, loud = world_with(0.5), world_with(0.5)
    deployment = dataclasses.replace(loud.deployment, defense=Shouting())
    object.__setattr__(loud, "deployment", deployment)
    quiet, shouted = (
        guess(fitted(LikelihoodSelection(members=halves()), world), world)
        for world in (plain, loud)
    )
    assert torch.equal(quiet, shouted)


def test_where_the_release_says_nothing_the_best_member_is_shown_for_every_image():
    world = world_with(0.5, silent=True)
    members = {"retrieval": NearestNeighbor(neighbors=1), "mean": MeanImage()}
    choice = fitted(LikelihoodSelection(members=members), world)
    assert torch.equal(guess(choice, world), guess(choice.members["mean"], world))
    assert choice.export_state()["favourite"] == 1


def test_a_mismatch_that_is_chance_chooses_nothing():
    class Restless(Ridge):
        """Off by an error that the release does not show: it changes from guess to guess."""

        def recover(self, release, surface, *, generator):
            good = super().recover(release, surface, generator=generator)
            return good + 0.1 * torch.randn(good.shape, generator=generator)

    world = world_with(0.5)
    members = {"a": Restless(), "b": Restless(), "exact": Ridge()}
    choice = fitted(LikelihoodSelection(members=members), world)
    assert torch.equal(guess(choice, world), guess(choice.members["exact"], world))


def test_the_member_that_explains_the_release_best_is_not_trusted_where_it_errs_more():
    world = world_with(0.5)
    split = world.deployment.split
    object.__setattr__(split, "client", Sighted(split.client))
    members = {"overfit": Overfit(), "mean": MeanImage()}
    choice = fitted(LikelihoodSelection(members=members), world)
    explains, blind = choice.export_state()["mismatches"].mean(1)
    assert explains < 0.2 * blind
    assert torch.equal(guess(choice, world), guess(choice.members["mean"], world))


def test_the_members_travel_with_its_state():
    world = world_with(0.5)
    choice = fitted(LikelihoodSelection(members=halves()), world)
    state = choice.export_state()
    heir = LikelihoodSelection(members=halves())
    heir.import_state(state, world.surface("fit", ThreatModel()))
    assert torch.equal(guess(heir, world), guess(choice, world))


def test_fitted_parts_take_the_place_of_the_members():
    attack = LikelihoodSelection(members={"a": Ridge(), "b": MeanImage()})
    parts = (Ridge(), MeanImage())
    other = attack.with_parts(parts)
    assert all(a is b for a, b in zip(other.parts(), parts, strict=True))
    assert attack.parts()[0] is not parts[0]
    assert repr(other) == repr(attack)


def test_what_it_needs_and_how_far_it_goes_follow_from_its_members():
    modest = LikelihoodSelection(members={"ridge": Ridge()})
    assert modest.needs == {Access.AUXILIARY, Access.QUERY, Access.CLIENT}
    assert modest.max_targets is None
    search = LikelihoodMaximization(max_targets=3)
    greedy = LikelihoodSelection(members={"a": search, "b": LikelihoodMaximization(max_targets=7)})
    assert greedy.max_targets == 3


def test_without_held_out_images_the_first_member_is_shown():
    world = world_with(0.0)
    members = {"a": NearestNeighbor(neighbors=1), "b": MeanImage()}
    choice = fitted(LikelihoodSelection(members=members), world)
    assert torch.equal(guess(choice, world), guess(choice.members["a"], world))


@pytest.mark.parametrize("members", [{}, {"": Ridge()}, {"a.b": Ridge()}])
def test_impossible_members_are_refused(members):
    with pytest.raises(ValueError, match="members="):
        LikelihoodSelection(members=members)
