"""A combination of guesses: never worse than its best member, and better where they differ."""

import copy

import pytest
import torch

from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.mean_image import MeanImage
from attacks.nearest_neighbor import NearestNeighbor
from attacks.ridge import Ridge
from attacks.shuffled_pairs import ShuffledPairs
from attacks.stacked_combination import StackedCombination
from splitbench.attack import Attack
from splitbench.checks.attack_world import toy_world
from splitbench.feed import Feed
from splitbench.rng import stream
from splitbench.threat import Access, ThreatModel

DECODER = {"width": 8, "blocks": 1, "heads": 0, "patch": 4, "steps": 5, "batch_size": 16}


class Half(Ridge):
    """Knows one half of the image, and paints the other grey."""

    def __init__(self, *, left: bool) -> None:
        super().__init__()
        self.left = left

    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator).clone()
        hidden = slice(4, None) if self.left else slice(4)
        guess[..., hidden] = surface.auxiliary.images().mean(0)[..., hidden]
        return guess


class Wild(Attack):
    """Noise around a share of the truth, which it has from a ridge regression."""

    needs = frozenset({Access.AUXILIARY, Access.QUERY})

    def __init__(self, *, share: float, noise: float) -> None:
        self.share = share
        self.noise = noise

    def learn(self, surface, *, generator):
        self.ridge = Ridge().fit(surface, generator=generator)
        yield from ()

    def recover(self, release, surface, *, generator):
        guess = self.ridge(release, surface, generator=generator)
        grain = torch.randn(guess.shape, generator=generator)
        return 0.5 + self.share * (guess - 0.5) + self.noise * grain


def fitted(attack, world):
    return attack.fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))


def guess(attack, world):
    surface = world.surface("recover", ThreatModel())
    return attack(world.release(), surface, generator=stream(0, "recover"))


def held_out_error(attack, world):
    surface, images = world.surface("again", ThreatModel()), world.feed.validation.images()
    shown = attack(surface.query(images), surface, generator=stream(0, "again"))
    return float((shown - images).square().mean())


def test_members_that_know_different_halves_add_up():
    world = toy_world()
    stack = fitted(StackedCombination(members={"a": Half(left=True), "b": Half(left=False)}), world)
    alone = [world.leak(guess(member, world)) for member in stack.members.values()]
    assert max(alone) < 0.8
    assert world.leak(guess(stack, world)) > 0.99
    torch.testing.assert_close(stack.export_state()["weights"], torch.ones(2), atol=0.02, rtol=0)


def test_next_to_a_member_that_knows_all_the_others_do_not_count():
    world = toy_world()
    members = {"wild": Wild(share=0.1, noise=0.5), "ridge": Ridge(), "mean": MeanImage()}
    stack = fitted(StackedCombination(members=members), world)
    assert torch.equal(guess(stack, world), guess(stack.members["ridge"], world))


def test_where_no_member_knows_anything_the_mean_image_is_shown():
    world = toy_world()
    stack = fitted(StackedCombination(members={"wild": Wild(share=0.0, noise=1.0)}), world)
    mean = world.feed.train.images().mean(0).expand(6, -1, -1, -1)
    torch.testing.assert_close(guess(stack, world), mean, atol=0.02, rtol=0)


@pytest.mark.parametrize("shares", [(0.9, 0.9), (0.2, 1.5), (-1.0, 0.3), (0.0, 0.0), (1.0, 1.0)])
def test_on_held_out_images_it_is_never_worse_than_its_best_member(shares):
    world = toy_world()
    members = {str(i): Wild(share=share, noise=0.0) for i, share in enumerate(shares)}
    stack = fitted(StackedCombination(members=members), world)
    best = min(held_out_error(member, world) for member in stack.members.values())
    assert held_out_error(stack, world) <= best + 1e-9


def test_members_that_err_too_much_or_too_little_are_put_right():
    world = toy_world()
    stack = fitted(StackedCombination(members={"shy": Wild(share=0.5, noise=0.0)}), world)
    assert held_out_error(stack, world) < 0.1 * held_out_error(stack.members["shy"], world)


def test_equal_members_are_no_trouble():
    world = toy_world()
    members = {"a": Half(left=True), "b": Half(left=True)}
    stack = fitted(StackedCombination(members=members), world)
    assert world.leak(guess(stack, world)) == pytest.approx(
        world.leak(guess(stack.members["a"], world)), abs=0.02
    )


def test_the_members_travel_with_its_state():
    world = toy_world()
    members = {"ridge": Half(left=True), "decoder": InverseNetwork(**DECODER)}
    stack = fitted(StackedCombination(members=copy.deepcopy(members)), world)
    state = stack.export_state()
    assert {"weights", "mean", "ridge.bias", "decoder.canvas"} <= set(state)
    heir = StackedCombination(members=members)
    heir.import_state(state, world.surface("fit", ThreatModel()))
    assert torch.equal(guess(heir, world), guess(stack, world))


def test_fitted_parts_take_the_place_of_the_members():
    attack = StackedCombination(members={"a": Ridge(), "b": MeanImage()})
    parts = (Ridge(), MeanImage())
    other = attack.with_parts(parts)
    assert all(a is b for a, b in zip(other.parts(), parts, strict=True))
    assert attack.parts()[0] is not parts[0]
    assert repr(other) == repr(attack)


def test_what_it_needs_and_how_far_it_goes_follow_from_its_members():
    modest = StackedCombination(members={"ridge": Ridge()})
    assert modest.needs == {Access.AUXILIARY, Access.QUERY}
    assert modest.max_targets is None
    assert modest.per_example
    search = LikelihoodMaximization(max_targets=3)
    other = LikelihoodMaximization(max_targets=7)
    greedy = StackedCombination(members={"a": search, "b": other, "c": ShuffledPairs(**DECODER)})
    assert greedy.needs == {Access.AUXILIARY, Access.QUERY, Access.CLIENT}
    assert greedy.max_targets == 3
    assert not greedy.per_example


def test_without_held_out_images_members_count_alike():
    world = toy_world()
    object.__setattr__(world, "feed", Feed(world.feed.train, seed=0, validation_fraction=0.0))
    members = {"a": NearestNeighbor(neighbors=1), "b": MeanImage()}
    stack = fitted(StackedCombination(members=members), world)
    assert stack.export_state()["weights"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("members", [{}, {"": Ridge()}, {"a.b": Ridge()}])
def test_impossible_members_are_refused(members):
    with pytest.raises(ValueError, match="members="):
        StackedCombination(members=members)
