"""Fisher information of releases against closed forms, and what it bounds."""

import math

import pytest
import torch
from torch import nn
from worlds import (
    GREY,
    PIXELS,
    STD,
    build,
    gaussian_matrix,
    linear,
    orthogonal_matrix,
    smooth_covariance,
    wiener_risk,
)

from attacks.ridge import Ridge
from defenses.chain import Chain
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.dropout import Dropout
from defenses.early_exit import EarlyExit
from defenses.fisher_noise import FisherNoise
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.local_dp_laplace import LocalDpLaplace
from defenses.no_defense import NoDefense
from defenses.quantization import Quantization
from defenses.top_k import TopK
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import defense_world
from splitbench.fisher import (
    NotApplicableError,
    exact_fisher_trace,
    fisher_along,
    fisher_matrix,
    fisher_trace,
    safe_van_trees,
    van_trees,
)
from splitbench.models.normalize import Normalize
from splitbench.rng import isolated, stream


class Network(nn.Module):
    """Two layers with a ReLU between them, in double precision."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 7)
        )

    def forward(self, images):
        return (self.layers(images),)


def network():
    with isolated(stream(0, "fisher")):
        return Network().double().eval()


def images(count=4):
    return torch.rand(count, 1, 4, 4, generator=stream(0, "images"), dtype=torch.float64)


class UnitNoise(NoDefense):
    """Says that it adds normal noise of variance 1."""

    def information(self, features):
        return tuple(torch.ones(()).to(f) for f in features)


@pytest.mark.parametrize("observations", [1, 4])
def test_a_linear_client_tells_the_norm_of_its_matrix(observations):
    """O43."""
    matrix = gaussian_matrix(12)
    world = build(linear(matrix), defense=GaussianNoise(noise_std=0.6))
    split, defense = world.deployment.split, world.deployment.defense
    (std,) = defense.stds((world.targets,))
    found = exact_fisher_trace(split.client, defense, world.targets[:3], observations=observations)
    # The worlds' clients take pixels to zero mean and unit variance first.
    wanted = observations * float(matrix.square().sum()) / (float(std) * STD) ** 2
    assert found.trace.tolist() == pytest.approx([wanted] * 3, rel=1e-4)
    assert found.dfil.tolist() == pytest.approx([wanted / PIXELS] * 3, rel=1e-4)


def test_noise_for_a_wanted_error_is_exact_where_the_client_is_linear():
    """The best unbiased estimate, the inverse of an orthogonal matrix, errs by what was asked."""
    matrix, wanted = orthogonal_matrix(), 0.03
    world = build(linear(matrix), defense=FisherNoise(target_mse=wanted, probes=2), auxiliary=10)
    deployment = world.deployment
    (std,) = deployment.defense.stds((world.targets,))
    assert float(std) == pytest.approx(wanted**0.5 / STD, rel=1e-5)
    (sent,) = world.release().tensors
    estimate = (sent @ matrix.float() * STD + GREY).view_as(world.targets)
    error = float((estimate - world.targets).square().mean())
    assert error == pytest.approx(wanted, rel=0.02)


def test_random_signs_estimate_what_a_product_per_pixel_computes():
    """O43: within three standard errors, for a network with a ReLU."""
    client, shown = network(), images()
    exact = exact_fisher_trace(client, UnitNoise(), shown)
    found = fisher_trace(client, UnitNoise(), shown, probes=400, generator=stream(0))
    off = (found.trace - exact.trace).abs() / found.standard_error
    assert float(off.max()) < 3
    assert float(exact.standard_error.max()) == 0


def test_the_variance_of_random_signs_is_that_of_the_off_diagonal():
    """O43: ``2 (|I|_F^2 - sum of the squared diagonal)`` for one probe."""
    client, shown = network(), images(1)
    (information,) = fisher_matrix(client, UnitNoise(), shown)
    outside = information.square().sum() - information.diagonal().square().sum()
    found = fisher_trace(client, UnitNoise(), shown, probes=4000, generator=stream(0))
    measured = float(found.standard_error) * math.sqrt(4000)
    assert measured == pytest.approx(float((2 * outside).sqrt()), rel=0.1)


def test_the_matrix_has_the_trace_and_the_jacobian_of_autograd():
    client, shown = network(), images(2)
    found = fisher_matrix(client, UnitNoise(), shown)
    for image, information in zip(shown, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: client(x[None])[0][0], image)
        rows = jacobian.flatten(1)
        torch.testing.assert_close(information, rows.T @ rows)
    trace = exact_fisher_trace(client, UnitNoise(), shown).trace
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2).sum(1), trace)


def test_normalising_pixels_divides_the_information_by_their_variance():
    """O44."""
    normalize = Normalize(1, mean=(0.4,), std=(0.25,)).double()
    client, shown = network(), images()
    inside = exact_fisher_trace(client, UnitNoise(), normalize(shown)).trace
    through = exact_fisher_trace(lambda x: client(normalize(x)), UnitNoise(), shown).trace
    torch.testing.assert_close(through, inside / 0.25**2)


@pytest.mark.parametrize(
    "defense",
    [
        NoDefense(),
        Quantization(bits=4),
        TopK(share=0.5),
        Dropout(rate=0.5),
        GaussianNoise(noise_std=0.0),
        LaplaceNoise(noise_std=0.0),
        Chain(members={"noise": GaussianNoise(noise_std=0.5), "bits": Quantization(bits=4)}),
        Chain(members={"exit": EarlyExit(share=0.4), "noise": GaussianNoise(noise_std=0.5)}),
    ],
    ids=repr,
)
def test_what_rounds_erases_or_adds_nothing_has_no_information_rather_than_none(defense):
    """O46."""
    world = defense_world()
    deployed = world.deploy(defense)
    with pytest.raises(NotApplicableError, match="no Fisher information"):
        exact_fisher_trace(deployed.split.client, deployed.defense, world.targets[:2])


def test_one_probe_has_no_error_and_is_refused():
    with pytest.raises(ValueError, match="probes=1"):
        fisher_trace(network(), UnitNoise(), images(), probes=1, generator=stream(0))


@pytest.mark.parametrize(
    "defense",
    [
        GaussianNoise(noise_std=0.5),
        LaplaceNoise(noise_std=0.5),
        LocalDpGaussian(epsilon=8.0, clip=1e3),  # far beyond the features: nothing is clipped
        LocalDpLaplace(epsilon=8.0, clip=1e3),
        Chain(members={"one": GaussianNoise(noise_std=0.5), "two": GaussianNoise(noise_std=1.0)}),
    ],
    ids=repr,
)
def test_the_information_of_noise_is_the_variance_of_its_score(defense):
    world = defense_world()
    deployed = world.deploy(defense)
    features = tuple(f[:1].double() for f in deployed.features(world.targets))
    place = tuple(f.expand(20_000, *f.shape[1:]).clone().requires_grad_() for f in features)
    sent = deployed.defense.protect(place, generator=stream(0, "score"))
    surprise = deployed.defense.negative_log_likelihood(tuple(s.detach() for s in sent), place)
    (score,) = torch.autograd.grad(surprise.sum(), place)
    weight = deployed.defense.information(features)[0]
    assert float(score.square().mean()) == pytest.approx(float(weight.mean()), rel=0.02)


@pytest.mark.parametrize("kind", [LocalDpGaussian, LocalDpLaplace])
@pytest.mark.parametrize("share", [0.5, 2.0], ids=["bites", "does not"])
def test_noise_on_clipped_features_tells_the_jacobian_of_client_and_clip(kind, share):
    """In closed form: ``s (I - f g^T / |f|) W`` where the norm is too long by 1 / s, else ``W``."""
    matrix = gaussian_matrix(12)
    client, shown = linear_client(matrix), images(3)
    f = (shown.flatten(1) @ matrix.T).double()
    norms = torch.linalg.vector_norm(f, kind.order, dim=1)
    bound = share * float(norms.min() if share < 1 else norms.max())
    defense = kind(epsilon=2.0, clip=bound)
    slope = f / norms[:, None] if kind.order == 2 else f.sign()  # of the norm
    whole = torch.eye(12).double()
    bites = whole - f[:, :, None] * slope[:, None, :] / norms[:, None, None]
    scale = (bound / norms)[:, None, None]
    jacobian = (scale * bites if share < 1 else whole.expand(3, 12, 12)) @ matrix
    std = defense.relative_std * bound
    weight = (1 if kind is LocalDpGaussian else 2) / std**2
    wanted = weight * jacobian.transpose(1, 2) @ jacobian
    torch.testing.assert_close(fisher_matrix(client, defense, shown), wanted)
    trace = wanted.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(exact_fisher_trace(client, defense, shown).trace, trace)
    units = torch.eye(PIXELS).double().view(PIXELS, *shown.shape[1:])
    torch.testing.assert_close(fisher_along(client, defense, shown[0], units), wanted[0])


def linear_client(matrix):
    return lambda x: (x.flatten(1) @ matrix.T,)


def test_noise_behind_a_bottleneck_is_noise_on_the_narrowed_client():
    world = defense_world()
    noise = GaussianNoise(noise_std=0.5)
    members = {"narrow": DistillationBottleneck(channels=2, epochs=1), "noise": noise}
    deployed = world.deploy(Chain(members=members))
    client, shown = deployed.split.client, world.targets[:3]
    alone = GaussianNoise(noise_std=0.5)
    alone.calibrate(deployed.split, world.train)
    wanted = exact_fisher_trace(client, alone, shown).trace
    found = exact_fisher_trace(client, deployed.defense, shown).trace
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(
        wanted, exact_fisher_trace(world.split.client, alone, shown).trace, rtol=0.1
    )


def test_noise_on_a_draw_tells_less_than_the_draw():
    """Variances add up; how the mean's and the variance's slopes count is by the chain rule."""
    world = defense_world()
    members = {
        "draw": VariationalBottleneck(beta=0.01, channels=2, finetune_epochs=1),
        "noise": GaussianNoise(noise_std=0.5),
    }
    deployed = world.deploy(Chain(members=members))
    draw, noise = deployed.defense.stages
    client, shown = deployed.split.client, world.targets[:3]
    features = deployed.features(shown)
    (std,) = noise.stds(features[:1])

    class Summed(NoDefense):
        """About mean m and log variance s, of a normal law of variance ``v = e^s + std^2``."""

        def information(self, features):
            total = features[1].exp() + std**2
            return 1 / total, (features[1].exp() / total).square() / 2

    found = exact_fisher_trace(client, deployed.defense, shown).trace
    torch.testing.assert_close(found, exact_fisher_trace(client, Summed(), shown).trace)
    assert bool((found < exact_fisher_trace(client, draw, shown).trace).all())


def test_the_information_of_a_drawn_variance_counts_both_of_its_parameters():
    defense = VariationalBottleneck(beta=0.1)
    mean, spread = torch.zeros(40_000, 2).double(), torch.full((40_000, 2), 0.7).double()
    place = (mean.clone().requires_grad_(), spread.clone().requires_grad_())
    sent = defense.protect(place, generator=stream(0))
    surprise = defense.negative_log_likelihood(tuple(s.detach() for s in sent), place)
    scores = torch.autograd.grad(surprise.sum(), place)
    for score, weight in zip(scores, defense.information((mean, spread)), strict=True):
        assert float(score.square().mean()) == pytest.approx(float(weight.mean()), rel=0.03)


def linear_world(noise_std):
    matrix, covariance = gaussian_matrix(12), smooth_covariance()
    defense = GaussianNoise(noise_std=noise_std)
    world = build(linear(matrix), defense=defense, covariance=covariance)
    (std,) = world.deployment.defense.stds((world.targets,))
    return world, wiener_risk(matrix, float(std), covariance), covariance


def test_van_trees_is_the_bayes_risk_where_all_is_linear_and_normal():
    """O6, with the information that the real defense reports."""
    world, risk, covariance = linear_world(0.6)
    deployed = world.deployment
    information = fisher_matrix(deployed.split.client, deployed.defense, world.targets[:2])
    prior = torch.linalg.inv(covariance) / STD**2  # in pixels rather than in deviations
    bound = van_trees(information.double(), prior) / STD**2
    assert float(bound) == pytest.approx(risk, rel=1e-4)


def test_a_safe_bound_of_a_linear_client_loses_nothing():
    same = smooth_covariance()[None].expand(4, -1, -1)
    bounds = [safe_van_trees(same, same[0], confidence=c) for c in (0.5, 0.999)]
    assert bounds == pytest.approx([float(van_trees(same, same[0]))] * 2)


def test_a_safe_bound_of_few_draws_is_not_above_that_of_all_and_the_mean_is():
    """Information along a random direction each time, 20 of 8 in the mean: 1 / (20 + 1)."""
    own, truth = torch.eye(8).double(), 1 / 21
    plain, safe, likely = [], [], []
    for seed in range(200):
        found = torch.randn(128, 8, generator=stream(seed, "draws"), dtype=torch.float64)
        information = 20 * found[:, :, None] * found[:, None, :]
        plain.append(float(van_trees(information, own)))
        safe.append(safe_van_trees(information, own, confidence=0.999))
        likely.append(safe_van_trees(information, own, confidence=0.5))
    assert min(safe) > 0.4 * truth
    assert max(safe) <= truth
    assert all(a < b for a, b in zip(safe, likely, strict=True))
    assert sum(one > truth for one in plain) > 150


def test_a_safe_bound_needs_draws_for_an_interval():
    with pytest.raises(ValueError, match="3 draws: want at least 4"):
        safe_van_trees(torch.eye(2).expand(3, 2, 2), torch.eye(2), confidence=0.9)


def test_a_learnt_attack_goes_below_what_binds_the_unbiased_only():
    """O6: at much noise 1 / dFIL exceeds the variance of the pixels; ridge does not."""
    world, risk, _ = linear_world(3.0)
    deployed = world.deployment
    dfil = exact_fisher_trace(deployed.split.client, deployed.defense, world.targets[:1]).dfil
    unbiased = 1 / float(dfil) / STD**2
    error = world.attacked_by(Ridge()).error
    assert risk <= error * 1.02 < 1.05 < unbiased
