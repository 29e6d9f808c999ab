"""Releases come with what is known about their own image, not another's."""

import pytest
import torch

from splitbench.checks.attack_world import toy_world
from splitbench.threat import Access, ThreatModel, ThreatModelError

BUDGETS = [None, 30, 100, 200]


def surface_of(world, budget):
    return world.surface("fit", ThreatModel(query_budget=budget))


def nearest(world, surface, release):
    """Numbers of the auxiliary images whose undefended releases these are, mirrored or not."""
    images = surface.auxiliary.images()
    candidates = [
        world.deployment.release(x, generator=torch.Generator()).flat()
        for x in (images, images.flip(-1))
    ]
    distances = torch.stack([torch.cdist(release.flat(), c) for c in candidates])
    assert float(distances.amin((0, 2)).max()) < 0.01
    return distances.amin(0).argmin(1)


@pytest.mark.parametrize("budget", BUDGETS)
def test_pairs_carry_the_number_of_their_image(budget):
    world = toy_world()
    surface = surface_of(world, budget)
    numbers = torch.arange(len(surface.auxiliary))
    found = list(surface.labelled_pairs(numbers))
    assert sum(len(values) for values, _ in found) >= min(27, len(numbers)) - 10
    for values, release in found:
        assert torch.equal(values, nearest(world, surface, release))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("mirrored", [True, False])
def test_examples_carry_the_number_of_their_image(budget, mirrored):
    world = toy_world()
    surface = surface_of(world, budget)
    numbers = torch.arange(len(surface.auxiliary))
    for values, release in surface.labelled_examples(numbers, 16, 5, mirrored=mirrored):
        assert torch.equal(values, nearest(world, surface, release))


def test_images_are_mirrored_only_where_that_is_wanted():
    world = toy_world()
    surface = surface_of(world, None)
    numbers = torch.arange(len(surface.auxiliary))
    plain = world.deployment.release(surface.auxiliary.images(), generator=torch.Generator()).flat()
    kept = {}
    for mirrored in (True, False):
        batches = list(surface.labelled_examples(numbers, 16, 8, mirrored=mirrored))
        same = [torch.isclose(r.flat(), plain[v], atol=1e-5).all(1) for v, r in batches]
        kept[mirrored] = float(torch.cat(same).float().mean())
    assert kept[False] == 1
    assert 0.25 < kept[True] < 0.75


def test_real_messages_know_their_length_and_count_as_queries():
    world = toy_world()
    surface = surface_of(world, 5)
    images = surface.auxiliary.images(slice(3))
    release = surface.transmit(images)
    assert release.payload_bytes.tolist() == world.release().payload_bytes[:3].tolist()
    assert torch.equal(release.tensors[0], world.deployment.features(images)[0])
    assert surface.queries == 3
    with pytest.raises(ThreatModelError, match="budget of 5"):
        surface.transmit(images)
    blind = world.surface("fit", ThreatModel(client="architecture"))
    with pytest.raises(ThreatModelError, match=Access.QUERY):
        blind.transmit(images)
