"""Signal-to-noise ratios: the closed form, what repeated messages show, and nothing of no noise."""

import math

import pytest
import torch

from defenses.chain import Chain
from defenses.conditional_entropy import ConditionalEntropy
from defenses.dropout import Dropout
from defenses.fisher_noise import FisherNoise
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.local_dp_laplace import LocalDpLaplace
from defenses.no_defense import NoDefense
from defenses.quantization import Quantization
from defenses.secret_rotation import SecretRotation
from defenses.shredder import Shredder
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import defense_world
from splitbench.rng import stream
from splitbench.signal import snr_db

NOISY = (
    GaussianNoise(noise_std=0.5, per="channel"),
    LaplaceNoise(noise_std=2.0),
    FisherNoise(target_mse=0.03, probes=2),
    LocalDpGaussian(epsilon=500.0),
    LocalDpLaplace(epsilon=2000.0),
    ConditionalEntropy(weight=0.0, noise_std=0.5),
    VariationalBottleneck(beta=0.01, channels=2, finetune_epochs=1),
)


def measured(defense, features):
    return snr_db(defense, features, generator=stream(0, "snr"))


def deployed(defense, cut="branch"):
    """The fitted defense, and features often enough that a ratio is good to a few hundredths."""
    world = defense_world(cut)
    found = world.deploy(defense)
    return found.defense, tuple(f.repeat(40, *[1] * (f.ndim - 1)) for f in
                                found.features(world.targets))  # fmt: skip


@pytest.mark.parametrize("defense", NOISY, ids=lambda d: type(d).__name__)
def test_what_a_defense_knows_of_its_noise_is_what_its_messages_show(defense, monkeypatch):
    fitted, features = deployed(defense)
    exact = measured(fitted, features)
    monkeypatch.setattr(type(fitted), "signal_and_noise", lambda self, features: None)
    assert measured(fitted, features) == pytest.approx(exact, abs=0.15)


def test_learnt_noise_counts_without_its_location_that_everybody_knows():
    fitted, features = deployed(Shredder(noise_std=1.0, noise_epochs=1, batch_size=24, tensors=6))
    stds = fitted.law.stds
    noise = sum(float(s.square().sum()) for s in stds) / sum(s.numel() for s in stds)
    power = sum(float(f.square().sum()) for f in features) / sum(f.numel() for f in features)
    assert measured(fitted, features) == pytest.approx(10 * math.log10(power / noise), abs=1e-4)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_erasing_at_random_is_noise_too(rate):
    """Of variance ``f^2 rate / (1 - rate)``, as what is kept is scaled up."""
    fitted, features = deployed(Dropout(rate=rate))
    assert measured(fitted, features) == pytest.approx(10 * math.log10(1 / rate - 1), abs=0.15)


def test_few_repeated_messages_do_not_flatter_the_signal():
    """At -20 dB the mean of sixteen messages still has six times the power of the features."""
    noise = GaussianNoise(noise_std=10.0)
    fitted, features = deployed(Chain(members={"noise": noise}))
    _, exact_features = deployed(noise)
    torch.testing.assert_close(features, exact_features)
    alone, _ = deployed(noise)
    assert measured(fitted, features) == pytest.approx(measured(alone, features), abs=1.0)


@pytest.mark.parametrize(
    "defense",
    [NoDefense(), Quantization(bits=4), SecretRotation(), GaussianNoise(noise_std=0.0),
     LaplaceNoise(noise_std=0.0), Shredder(noise_std=0.0), Dropout(rate=0.0)],
    ids=repr,
)  # fmt: skip
def test_messages_that_repeat_have_no_ratio(defense):
    assert measured(*deployed(defense)) is None


def test_there_is_no_ratio_where_nothing_is_said():
    fitted, features = deployed(GaussianNoise(noise_std=1.0))
    assert measured(fitted, tuple(torch.zeros_like(f) for f in features)) is None
