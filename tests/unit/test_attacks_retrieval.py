"""What votes in retrieval, and with which weight."""

import pytest
import torch

from attacks.learned_retrieval import LearnedRetrieval
from attacks.nearest_neighbor import NearestNeighbor
from splitbench.checks.attack_world import toy_world
from splitbench.feed import Feed
from splitbench.rng import stream
from splitbench.threat import ThreatModel

KINDS = [NearestNeighbor(weighting="kernel"), LearnedRetrieval(components=16, steps=30)]


def fitted(attack, world):
    return attack.fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))


def guess(attack, world, release=None):
    release = world.release() if release is None else release
    surface = world.surface("recover", ThreatModel())
    return attack(release, surface, generator=stream(0, "recover"))


@pytest.mark.parametrize("kind", [NearestNeighbor, LearnedRetrieval])
@pytest.mark.parametrize("weighting", ["uniform", "kernel"])
def test_with_one_neighbour_the_release_of_an_auxiliary_image_shows_that_image(kind, weighting):
    world = toy_world()
    attack = fitted(kind(neighbors=1, weighting=weighting), world)
    images = world.feed.train.images(slice(8))
    release = world.surface("own", ThreatModel()).query(images)
    torch.testing.assert_close(guess(attack, world, release), images)


@pytest.mark.parametrize("attack", KINDS, ids=lambda attack: type(attack).__name__)
def test_votes_of_a_kernel_fall_from_the_nearest_to_the_furthest(attack):
    world = toy_world()
    fitted(attack, world)
    images = torch.eye(len(attack._images)).view(-1, 1, 1, len(attack._images))
    attack._images = images
    values = torch.tensor([[3.0, 2.0, 1.0, -1.0]])
    votes = attack._vote(values, torch.tensor([[5, 0, 2, 7]]), 0.5).flatten()
    wanted = torch.softmax(torch.tensor([0.0, -0.5, -1.0, -2.0]), dim=0)
    torch.testing.assert_close(votes[[5, 0, 2, 7]], wanted)
    assert float(votes.sum()) == pytest.approx(1)


@pytest.mark.parametrize("attack", KINDS, ids=lambda attack: type(attack).__name__)
def test_neighbours_that_are_all_equally_near_vote_alike(attack):
    world = toy_world()
    fitted(attack, world)
    votes = attack._vote(torch.full((1, 3), 0.7), torch.tensor([[4, 1, 9]]), 0.1)
    torch.testing.assert_close(votes[0], attack._images[[4, 1, 9]].mean(0))


@pytest.mark.parametrize("kind", [NearestNeighbor, LearnedRetrieval])
@pytest.mark.parametrize("weighting", ["uniform", "kernel"])
def test_without_held_out_images_something_is_guessed_all_the_same(kind, weighting):
    world = toy_world()
    object.__setattr__(world, "feed", Feed(world.feed.train, seed=0, validation_fraction=0.0))
    assert world.leak(guess(fitted(kind(weighting=weighting), world), world)) > 0


def test_a_metric_learned_under_noise_asks_more_often_than_one_learned_without():
    queries = {}
    for noisy in (False, True):
        world = toy_world(noisy=noisy)
        surface = world.surface("fit", ThreatModel())
        LearnedRetrieval(steps=2, draws=4).fit(surface, generator=stream(0, "fit"))
        queries[noisy] = surface.queries
    filed, held_out = len(world.feed.train), len(world.feed.validation)
    assert queries[False] == 2 * filed + 2 * held_out
    assert queries[True] == (4 + 3) * filed + 2 * held_out


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (NearestNeighbor, {"neighbors": 0}),
        (NearestNeighbor, {"whiten": -1}),
        (NearestNeighbor, {"draws": 0}),
        (LearnedRetrieval, {"components": 0}),
        (LearnedRetrieval, {"steps": 0}),
        (LearnedRetrieval, {"batch_size": 0}),
        (LearnedRetrieval, {"learning_rate": 0.0}),
        (LearnedRetrieval, {"neighbors": 0}),
        (LearnedRetrieval, {"draws": 0}),
    ],
)
def test_impossible_settings_are_refused_by_name(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)
