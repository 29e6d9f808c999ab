"""Defenses against closed forms and independent implementations."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.quantization import Quantization
from splitbench.checks.defense_world import defense_world
from splitbench.data.images import LabeledImages
from splitbench.rng import stream
from splitbench.split import split

RMS = 2.0


def with_scale(defense):
    """Fitted to features of root mean square 2."""

    class Constant(nn.Module):
        def forward(self, images):
            return (torch.full((len(images), 3), RMS),)

    blank = LabeledImages(torch.zeros(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64), ("only",))
    defense.scale.calibrate(Constant(), blank)
    return defense


def surprise_difference(defense, z, f, g, k=1):
    one, other = (
        defense.negative_log_likelihood((z,), (guess,), observations=k) for guess in (f, g)
    )
    return (one - other).double()


def triples(n=5):
    return torch.randn(3, n, 3, generator=stream(0, "oracle")) * RMS


@pytest.mark.parametrize("k", [1, 4, 16])
def test_gaussian_likelihood_equals_that_of_scipy(k):
    z, f, g = triples()
    law = stats.norm(scale=0.7 * RMS / math.sqrt(k))
    expected = (law.logpdf(z - g) - law.logpdf(z - f)).sum(1)
    ours = surprise_difference(with_scale(GaussianNoise(noise_std=0.7)), z, f, g, k)
    assert ours.tolist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-4)


def test_laplace_likelihood_of_one_release_equals_that_of_scipy():
    z, f, g = triples()
    law = stats.laplace(scale=0.7 * RMS / math.sqrt(2))
    expected = (law.logpdf(z - g) - law.logpdf(z - f)).sum(1)
    ours = surprise_difference(with_scale(LaplaceNoise(noise_std=0.7)), z, f, g)
    assert ours.tolist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("k", [2, 3, 4, 7, 16])
def test_laplace_likelihood_of_k_releases_is_the_density_of_their_median(k):
    noise_std = math.sqrt(2) / RMS  # scale 1
    defense = with_scale(LaplaceNoise(noise_std=noise_std))

    def density(u):
        """Of the median at u: integrated over the two middle values where k is even."""
        p, cdf, n = stats.laplace.pdf, stats.laplace.cdf, k // 2
        if k % 2:
            return (cdf(u) * cdf(-u)) ** n * p(u)

        def gap(t):
            return (cdf(u - t) * cdf(-u - t)) ** (n - 1) * p(u - t) * p(u + t)

        return integrate.quad(gap, 0, 40, points=[u, 1], limit=400)[0]

    places = torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0])
    ours = defense.negative_log_likelihood(
        (places[:, None].repeat(1, 3),), (torch.zeros(5, 3),), observations=k
    )
    expected = -3 * np.log([density(float(u)) for u in places])
    assert (ours - ours[0]).tolist() == pytest.approx(
        (expected - expected[0]).tolist(), rel=1e-4, abs=1e-3
    )


@pytest.mark.parametrize("k", [1, 4, 16])
def test_k_pooled_gaussian_releases_have_a_kth_of_the_variance(k):
    defense = with_scale(GaussianNoise(noise_std=0.5))
    features = (torch.zeros(20_000, 3),)
    generator = stream(0, "pool")
    pooled = defense.pool([defense.protect(features, generator=generator) for _ in range(k)])[0]
    assert float(pooled.var()) * k == pytest.approx((0.5 * RMS) ** 2, rel=0.03)


def test_pooled_laplace_releases_are_nearer_than_their_mean():
    defense = with_scale(LaplaceNoise(noise_std=1.0))
    features = (torch.zeros(20_000, 3),)
    generator = stream(0, "pool")
    seen = [defense.protect(features, generator=generator) for _ in range(16)]
    median = float(defense.pool(seen)[0].square().mean())
    mean = float(torch.stack([s[0] for s in seen]).mean(0).square().mean())
    assert mean == pytest.approx(RMS**2 / 16, rel=0.03)
    assert median < 0.7 * mean


def test_laplace_noise_has_the_law_that_it_claims():
    defense = with_scale(LaplaceNoise(noise_std=0.5))
    noise = defense.protect((torch.zeros(4000, 3),), generator=stream(0, "law"))[0]
    fit = stats.kstest(noise.flatten().numpy(), stats.laplace(scale=0.5 * RMS / math.sqrt(2)).cdf)
    assert fit.pvalue > 0.01


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_quantised_uniform_features_have_the_error_of_a_uniform_law(bits):
    defense = Quantization(bits=bits, clip=(0.0, 1.0))
    features = torch.rand(40, 1000, generator=stream(0, "uniform"))
    sent = defense.codec.transform(defense.protect((features,), generator=stream(0)))[0]
    step = 2.0**-bits
    assert float((sent - features).abs().max()) <= step / 2 + 1e-6
    assert float((sent - features).square().mean()) == pytest.approx(step**2 / 12, rel=0.02)


def test_a_bottleneck_of_m_channels_leaves_a_linear_model_the_m_largest_variances():
    """O20: with a linear server to match, distillation finds the principal components."""
    generator = stream(0, "pca")
    variances = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25])
    mixing = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    data = (torch.randn(600, 5, generator=generator) * variances.sqrt()) @ mixing
    train = LabeledImages(data[:, :, None, None], torch.zeros(600, dtype=torch.int64), ("only",))
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 5)).eval()
    defense = DistillationBottleneck(
        channels=2, epochs=30, learning_rate=1e-2, alpha=0.0, beta=1.0, temperature=1.0
    )
    parts = defense.adapt(split(model, data[:1, :, None, None], "0"))
    # The teacher is certain of nothing: only the features are left to be matched.
    nn.init.zeros_(parts.server.tail.get_parameter("1.weight"))
    nn.init.zeros_(parts.server.tail.get_parameter("1.bias"))
    defense.fit(parts, train, generator=stream(0, "fit"))
    with torch.no_grad():
        error = (
            (parts.server.restore(parts.client(data[:, :, None, None]))[0] - data).square().sum(1)
        )
    lost = torch.linalg.eigvalsh(data.T @ data / len(data))[:3].sum()
    assert float(error.mean() / lost) == pytest.approx(1.0, abs=0.1)


def test_a_server_that_receives_only_noise_is_no_better_than_the_majority_class():
    """O33: what is drowned cannot be learnt, however the server is tuned."""
    world = defense_world()
    deployed = world.deploy(GaussianNoise(noise_std=1e3, finetune_epochs=3))
    images, labels = world.train.images().repeat(4, 1, 1, 1), world.train.labels.repeat(4)
    sent = deployed.release(images, generator=stream(0, "message"))
    right = (deployed.predict(sent).argmax(1) == labels).float().mean()
    error = math.sqrt(2 / 9 / len(labels))
    assert float(right) == pytest.approx(1 / 3, abs=4 * error)
