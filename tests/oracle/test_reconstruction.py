"""Every attack against channels whose Bayes risk is known: never better, and close where it can."""

from math import pi, sqrt

import pytest
import torch
from torch.nn import functional as F
from worlds import (
    GREY,
    PIXELS,
    STD,
    Erasure,
    Static,
    build,
    gaussian_matrix,
    linear,
    orthogonal_matrix,
    smooth_covariance,
    wiener_risk,
)

from attacks.class_mean import ClassMean
from attacks.constant_color import ConstantColor
from attacks.inverse_network import InverseNetwork
from attacks.learned_retrieval import LearnedRetrieval
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.likelihood_selection import LikelihoodSelection
from attacks.mean_image import MeanImage
from attacks.nearest_neighbor import NearestNeighbor
from attacks.priors.gaussian import Gaussian
from attacks.ridge import Ridge
from attacks.shuffled_pairs import ShuffledPairs
from attacks.stacked_combination import StackedCombination
from attacks.transformer_decoder import TransformerDecoder
from defenses.gaussian_noise import GaussianNoise

WHITE = torch.eye(PIXELS, dtype=torch.float64)
PRIOR = Gaussian(mean=GREY, precision=1 / STD**2)


def identity(x):
    return x


def network(**changes):
    small = {"width": 32, "blocks": 1, "heads": 0, "patch": 1, "steps": 600, "batch_size": 64}
    return InverseNetwork(**{**small, **changes})


def search(**changes):
    return LikelihoodMaximization(
        **{"steps": 300, "weights": (1.0,), "prior": PRIOR, "learning_rate": 0.02, **changes}
    )


def everyone():
    return [
        ConstantColor(),
        MeanImage(),
        ClassMean(),
        Ridge(),
        NearestNeighbor(),
        LearnedRetrieval(components=16, steps=100, draws=8),
        network(steps=60),
        TransformerDecoder(width=32, layers=1, heads=2, patch=1, steps=60, batch_size=64),
        ShuffledPairs(width=16, blocks=1, heads=0, patch=1, steps=50, batch_size=64),
        search(),
        search(weights=(0.1, 1.0, 100.0), warm_start=Ridge(), prior=None),
        LikelihoodSelection(members={"ridge": Ridge(), "retrieval": NearestNeighbor()}),
        StackedCombination(members={"ridge": Ridge(), "retrieval": NearestNeighbor()}),
    ]


def noise_of(world):
    """Absolute standard deviation of the noise in a world with GaussianNoise."""
    features = world.deployment.features(world.targets[:1])
    return float(world.deployment.defense.stds(features)[0].flatten()[0])


def kind(attack):
    return type(attack).__name__


# O1, O2: nothing is lost


@pytest.mark.parametrize(
    ("attack", "most"),
    [(Ridge(), 1e-9), (search(), 1e-3), (network(steps=200), 0.2)],
    ids=["ridge", "search", "network"],
)
def test_an_undefended_image_is_recovered(attack, most):
    assert build(identity, targets=200).attacked_by(attack).error < most


def test_the_search_inverts_an_orthogonal_convolution_with_a_leaky_relu_to_60_db():
    matrix = orthogonal_matrix(4).float().view(4, 4, 1, 1)
    world = build(
        lambda x: F.leaky_relu(F.conv2d(F.pixel_unshuffle(x, 2), matrix), 0.2), targets=50
    )
    error = world.attacked_by(search(prior=None, steps=1000)).error * STD**2
    assert -10 * torch.log10(torch.tensor(error)) > 60


# O3, O4: nothing is there


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_from_noise_nobody_learns_anything(attack):
    world = build(identity, defense=Static(), auxiliary=1000, targets=500)
    assert world.attacked_by(attack).respects(1.0)


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_from_a_constant_nobody_learns_anything(attack):
    world = build(lambda x: 0 * x, auxiliary=1000, targets=500)
    assert world.attacked_by(attack).respects(1.0)


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_the_release_of_another_image_says_nothing(attack):
    world = build(identity, auxiliary=1000, targets=500)
    assert world.score(world.guess(attack).roll(1, 0)).respects(1.0)


def test_a_decoder_of_shuffled_pairs_does_not_beat_the_mean():
    floor = ShuffledPairs(width=32, blocks=1, heads=0, patch=1, steps=100, batch_size=64)
    assert build(identity).attacked_by(floor).respects(1.0)


# O5 to O9: linear and Gaussian


def noisy_world(**sizes):
    matrix, covariance = gaussian_matrix(12), smooth_covariance()
    world = build(
        linear(matrix), defense=GaussianNoise(noise_std=0.6), covariance=covariance, **sizes
    )
    return world, wiener_risk(matrix, noise_of(world), covariance)


def test_ridge_reaches_the_wiener_risk():
    world, risk = noisy_world(auxiliary=20_000)
    assert world.attacked_by(Ridge()).is_bayes_risk(risk)


@pytest.mark.parametrize("attack", everyone(), ids=kind)
def test_nobody_beats_the_wiener_risk(attack):
    world, risk = noisy_world(auxiliary=2000, targets=400)
    assert world.attacked_by(attack).respects(risk)


def test_a_search_among_averaged_releases_errs_less_than_one_among_noisy_ones():
    world, risk = noisy_world(auxiliary=2000, targets=400)
    noisy, averaged = (
        world.attacked_by(NearestNeighbor(neighbors=16, draws=draws)).error for draws in (1, 64)
    )
    assert risk < averaged < 0.95 * noisy


