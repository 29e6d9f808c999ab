"""Few queries: a fixed pool of pairs, nested in larger ones, each image sent once."""

from dataclasses import replace

import pytest
import torch

from splitbench.checks.attack_world import Noisy, toy_world
from splitbench.pool import FREE, Spent
from splitbench.threat import Surface, ThreatModel, ThreatModelError

TRAIN, VALIDATION = 58, 6  # of the toy world's 64 auxiliary images


def opened(budget, *, noisy=False, purpose="x", observations=1, **paid):
    world = toy_world(noisy=noisy)
    threat = ThreatModel(client="query", query_budget=budget, observations=observations)
    return world, world.surface(purpose, threat, **paid)


def collected(surface, count=None):
    images, release = zip(*surface.pairs(count), strict=True)
    return torch.cat(images), torch.cat([r.tensors[0] for r in release])


def bought(budget, *, noisy=False):
    """All training pairs of a pool, mirrored images and repetitions among them."""
    world, surface = opened(budget, noisy=noisy)
    pool = world.pools[surface.threat]
    images, release = pool.train(torch.arange(pool.trained))
    return images, release.tensors[0]


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(("less", "more"), [(20, 40), (40, 60), (60, 500)])
def test_a_smaller_budget_buys_a_part_of_what_a_larger_one_does(less, more, noisy):
    few, many = (opened(budget, noisy=noisy)[1] for budget in (less, more))
    images, wider = (bought(budget, noisy=noisy)[0] for budget in (less, more))
    assert torch.equal(images, wider[: len(images)])
    held_out, held_out_wider = few.validation_pairs()[0], many.validation_pairs()[0]
    assert torch.equal(held_out, held_out_wider[: len(held_out)])


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(("less", "more"), [(20, 40), (60, 500), (300, 500), (500, 5000)])
def test_a_smaller_budget_is_given_the_same_answers(less, more, noisy):
    few, many = (opened(budget, noisy=noisy)[1] for budget in (less, more))
    released, wider = (bought(budget, noisy=noisy)[1] for budget in (less, more))
    torch.testing.assert_close(released, wider[: len(released)], rtol=0, atol=1e-6)
    held_out, more_held_out = (s.validation_pairs()[1].tensors[0] for s in (few, many))
    torch.testing.assert_close(held_out, more_held_out[: len(held_out)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("noisy", [False, True])
def test_answers_do_not_depend_on_the_size_of_batches(noisy):
    small, large = (opened(60, noisy=noisy)[1] for _ in range(2))
    for batch_size, surface in ((7, small), (64, large)):
        list(surface.examples(batch_size, 3))
    assert torch.equal(collected(small)[1], collected(large)[1])


@pytest.mark.parametrize("parts", [(300,), (1, 299), (100, 256, 257, 300)])
def test_answers_do_not_depend_on_how_many_are_asked_for_at_a_time(parts):
    world = toy_world(noisy=True)
    whole = world.overheard.first(256).tensors[0]
    pieces = toy_world(noisy=True).overheard
    for count in parts:
        pieces.first(count)
    assert torch.allclose(pieces.first(256).tensors[0], whole, rtol=0, atol=1e-6)
    assert len(pieces) == 256


def test_noise_of_the_answers_is_not_repeated():
    images, released = bought(5000, noisy=True)
    noise = released - toy_world().deployment.features(images)[0]
    assert torch.corrcoef(noise[:1024].flatten(1)).fill_diagonal_(0).abs().max() < 0.8
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("budget", [12, 30, 60, 500])
@pytest.mark.parametrize("noisy", [False, True])
def test_no_image_too_many_is_sent_and_each_that_is_sent_is_counted(budget, noisy):
    world, surface = opened(budget, noisy=noisy)
    list(surface.pairs())
    surface.validation_pairs()
    list(surface.examples(16, 50))
    assert world.client.images == surface.queries <= budget - FREE
    assert surface.remaining == budget - surface.queries


def test_a_tenth_of_the_budget_goes_to_validation():
    _, surface = opened(40)
    assert len(collected(surface)[0]) == 40 - 4 - FREE
    assert len(surface.validation_pairs()[0]) == 4


def test_validation_never_takes_more_than_is_held_out():
    _, surface = opened(500, noisy=True)
    assert len(surface.validation_pairs()[0]) == VALIDATION
    assert surface.queries == 500 - FREE


def test_training_and_validation_pairs_share_no_image():
    _, surface = opened(500)
    trained, held_out = bought(500)[0], surface.validation_pairs()[0]
    both = torch.cat([held_out, held_out.flip(-1)]).flatten(1)
    assert torch.cdist(both, trained.flatten(1)).min() > 0.01


def test_a_budget_beyond_the_data_buys_mirrored_images():
    _, surface = opened(500)
    images = bought(500)[0]
    assert len(images) == 2 * TRAIN
    assert torch.equal(images[:TRAIN], surface.auxiliary.images())
    assert torch.equal(images[TRAIN:], images[:TRAIN].flip(-1))


@pytest.mark.parametrize("noisy", [False, True])
def test_a_budget_beyond_the_data_gives_the_pairs_that_unlimited_access_gives(noisy):
    world, few = opened(5000, noisy=noisy)
    images, releases = zip(*few.pairs(), strict=True)
    everything = collected(world.surface("y", ThreatModel(client="query")))[0]
    assert torch.equal(torch.cat(images), everything)
    assert few.pair_batches == len(releases)


def test_decoders_learn_from_all_that_a_budget_bought():
    _, surface = opened(500)
    seen = torch.cat([images for images, _ in surface.examples(29, 4)])
    assert torch.cdist(seen.flatten(1), bought(500)[0].flatten(1)).min(0).values.max() < 0.01


def test_the_same_image_is_asked_about_again_only_where_the_answer_is_random():
    images, released = bought(500, noisy=True)
    assert len(images) == 500 - FREE - VALIDATION
    assert torch.equal(images[: 2 * TRAIN], images[2 * TRAIN : 4 * TRAIN])
    assert not torch.equal(released[: 2 * TRAIN], released[2 * TRAIN : 4 * TRAIN])


def test_a_pair_keeps_its_noise_however_often_it_is_used():
    _, surface = opened(60, noisy=True)
    images, released = collected(surface)
    for seen, release in surface.examples(16, 12):
        place = torch.cdist(seen.flatten(1), images.flatten(1)).argmin(1)
        assert torch.equal(release.tensors[0], released[place])


def test_a_pair_is_an_image_and_its_own_release():
    world, surface = opened(60)
    for images, release in surface.examples(16, 5):
        assert torch.equal(release.tensors[0], world.deployment.features(images)[0])


def test_each_epoch_shows_every_pair_once():
    _, surface = opened(60)
    images = collected(surface)[0]
    batches = list(surface.examples(11, 8))  # 44 training pairs: four batches make an epoch
    for epoch in (batches[:4], batches[4:]):
        seen = torch.cat([batch for batch, _ in epoch])
        place = torch.cdist(seen.flatten(1), images.flatten(1)).argmin(1)
        assert sorted(place.tolist()) == list(range(44))


def test_all_attacks_are_given_the_same_answers():
    first, second = (opened(60, noisy=True, purpose=p)[1] for p in ("one", "another"))
    assert torch.equal(collected(first)[1], collected(second)[1])


def test_what_a_part_has_paid_for_is_remembered_and_costs_nothing_again():
    _, part = opened(60, noisy=True)
    bought = collected(part)[1]
    world, whole = opened(60, noisy=True, purpose="y", spent=part.spent)
    assert torch.equal(collected(whole)[1], bought)
    assert (whole.queries, whole.spent, whole.remaining) == (0, part.spent, FREE)
    whole.query(world.targets)
    assert whole.remaining == FREE - len(world.targets)


def test_surfaces_with_one_pool_send_it_once_and_each_pays_for_it():
    world, threat = toy_world(noisy=True), ThreatModel(query_budget=60)
    for purpose in ("one attack", "another"):
        surface = world.surface(purpose, threat)
        list(surface.pairs())
        assert surface.spent == Spent(queries=50, pooled=50)
    assert world.client.images == 50


def test_parts_of_an_attack_pay_for_the_pool_together():
    parts = [Spent(queries=58, pooled=50), Spent(queries=50, pooled=50), Spent(queries=3)]
    assert Spent.together(parts) == Spent(queries=61, pooled=50)
    assert Spent.together([]) == Spent()


def test_a_pool_that_no_longer_fits_the_budget_is_refused():
    _, surface = opened(60, spent=Spent(queries=30))
    with pytest.raises(ThreatModelError, match="budget of 60"):
        list(surface.pairs())


def test_too_small_a_budget_says_that_it_buys_nothing():
    _, surface = opened(FREE)
    with pytest.raises(ThreatModelError, match="buys no pair"):
        next(surface.examples(8, 1))


def test_the_spare_queries_may_be_asked_about_anything():
    world, surface = opened(60)
    list(surface.pairs())
    surface.query(torch.zeros(FREE, *surface.image_shape))
    with pytest.raises(ThreatModelError, match="used up"):
        surface.query(world.targets[:1])


def test_several_observations_make_one_answer():
    _, surface = opened(60, noisy=True, observations=16)
    images, released = collected(surface)
    exact = toy_world().deployment.features(images)[0]
    assert float((released - exact).std()) == pytest.approx(0.05 / 4, rel=0.1)


def test_without_a_budget_every_pair_is_asked_afresh():
    world = toy_world(noisy=True)
    surface = world.surface("x", ThreatModel())
    first, again = (collected(surface, 20)[1] for _ in range(2))
    assert not torch.equal(first, again)
    assert surface.queries == 40
    assert surface.remaining is None


@pytest.mark.parametrize("budget", [None, 60])
def test_where_nothing_is_held_out_there_are_no_validation_pairs(budget):
    world = toy_world()
    world.feed.validation = world.feed.validation.subset(slice(0))
    threat = ThreatModel(query_budget=budget)
    images, release = world.surface("x", threat).validation_pairs()
    assert images.shape == (0, 1, 8, 8)
    assert release.flat().shape == (0, 64)


def test_a_naive_adversary_buys_undefended_pairs():
    world = toy_world()
    world = replace(world, deployment=replace(world.deployment, defense=Noisy().eval()))
    threat = ThreatModel(query_budget=60, defense="hidden")
    surface: Surface = world.surface("x", threat)
    images, released = collected(surface)
    assert torch.equal(released, world.deployment.features(images)[0])
