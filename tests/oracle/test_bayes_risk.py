"""Attacks that can reach the least possible error do, and none is ever below it."""

from math import pi, sqrt

import pytest
import torch
from laws import (
    averaged,
    erased,
    largest,
    noisy,
    principal,
    projected,
    rectified,
    scalars,
    signs,
)
from worlds import GREY, STD, smooth_covariance

from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.priors.gaussian import Gaussian
from attacks.priors.prior import Prior
from attacks.ridge import Ridge
from attacks.transformer_decoder import TransformerDecoder
from attacks.transposed_network import TransposedNetwork

LINEAR = {
    "O5": noisy,
    "O7, 4 releases": lambda: noisy(4),
    "O7, 16 releases": lambda: noisy(16),
    "O9": scalars,
    "O11, 4 of 16": lambda: projected(4),
    "O11, 12 of 16": lambda: projected(12),
    "O13": signs,
    "O15": averaged,
    "O17, 1 release": erased,
    "O17, 4 releases": lambda: erased(4),
    "O20": principal,
}
BENT = {"O10": rectified, "O16": largest}
DECODED = ("O5", "O7, 4 releases", "O11, 12 of 16", "O15", "O17, 4 releases", "O20")


class Correlated(Prior):
    """The very law of smooth images."""

    def __init__(self):
        self.precision = torch.linalg.inv(smooth_covariance()).float() / STD**2

    def __call__(self, images):
        centred = images.flatten(1) - GREY
        return (centred @ self.precision * centred).sum(1) / 2


def network(**changes):
    small = {"width": 16, "blocks": 1, "heads": 0, "patch": 1, "steps": 600, "batch_size": 64}
    return InverseNetwork(**{**small, **changes})


def transformer():
    return TransformerDecoder(width=32, layers=1, heads=2, patch=4, steps=400, batch_size=128)


def transposed():
    return TransposedNetwork(
        width=16, standardise=True, steps=1000, batch_size=64, learning_rate=0.03
    )


def search(prior, **changes):
    return LikelihoodMaximization(prior=prior, learning_rate=0.02, **changes)


@pytest.mark.parametrize("name", [*LINEAR, *BENT])
def test_the_best_estimate_errs_as_much_as_the_closed_form_says(name):
    law = {**LINEAR, **BENT}[name]()
    found = law.world.score(law.best)
    assert abs(found.error - law.risk) < 4 * found.uncertainty
    assert found.uncertainty < 0.015 * law.risk


@pytest.mark.parametrize("name", LINEAR)
def test_ridge_is_the_best_where_the_best_is_linear(name):
    """Of n examples with m values it is expected to err by a share of m / n too much: 0.1 %."""
    law = LINEAR[name]()
    assert law.excess(law.guess(Ridge())).is_excess_below(0.01)


@pytest.mark.parametrize("name", DECODED)
def test_a_trained_network_is_within_2_percent_of_the_best(name):
    law = LINEAR[name]()
    assert law.excess(law.guess(network())).is_excess_below(0.02)


@pytest.mark.parametrize("attack", [transformer(), transposed()], ids=lambda a: type(a).__name__)
def test_other_decoders_reach_the_wiener_risk_too(attack):
    """O5."""
    law = noisy()
    assert law.excess(law.guess(attack)).is_excess_below(0.02)


@pytest.mark.parametrize("observations", [1, 4, 16])
def test_the_most_probable_image_is_the_best_where_the_prior_is_right(observations):
    """O5, O7, O8: of correlated pixels, however often they are released."""
    law = noisy(observations)
    attack = search(Correlated(), weights=(1.0,), steps=1500)
    guess = law.guess(attack, count=100)
    torch.testing.assert_close(guess, law.best[:100], atol=1e-4, rtol=0)
    assert abs(law.excess(guess).error) < 1e-3


@pytest.mark.parametrize("name", ["O11, 4 of 16", "O15"])
def test_a_search_shows_the_prior_where_the_release_says_nothing(name):
    law = LINEAR[name]()
    white = Gaussian(mean=GREY, precision=1 / STD**2)
    guess = law.guess(search(white, weights=(1e3,), steps=600), count=200)
    assert law.excess(guess).is_excess_below(0.02)


def test_a_network_bends_as_relu_does():
    """O10. The step at 0 is learnt last: 5 % are left, and 4 % after thrice the steps."""
    law = rectified()
    linear_risk = 1 - 0.25 / (0.5 - 1 / (2 * pi))
    straight = law.excess(law.guess(Ridge()))
    assert straight.error == pytest.approx(linear_risk / law.risk - 1, rel=0.05)
    guess = law.guess(network())
    assert law.excess(guess).is_excess_below(0.06)
    silent = law.world.release().tensors[0] == 0
    assert float((guess[silent] - GREY).mean() / STD) == pytest.approx(-sqrt(2 / pi), abs=0.05)


def test_a_network_undoes_a_maximum_as_far_as_it_goes():
    """O16."""
    law = largest()
    assert law.excess(law.guess(network())).is_excess_below(0.02)


def test_the_sign_of_a_pixel_tells_how_far_it_is_off_on_average():
    """O13: all decoders show the mean of half a normal."""
    law = signs()
    for attack in (Ridge(), network()):
        guess = law.guess(attack)
        assert law.excess(guess).is_excess_below(0.02)
        size = (guess - GREY).abs().mean(0) / STD
        slack = 5 * sqrt(law.risk / len(law.world.feed.train))  # errors of a regression slope
        torch.testing.assert_close(size, torch.full_like(size, sqrt(2 / pi)), atol=slack, rtol=0)


def test_what_hardly_learnt_and_what_saw_the_truth_are_told_apart_from_the_best():
    law = noisy()
    assert law.excess(law.best).is_excess_below(0.02)
    assert not law.excess(law.guess(network(steps=60))).is_excess_below(0.02)
    peeked = 0.995 * law.best + 0.005 * law.world.targets
    assert not law.excess(peeked).is_excess_below(0.02)
