"""Synthetic images of a known law: drawn from it exactly, reproducibly, and labelled by a rule."""

import math

import pytest
import torch

from splitbench.data.coarse import Coarse
from splitbench.data.gaussian_images import CLASSES, GaussianImages
from splitbench.data.images import ROLES

SIZES = {"train": 3000, "auxiliary": 2000, "calibration": 500, "target": 1500}
STD = 0.0625


def source(**changes):
    return GaussianImages(**{"sizes": SIZES, "side": 8, "reach": 2.0, **changes})


@pytest.fixture(scope="module")
def roles():
    return source().load()


def test_each_role_has_as_many_images_as_are_asked_for_and_none_is_dropped(roles):
    assert {name: len(getattr(roles, name)) for name in ROLES} == SIZES
    assert not roles.dropped
    assert roles.target.shape == (1, 8, 8)


def test_a_seed_names_the_images(roles):
    assert source().load().fingerprints() == roles.fingerprints()
    others = source(seed=1).load().fingerprints()
    assert not {*others.values()} & {*roles.fingerprints().values()}


def test_a_role_does_not_depend_on_the_sizes_of_the_others_and_smaller_ones_are_nested(roles):
    fewer = source(sizes={**SIZES, "auxiliary": 700}).load()
    for name in ("train", "calibration", "target"):
        assert torch.equal(getattr(fewer, name).pixels, getattr(roles, name).pixels)
    assert torch.equal(fewer.auxiliary.pixels, roles.auxiliary.pixels[:700])


def test_images_have_the_mean_and_the_covariance_of_the_prior_that_comes_with_them(roles):
    prior = roles.prior
    assert prior.applies is True
    flat = torch.cat([getattr(roles, name).images() for name in ROLES]).flatten(1).double()
    white = (flat - prior.mean.double().flatten()) @ prior.directions.T / prior.variances.sqrt()
    assert white.shape[1] == 64  # images vary in every direction
    count = len(white)
    assert white.mean(0).abs().max() < 5 / count**0.5
    excess = white.T.cov() - torch.eye(64)
    assert excess.abs().max() < 5 * (2 / count) ** 0.5
    assert (white.pow(4).mean() - 3).abs() < 5 * (96 / white.numel()) ** 0.5  # normal tails


def test_pixels_vary_as_much_as_is_said_and_neighbours_are_alike(roles):
    pixels = roles.train.images()[:, 0].double() - 0.5
    assert float(pixels.std()) == pytest.approx(STD, rel=0.02)
    for apart in (1, 2):
        alike = (pixels[..., apart:] * pixels[..., :-apart]).mean() / STD**2
        assert float(alike) == pytest.approx(math.exp(-apart / 2), abs=0.03)


def test_no_pixel_leaves_the_range_of_pixels():
    """Not because it was clamped: even at the widest allowed none comes near."""
    found = source(std=0.08).load().train.pixels
    assert 0 < found.min() < 0.2
    assert 0.8 < found.max() < 1


def named(images):
    """The class by the rule that the documentation gives."""
    inside, whole = images[:, 0, 2:6, 2:6].sum((1, 2)), images[:, 0].sum((1, 2))
    upper = images[:, 0, :4].sum((1, 2)) > images[:, 0, 4:].sum((1, 2))
    return upper.long() + 2 * (inside / 16 > (whole - inside) / 48).long()


def test_classes_are_equally_likely_and_a_linear_rule_tells_them_apart(roles):
    assert roles.train.classes == CLASSES
    shares = roles.train.labels.bincount(minlength=4) / len(roles.train)
    assert (shares - 0.25).abs().max() < 5 * (0.25 * 0.75 / len(roles.train)) ** 0.5
    assert (named(roles.train.images()) == roles.train.labels).float().mean() > 0.999  # rounding


def test_a_mirror_changes_neither_law_nor_class(roles):
    """Attacks and training mirror images: they must stay examples of the same."""
    prior = roles.prior
    covariance = prior.directions.T @ prior.variances.diag() @ prior.directions
    mirrored = covariance.view(8, 8, 8, 8).flip(1, 3).reshape(64, 64)
    torch.testing.assert_close(mirrored, covariance)
    images = roles.train.images()
    assert (named(images.flip(-1)) == named(images)).float().mean() > 0.999


@pytest.mark.parametrize("change", [
    {"side": 3}, {"std": 0.0}, {"std": 0.1}, {"reach": 0.0}, {"reach": 2.1},
])  # fmt: skip
def test_a_law_that_is_none_or_leaves_the_range_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        source(**change)


@pytest.mark.parametrize("change", [{"train": 0.5}, {"target": 0}, {"train": True}, {"other": 5}])
def test_sizes_are_numbers_of_images(change):
    with pytest.raises(ValueError, match="whole number of images"):
        source(sizes={**SIZES, **change}).load()


def test_images_that_are_dealt_out_by_class_are_not_said_to_be_drawn_from_the_law():
    groups = {"lower": CLASSES[::2], "upper": CLASSES[1::2]}
    assert Coarse(source=source(), groups=groups, sizes=SIZES).load().prior is None
