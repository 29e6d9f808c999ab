"""Least errors against closed forms, and attacks that do not beat them."""

import dataclasses

import pytest
import torch
from worlds import (
    GREY,
    PIXELS,
    SIDE,
    STD,
    build,
    gaussian_matrix,
    linear,
    smooth_covariance,
    wiener_risk,
)

from attacks.ridge import Ridge
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.no_defense import NoDefense
from splitbench.certificate import least_distortion, noise_certificate, rate_certificate
from splitbench.codecs.sign import Sign
from splitbench.codecs.uniform import Uniform
from splitbench.fisher import NotApplicableError
from splitbench.normal_prior import NormalPrior
from splitbench.rng import stream

GREYS = torch.full((1, SIDE, SIDE), GREY)


def prior(covariance=None):
    """That from which the worlds draw their images."""
    covariance = torch.eye(PIXELS).double() if covariance is None else covariance
    return NormalPrior.of_covariance(
        GREYS, STD**2 * covariance, name="the prior of the world", applies=True
    )


def share(certificate):
    """In units of the variance of a pixel, as errors of worlds are."""
    return certificate.least_mse / STD**2


@pytest.mark.parametrize("bits", [0.0, 3.0, 16.0, 100.0])
def test_each_bit_per_value_of_white_images_is_worth_a_quarter_of_the_error(bits):
    """B3: at most 6.02 dB for each bit per dimension."""
    found = least_distortion(torch.full((PIXELS,), 0.3), bits=bits)
    assert found == pytest.approx(PIXELS * 0.3 * 4 ** (-bits / PIXELS), rel=1e-6)


def test_the_level_spends_the_bits_where_images_vary_most():
    """Variances 4 and 1: the first bit goes to the larger one, from then on both are told."""
    variances = torch.tensor([1.0, 4.0]).double()
    assert least_distortion(variances, bits=0.5) == pytest.approx(2 + 1)
    assert least_distortion(variances, bits=1.0) == pytest.approx(1 + 1)
    assert least_distortion(variances, bits=2.0) == pytest.approx(2 * 4**-0.5)


def test_a_level_that_was_found_costs_as_many_bits_as_were_given():
    variances = torch.linalg.eigvalsh(smooth_covariance())
    for bits in (1.0, 7.0, 40.0):
        step = 1e-4
        slope = (least_distortion(variances, bits=bits + step) -
                 least_distortion(variances, bits=bits)) / step  # fmt: skip
        level = -slope / (2 * torch.tensor(2.0).log())  # dD/dR = -2 ln 2 times the level
        spent = (variances / level).log2().clamp(min=0).sum() / 2
        assert float(spent) == pytest.approx(bits, rel=1e-3)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_quantiser_errs_more_than_the_best_code_of_its_rate(bits):
    """O31, for the best guess of the middle of each cell: 0.3634, 0.1176, 0.0109."""
    errors = {1: 0.36338, 2: 0.11755, 4: 0.010921}
    best = least_distortion(torch.ones(1), bits=bits)
    assert best == pytest.approx(4.0**-bits)
    assert best < errors[bits]


