"""Every attack against channels whose Bayes risk is known: never better, and close where it can."""

import pytest
import torch
from everyone import everyone, kind
from laws import noisy
from torch.nn import functional as F
from worlds import (
    GREY,
    PIXELS,
    STD,
    build,
    gaussian_matrix,
    orthogonal_matrix,
    smooth_covariance,
    wiener_risk,
)

from attacks.inverse_network import InverseNetwork
from attacks.learned_retrieval import LearnedRetrieval
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.likelihood_selection import LikelihoodSelection
from attacks.nearest_neighbor import NearestNeighbor
from attacks.priors.gaussian import Gaussian
from attacks.ridge import Ridge
from attacks.shuffled_pairs import ShuffledPairs
from attacks.stacked_combination import StackedCombination
from attacks.transformer_decoder import TransformerDecoder
from attacks.transposed_network import TransposedNetwork

PRIOR = Gaussian(mean=GREY, precision=1 / STD**2)
SEARCH = {"steps": 300, "weights": (1.0,), "prior": PRIOR, "learning_rate": 0.02}
NETWORK = {"width": 16, "blocks": 1, "heads": 0, "patch": 1, "steps": 300, "batch_size": 64}
TRANSPOSED = {"width": 32, "standardise": True, "steps": 600, "learning_rate": 0.03}
# Longer than the contract's, where that gets closer to the best.
LONGER = {
    InverseNetwork: [NETWORK],
    LearnedRetrieval: [{"components": 16, "steps": 100, "draws": 8}],
    LikelihoodMaximization: [
        SEARCH,
        {**SEARCH, "weights": (0.1, 1.0, 100.0), "warm_start": Ridge(), "prior": None},
    ],
    LikelihoodSelection: [{"members": {"ridge": Ridge(), "retrieval": NearestNeighbor()}}],
    StackedCombination: [{"members": {"ridge": Ridge(), "retrieval": NearestNeighbor()}}],
    TransformerDecoder: [
        {"width": 32, "layers": 1, "heads": 2, "patch": 1, "steps": 60, "batch_size": 64}
    ],
    TransposedNetwork: [TRANSPOSED],
}


def identity(x):
    return x


# O1, O2: nothing is lost


@pytest.mark.parametrize(
    ("attack", "most"),
    [
        (Ridge(), 1e-9),
        (LikelihoodMaximization(**SEARCH), 1e-3),
        (InverseNetwork(**NETWORK), 2e-3),
        (TransposedNetwork(**TRANSPOSED), 0.02),
    ],
    ids=kind,
)
def test_an_undefended_image_is_recovered(attack, most):
    assert build(identity, targets=200).attacked_by(attack).error < most


def test_the_search_inverts_an_orthogonal_convolution_with_a_leaky_relu_to_60_db():
    matrix = orthogonal_matrix(4).float().view(4, 4, 1, 1)
    world = build(
        lambda x: F.leaky_relu(F.conv2d(F.pixel_unshuffle(x, 2), matrix), 0.2), targets=50
    )
    attack = LikelihoodMaximization(**{**SEARCH, "prior": None, "steps": 1000})
    error = world.attacked_by(attack).error * STD**2
    assert -10 * torch.log10(torch.tensor(error)) > 60


# O4: nothing is there (O3 is in test_null_channels)


def test_a_decoder_of_shuffled_pairs_does_not_beat_the_mean():
    floor = ShuffledPairs(width=32, blocks=1, heads=0, patch=1, steps=100, batch_size=64)
    assert build(identity).attacked_by(floor).respects(1.0)


# O5, O6: what nobody can do better (who gets there is in test_bayes_risk)


def test_a_search_among_averaged_releases_errs_less_than_one_among_noisy_ones():
    law = noisy(auxiliary=2000, targets=400)
    near, nearer = (
        law.world.attacked_by(NearestNeighbor(neighbors=16, draws=draws)).error for draws in (1, 64)
    )
    assert law.risk < nearer < 0.95 * near


def test_the_wiener_risk_has_two_equal_forms_and_bounds_the_scalar_van_trees_bound():
    matrix, covariance, noise = gaussian_matrix(12), smooth_covariance(), 0.6
    information = matrix.T @ matrix / noise**2
    precision = torch.linalg.inv(covariance)
    other = float(torch.trace(torch.linalg.inv(information + precision)) / PIXELS)
    risk = wiener_risk(matrix, noise, covariance)
    assert risk == pytest.approx(other, rel=1e-10)
    assert PIXELS / float(torch.trace(information + precision)) <= risk


@pytest.mark.parametrize("attack", everyone(LONGER), ids=kind)
def test_nobody_beats_the_wiener_risk(attack):
    """Each guess is held against the best estimate of the very same image."""
    law = noisy(auxiliary=2000, targets=400)
    guess = law.guess(attack, count=attack.max_targets)
    assert law.excess(guess).respects(0.0)


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
