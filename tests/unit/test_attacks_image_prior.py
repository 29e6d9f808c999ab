"""The deep image prior: what it recovers, when it stops, and that targets do not meet."""

import pytest
import torch

from attacks.deep_image_prior import BATCH, DeepImagePrior
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.skip_network import CODE, SkipNetwork
from splitbench.checks.attack_world import toy_world
from splitbench.rng import isolated, stream
from splitbench.threat import Access, ThreatModel

NO_DATA = ThreatModel(auxiliary="none")
SMALL = {"width": 8, "scales": 1, "steps": 150, "learning_rate": 0.03}


def surface(world, purpose="recover"):
    return world.surface(purpose, NO_DATA)


def fitted(attack, world):
    return attack.fit(surface(world, "fit"), generator=stream(0, "fit"))


def guess(attack, world, release=None):
    release = world.release() if release is None else release
    return attack(release, surface(world), generator=stream(0, "recover"))


def mismatch(world, images):
    adversary = surface(world)
    return adversary.mismatch(world.release(), tuple(adversary.client(images)))


class Credulous(DeepImagePrior):
    """Takes the channel's noise for the image."""

    def learn(self, surface, *, generator):
        yield from super().learn(surface, generator=generator)
        self._level = torch.tensor(0.0)


class Hurried(DeepImagePrior):
    """Looks at more than the channel explains, and stops too early."""

    def learn(self, surface, *, generator):
        yield from super().learn(surface, generator=generator)
        self._level = 30 * self._level


def test_what_an_invertible_client_releases_without_noise_is_recovered_without_data():
    world = toy_world()
    attack = fitted(DeepImagePrior(**SMALL), world)
    assert float(attack.export_state()["level"]) == 0
    assert world.leak(guess(attack, world)) > 0.95
    assert attack.needs == {Access.CLIENT, Access.QUERY}


def test_the_truth_explains_a_noisy_release_as_well_as_a_grey_image_its_own():
    world = toy_world(noisy=True)
    level = float(fitted(DeepImagePrior(**SMALL), world).export_state()["level"])
    assert level == pytest.approx(64 * 0.05**2, rel=0.1)
    assert level == pytest.approx(float(mismatch(world, world.targets).mean()), rel=0.3)


def test_the_search_stops_where_the_release_is_explained_as_well_as_the_truth_explains_it():
    world = toy_world(noisy=True)
    attack = fitted(DeepImagePrior(**SMALL, jitter=0.0), world)
    found = guess(attack, world)
    level = attack.export_state()["level"]
    assert bool((mismatch(world, found) <= level).all())
    assert bool((mismatch(world, found) > 0.6 * level).all()), "an iterate before was as good"
    longer = fitted(DeepImagePrior(**{**SMALL, "steps": 400}, jitter=0.0), world)
    assert torch.equal(guess(longer, world), found)


def test_stopping_sooner_or_later_shows_less_of_the_image():
    world = toy_world(noisy=True)
    leaks = {
        kind: world.leak(guess(fitted(kind(**SMALL), world), world))
        for kind in (DeepImagePrior, Credulous, Hurried)
    }
    assert leaks[DeepImagePrior] > max(leaks[Credulous], leaks[Hurried]) + 0.01


def test_a_picture_that_a_network_paints_is_nearer_than_one_of_free_pixels():
    world = toy_world(noisy=True)
    free = LikelihoodMaximization(steps=150, weights=(0.0,))
    painted = fitted(DeepImagePrior(**SMALL), world)
    assert world.leak(guess(painted, world)) > world.leak(guess(fitted(free, world), world)) + 0.02


@pytest.mark.parametrize("noisy", [False, True])
def test_a_guess_is_the_same_to_the_bit_whoever_is_attacked_beside(noisy):
    world = toy_world(noisy=noisy)
    attack = fitted(DeepImagePrior(**{**SMALL, "steps": 40}), world)
    release = world.release()
    many = release[torch.arange(BATCH + 3) % len(release)]
    whole = guess(attack, world, many)
    assert len(whole) == BATCH + 3
    assert torch.equal(guess(attack, world, many[slice(4, 6)]), whole[4:6])
    assert torch.equal(guess(attack, world, many[slice(BATCH, None)]), whole[BATCH:])


def test_what_was_measured_travels_with_its_state():
    world = toy_world(noisy=True)
    attack, heir = (DeepImagePrior(**{**SMALL, "steps": 20}) for _ in range(2))
    fitted(attack, world)
    heir.import_state(attack.export_state(), surface(world))
    assert torch.equal(guess(heir, world), guess(attack, world))


@pytest.mark.parametrize(("side", "scales"), [((7, 9), 2), ((28, 28), 3), ((1, 3), 1)])
def test_a_network_paints_any_size_and_no_image_knows_another(side, scales):
    generator = stream(0, "code")
    with isolated(generator):
        network = SkipNetwork(3, width=8, scales=scales).requires_grad_(False)
    codes = torch.randn(2, CODE, *side, generator=generator)
    images = network(codes)
    assert images.shape == (2, 3, *side)
    assert 0 < float(images.min()) < float(images.max()) < 1
    codes[1] = 0
    torch.testing.assert_close(network(codes)[0], images[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"scales": 0},
        {"steps": 0},
        {"learning_rate": 0.0},
        {"jitter": -0.1},
        {"max_targets": 0},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DeepImagePrior(**wrong)