def test_the_wiener_risk_has_two_equal_forms_and_bounds_the_scalar_van_trees_bound():
    matrix, covariance, noise = gaussian_matrix(12), smooth_covariance(), 0.6
    information = matrix.T @ matrix / noise**2
    precision = torch.linalg.inv(covariance)
    other = float(torch.trace(torch.linalg.inv(information + precision)) / PIXELS)
    risk = wiener_risk(matrix, noise, covariance)
    assert risk == pytest.approx(other, rel=1e-10)
    assert PIXELS / float(torch.trace(information + precision)) <= risk


@pytest.mark.parametrize("observations", [1, 4, 16])
def test_averaging_k_noisy_releases_divides_the_variance_by_k(observations):
    world, _ = noisy_world(auxiliary=20_000)
    noise = noise_of(world) / sqrt(observations)
    risk = wiener_risk(gaussian_matrix(12), noise, smooth_covariance())
    assert world.attacked_by(Ridge(), observations=observations).is_bayes_risk(risk)


@pytest.mark.parametrize("observations", [1, 4])
def test_the_most_probable_image_is_wieners(observations):
    matrix = gaussian_matrix(12)
    world = build(linear(matrix), defense=GaussianNoise(noise_std=0.6), targets=20)
    variance = noise_of(world) ** 2 / observations
    release = world.release(observations=observations).tensors[0].double()
    total = matrix @ matrix.T + variance * torch.eye(12)
    wiener = GREY + STD * release @ torch.linalg.solve(total, matrix)
    guess = world.guess(search(steps=1500), observations=observations)
    torch.testing.assert_close(guess.flatten(1).double(), wiener, atol=1e-4, rtol=0)


def test_a_scalar_under_noise_of_a_quarter_of_its_variance_keeps_a_fifth():
    world = build(identity, defense=GaussianNoise(noise_std=0.5))
    assert world.attacked_by(Ridge()).is_bayes_risk(0.2)


# O10, O13, O16: not linear


def test_relu_keeps_the_risk_of_half_a_normal():
    world = build(F.relu)
    bayes, linear_risk = (1 - 2 / pi) / 2, 1 - 0.25 / (0.5 - 1 / (2 * pi))
    assert world.attacked_by(Ridge()).is_bayes_risk(linear_risk)
    decoder = network(steps=500)
    guess = world.guess(decoder)
    assert world.score(guess).is_bayes_risk(bayes, within=0.1)
    silent = world.release().tensors[0] == 0
    assert float((guess[silent] - GREY).mean() / STD) == pytest.approx(-sqrt(2 / pi), abs=0.05)


def test_a_sign_keeps_two_over_pi():
    world = build(lambda x: torch.where(x >= 0, 1.0, -1.0))
    guess = world.guess(Ridge())
    assert world.score(guess).is_bayes_risk(1 - 2 / pi)
    size = (guess - GREY).abs().mean(0) / STD
    slack = 5 * sqrt((1 - 2 / pi) / len(world.feed.train))  # standard errors of a regression slope
    torch.testing.assert_close(size, torch.full_like(size, sqrt(2 / pi)), atol=slack, rtol=0)


def test_max_pooling_of_pairs_loses_what_quadrature_says():
    def rule(x):
        return F.max_pool2d(x, (1, 2))

    world = build(rule)
    assert world.attacked_by(network(steps=500)).is_bayes_risk(0.629866, within=0.05)
    assert world.attacked_by(Ridge()).respects(0.629866)


# O11, O15, O17, O20: parts are lost


@pytest.mark.parametrize("rows", [4, 12])
def test_a_projection_to_m_of_d_keeps_m_of_d(rows):
    world = build(linear(gaussian_matrix(rows)))
    assert world.attacked_by(Ridge()).is_bayes_risk(1 - rows / PIXELS)


def test_average_pooling_keeps_one_of_four():
    world = build(lambda x: F.avg_pool2d(x, 2))
    assert world.attacked_by(Ridge()).is_bayes_risk(3 / 4)


@pytest.mark.parametrize("observations", [1, 4])
def test_erasures_are_undone_by_looking_again(observations):
    world = build(identity, defense=Erasure(rate=0.5))
    outcome = world.attacked_by(Ridge(), observations=observations)
    assert outcome.is_bayes_risk(0.5**observations)


def test_a_principal_bottleneck_loses_the_small_eigenvalues():
    covariance = smooth_covariance()
    values, axes = torch.linalg.eigh(covariance)
    world = build(linear(axes[:, -6:].T), covariance=covariance)
    assert world.attacked_by(Ridge()).is_bayes_risk(float(values[:-6].sum()) / PIXELS)


# O23: a secret rotation is no secret


def test_as_many_pairs_as_pixels_break_a_secret_rotation():
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    hadamard = signs
    for _ in range(3):
        hadamard = torch.kron(hadamard, signs)
    world = build(lambda x: x.flatten(1) @ hadamard.T.float(), auxiliary=40, targets=50)
    attack = Ridge(penalties=(0.0,))
    assert world.attacked_by(attack).error < 1e-9
    weights = attack.export_state()["weights"] / STD
    torch.testing.assert_close(weights, hadamard / PIXELS, atol=1e-12, rtol=0)