@pytest.mark.parametrize("codec", [Sign(), Uniform(bits=1), Uniform(bits=3)], ids=repr)
def test_no_attack_errs_less_than_its_message_allows(codec):
    """From bytes that are counted, headers included, to the error of a fitted decoder."""
    covariance = smooth_covariance()
    world = build(linear(torch.eye(PIXELS)[:6].double()), covariance=covariance, auxiliary=2_000)
    deployment = dataclasses.replace(world.deployment, codec=codec)
    world = dataclasses.replace(world, deployment=deployment, targets=world.targets[:1000])
    found = rate_certificate(prior(covariance), payload_bytes=codec.payload_bound(deployment.specs))
    assert world.attacked_by(Ridge()).respects(share(found))
    # Without the header, which tells nothing, the same holds and says more.
    tight = rate_certificate(
        prior(covariance), payload_bytes=-(-6 * getattr(codec, "bits", 1) // 8)
    )
    assert share(found) < share(tight)
    assert world.attacked_by(Ridge()).respects(share(tight))


def test_several_messages_that_differ_say_more_than_one():
    one, many = (rate_certificate(prior(), payload_bytes=4, messages=k) for k in (1, 16))
    assert share(one) == pytest.approx(4 ** (-32 / PIXELS), rel=1e-3)
    assert share(many) == pytest.approx(share(one) ** 16, rel=1e-6)


def noisy(matrix, covariance, kind=GaussianNoise, std=0.6):
    world = build(linear(matrix), defense=kind(noise_std=std), covariance=covariance)
    split, defense = world.deployment.split, world.deployment.defense
    (found,) = defense.stds((world.targets,))
    return world, split.client, defense, float(found)


@pytest.mark.parametrize("observations", [1, 4])
def test_noise_on_a_linear_client_is_certified_at_the_error_of_the_best_guess(observations):
    """O5, O6 and O7 through the defense that adds it."""
    matrix, covariance = gaussian_matrix(12), smooth_covariance()
    world, client, defense, std = noisy(matrix, covariance)
    found = noise_certificate(
        client, defense, prior(covariance), observations=observations, generator=stream(0)
    )
    risk = wiener_risk(matrix, std / observations**0.5, covariance)
    assert share(found) == pytest.approx(risk, rel=1e-4)
    assert found.binds
    assert world.attacked_by(Ridge(), observations=observations).respects(share(found))


def test_confidence_costs_nothing_where_every_draw_says_the_same():
    covariance = smooth_covariance()
    _, client, defense, _ = noisy(gaussian_matrix(12), covariance)
    mean, safe = (
        noise_certificate(
            client, defense, prior(covariance), draws=4, confidence=sure, generator=stream(0)
        )
        for sure in (None, 0.999)
    )
    assert safe.least_mse == pytest.approx(mean.least_mse, rel=1e-5)
    assert "99.9% confidence" in safe.assumptions[0]
    assert "confidence" not in mean.assumptions[0]


def test_fewer_directions_certify_less():
    covariance = smooth_covariance()
    _, client, defense, _ = noisy(gaussian_matrix(12), covariance)
    few, more, every = (
        share(
            noise_certificate(
                client, defense, prior(covariance), directions=count, draws=1, generator=stream(0)
            )
        )
        for count in (4, 9, None)
    )
    assert 0.05 < few < more < every


def test_heavier_tails_at_equal_variance_tell_twice_as_much_at_most():
    covariance = smooth_covariance()
    found = {}
    for kind in (GaussianNoise, LaplaceNoise):
        _, client, defense, _ = noisy(gaussian_matrix(12), covariance, kind)
        certificate = noise_certificate(client, defense, prior(covariance), generator=stream(0))
        found[kind] = share(certificate)
    assert 0.5 * found[GaussianNoise] < found[LaplaceNoise] < found[GaussianNoise]


def test_what_has_no_fisher_information_has_no_certificate_of_noise():
    world = build(linear(gaussian_matrix(4)), defense=NoDefense(), auxiliary=10, targets=10)
    with pytest.raises(NotApplicableError):
        noise_certificate(world.deployment.split.client, NoDefense(), prior(), generator=stream(0))


@pytest.mark.parametrize("count", [10, 200])
def test_a_prior_of_images_has_their_covariance_whether_they_are_many_or_few(count):
    images = torch.rand(count, 1, SIDE, SIDE, generator=stream(0), dtype=torch.float64)
    found = NormalPrior.of_images(images, name="these", applies="they are others")
    assert len(found.variances) == min(count - 1, PIXELS)
    rebuilt = found.directions.T @ found.variances.diag() @ found.directions
    torch.testing.assert_close(rebuilt, images.flatten(1).T.cov())
    drawn = found.sample(50_000, generator=stream(1)).flatten(1)
    torch.testing.assert_close(drawn.T.cov(), rebuilt, atol=0.004, rtol=0)  # 4 errors of 0.001
    assert not rate_certificate(found, payload_bytes=1).binds
