"""Retrieval where it is known which directions of the features tell images apart."""

import pytest
import torch
from worlds import PIXELS, build, gaussian_matrix, linear, orthogonal_matrix, wiener_risk

from attacks.learned_retrieval import LearnedRetrieval
from attacks.nearest_neighbor import NearestNeighbor
from defenses.gaussian_noise import GaussianNoise
from splitbench.rng import stream
from splitbench.threat import ThreatModel

TELLING = 3  # directions that hold nearly all of an image
SIZES = {"auxiliary": 2000, "targets": 500}


def learned(**changes):
    return LearnedRetrieval(**{"components": PIXELS, "learning_rate": 0.05, **changes})


def nuisance_world(**changes):
    """Features of equal variance, three of which are nearly all there is to the images."""
    axes = orthogonal_matrix()
    variances = torch.full((PIXELS,), 0.5 / (PIXELS - TELLING), dtype=torch.float64)
    variances[:TELLING] = (PIXELS - 0.5) / TELLING
    covariance = axes @ variances.diag() @ axes.T
    matrix = variances.rsqrt().diag() @ axes.T
    return build(linear(matrix), covariance=covariance, **SIZES, **changes), matrix, covariance


class Untaught(LearnedRetrieval):
    """Is taught by images that are not those of the releases."""

    def _descend(self, files, asked, painted, generator):
        yield from super()._descend(files, asked, painted.roll(1, 0), generator)


@pytest.mark.parametrize("weighting", ["uniform", "kernel"])
def test_where_most_directions_are_nuisance_a_learned_metric_beats_a_plain_one(weighting):
    world, _, _ = nuisance_world()
    plain = world.attacked_by(NearestNeighbor(weighting=weighting)).error
    assert world.attacked_by(learned(weighting=weighting)).error < 0.35 * plain


def lengths_in(world, attack):
    """How much each feature counts in a metric."""
    attack.fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))
    return attack.export_state()["map"].norm(dim=1)


def test_it_finds_the_directions_that_tell_images_apart():
    lengths = lengths_in(nuisance_world()[0], learned())
    assert float(lengths[:TELLING].min()) > 3 * float(lengths[TELLING:].max())


def test_a_metric_that_was_taught_nothing_is_given_up_for_the_plain_one():
    lengths = lengths_in(nuisance_world()[0], Untaught(components=PIXELS))
    assert float(lengths.max()) < 1.1 * float(lengths.min())


@pytest.mark.parametrize("rows", [8, 16])
def test_where_no_direction_is_nuisance_it_is_not_worse_than_a_plain_one(rows):
    world = build(linear(gaussian_matrix(rows)), **SIZES)
    plain = world.attacked_by(NearestNeighbor(weighting="kernel"))
    outcome = world.attacked_by(learned())
    assert outcome.error < plain.error + 4 * (plain.uncertainty + outcome.uncertainty)


def test_under_noise_it_beats_a_plain_one_but_not_the_wiener_risk():
    world, matrix, covariance = nuisance_world(defense=GaussianNoise(noise_std=0.5))
    features = world.deployment.features(world.targets[:1])
    noise = float(world.deployment.defense.stds(features)[0].flatten()[0])
    outcome = world.attacked_by(learned(draws=16))
    assert outcome.respects(wiener_risk(matrix, noise, covariance))
    plain = world.attacked_by(NearestNeighbor(weighting="kernel", draws=16))
    assert outcome.error < 0.8 * plain.error


@pytest.mark.parametrize(("noise_std", "most"), [(0.0, 0.99), (0.6, 1.001)])
def test_a_kernel_is_not_worse_than_equal_votes(noise_std, most):
    defense = {"defense": GaussianNoise(noise_std=noise_std)} if noise_std else {}
    world = build(linear(gaussian_matrix(12)), **defense, **SIZES)
    equal = world.attacked_by(NearestNeighbor(draws=16)).error
    assert world.attacked_by(NearestNeighbor(draws=16, weighting="kernel")).error < most * equal


def uneven_matrix():
    """Invertible; some directions of the image are a hundred times as large as others."""
    scales = torch.logspace(-1, 1, PIXELS, dtype=torch.float64)
    return scales.diag() @ gaussian_matrix(PIXELS)


def guess_of(matrix, attack):
    return build(linear(matrix), **SIZES).guess(attack)


def test_whitening_every_component_undoes_any_invertible_linear_client():
    whitened = NearestNeighbor(neighbors=1, whiten=PIXELS)
    uneven = guess_of(uneven_matrix(), whitened)
    plain = guess_of(orthogonal_matrix(), whitened)
    same = (uneven == plain).flatten(1).all(1).float().mean()
    assert float(same) > 0.98  # rounding decides between neighbours that are equally near
    standardised = guess_of(uneven_matrix(), NearestNeighbor(neighbors=1))
    assert float((standardised == plain).flatten(1).all(1).float().mean()) < 0.5


def test_whitening_forgets_what_is_beyond_its_components():
    few = build(linear(gaussian_matrix(PIXELS)), **SIZES)
    errors = [few.attacked_by(NearestNeighbor(whiten=n)).error for n in (2, 6, PIXELS)]
    assert errors == sorted(errors, reverse=True)


def test_scales_of_features_decide_what_is_near_only_where_they_are_not_standardised():
    axes = orthogonal_matrix()
    scales = torch.ones(PIXELS, dtype=torch.float64)
    scales[0] = 100.0
    stretched = scales.diag() @ axes
    even, uneven = build(linear(axes), **SIZES), build(linear(stretched), **SIZES)
    blind, fair = NearestNeighbor(standardise=False), NearestNeighbor()
    assert uneven.attacked_by(fair).error == pytest.approx(even.attacked_by(fair).error, rel=0.02)
    assert uneven.attacked_by(blind).error > 1.5 * even.attacked_by(blind).error
