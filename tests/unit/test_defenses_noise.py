"""Additive noise: its scale, its freshness, its likelihood."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from defenses.additive_noise import AdditiveNoise
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.noise_scale import QUIETEST, NoiseScale
from splitbench.checks.defense_world import defense_world
from splitbench.data.images import LabeledImages
from splitbench.rng import stream
from tests.unit.test_defenses_training import trained

KINDS = [GaussianNoise, LaplaceNoise]
kinds = pytest.mark.parametrize("kind", KINDS)


class Channels(nn.Module):
    """Features with a known root mean square: 1, 10, and a channel that is silent in training."""

    def forward(self, images):
        sign = torch.where(images[:, :1] > 0.5, 1.0, -1.0)
        return (torch.cat([sign, 10 * sign, 0 * sign], dim=1), 3 * sign.flatten(1))


def images(n=64):
    pixels = torch.rand(n, 1, 4, 4, generator=stream(0, "test"))
    return LabeledImages(pixels, torch.zeros(n, dtype=torch.int64), ("only",))


def calibrated(per):
    scale = NoiseScale(per=per)
    scale.calibrate(Channels(), images(), batch_size=10)
    return scale


def fitted(defense, cut="branch"):
    world = defense_world(cut)
    defense.fit(world.split, world.train, generator=stream(0, "fit"))
    return defense, world.features(world.targets)


def test_the_scale_of_a_tensor_is_its_root_mean_square():
    scales = calibrated("tensor")(Channels()(images(5).images()))
    assert [s.item() for s in scales] == pytest.approx([math.sqrt(101 / 3), 3.0])


def test_the_scale_of_a_channel_is_its_root_mean_square():
    first, second = calibrated("channel")(Channels()(images(5).images()))
    quiet = QUIETEST * math.sqrt(101 / 3)
    assert first.shape == (1, 3, 1, 1)
    assert first.flatten().tolist() == pytest.approx([1.0, 10.0, quiet])
    assert second.shape == (1, 16)
    assert second.flatten().tolist() == pytest.approx([3.0] * 16)


def test_the_channel_of_tokens_is_their_last_axis():
    class Tokens(nn.Module):
        def forward(self, images):
            return (torch.ones(len(images), 5, 2) * torch.tensor([1.0, 4.0]),)

    scale = NoiseScale(per="channel")
    scale.calibrate(Tokens(), images())
    assert scale((torch.zeros(1, 5, 2),))[0].tolist() == [[[1.0, 4.0]]]


def test_features_that_are_all_zero_are_refused():
    class Silent(nn.Module):
        def forward(self, images):
            return (0 * images,)

    with pytest.raises(ValueError, match="choose another cut"):
        NoiseScale(per="tensor").calibrate(Silent(), images())


@kinds
def test_protecting_before_fitting_says_what_to_do(kind):
    with pytest.raises(RuntimeError, match=r"call fit\(\) before protect\(\)"):
        kind(noise_std=0.1).protect((torch.ones(2, 3),), generator=stream(0))


@kinds
@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"noise_std": -0.1}, "not negative"),
        ({"noise_std": math.inf}, "finite"),
        ({"noise_std": math.nan}, "finite"),
        ({"noise_std": 0.1, "per": "pixel"}, "pixel"),
        ({"noise_std": 0.1, "finetune_epochs": -1}, "finetune_epochs=-1"),
        ({"noise_std": 0.1, "learning_rate": 0.0}, "must be positive"),
        ({"noise_std": 0.1, "batch_size": 0}, "at least 1"),
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        kind(**keywords)


@kinds
def test_the_repr_rebuilds_the_defense(kind):
    defense = kind(noise_std=0.25, per="channel", finetune_epochs=2)
    assert repr(eval(repr(defense))) == repr(defense)
    assert eval(repr(defense)).arguments() == defense.arguments()


@kinds
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_the_measured_signal_to_noise_ratio_is_the_declared_one(kind, per):
    world = defense_world("branch")
    defense = kind(noise_std=0.5, per=per)
    defense.fit(world.split, world.train, generator=stream(0))
    features = world.features(world.train.images().repeat(4, 1, 1, 1))
    for f, z in zip(features, defense.protect(features, generator=stream(1)), strict=True):
        snr_db = 10 * math.log10(float(f.square().sum() / (z - f).square().sum()))
        assert snr_db == pytest.approx(defense.snr_db, abs=0.2)
    assert defense.snr_db == pytest.approx(6.0206, abs=1e-3)
    assert "6.0 dB" in defense.guarantee().statement


@kinds
def test_noise_per_channel_is_in_proportion_to_the_channel(kind):
    defense = kind(noise_std=0.3, per="channel")
    defense.scale.calibrate(Channels(), images())
    features = Channels()(images(500).images())
    noise = defense.protect(features, generator=stream(0))[0] - features[0]
    expected = [0.3, 3.0, 0.3 * QUIETEST * math.sqrt(101 / 3)]
    assert noise.std((0, 2, 3)).tolist() == pytest.approx(expected, rel=0.05)


@kinds
def test_noise_is_fresh_in_eval_mode_and_different_for_each_example(kind):
    defense, features = fitted(kind(noise_std=0.5))
    defense.eval()
    generator = stream(0)
    same = tuple(f[:1].repeat(2, *[1] * (f.ndim - 1)) for f in features)
    first, second = (defense.protect(same, generator=generator) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert not (a == b).any()
        assert not (a[0] == a[1]).any()


@kinds
def test_zero_noise_is_no_defense_and_needs_no_fitting(kind):
    features = (torch.ones(2, 3),)
    assert kind(noise_std=0.0).protect(features, generator=stream(0)) is features
    assert kind(noise_std=0.0).negative_log_likelihood(features, features) is None


@kinds
def test_more_noise_explains_the_true_features_less_sharply(kind):
    world = defense_world()
    gaps = []
    for noise_std in (0.1, 0.5, 2.0):
        defense = kind(noise_std=noise_std)
        defense.fit(world.split, world.train, generator=stream(0))
        f = world.features(world.targets)
        z = defense.protect(f, generator=stream(1))
        wrong = tuple(part.roll(1, 0) for part in f)
        truth, other = (defense.negative_log_likelihood(z, guess) for guess in (f, wrong))
        gaps.append(float((other - truth).mean()))
    assert gaps[0] > gaps[1] > gaps[2] > 0


@kinds
def test_the_gradient_of_the_likelihood_points_to_the_features(kind):
    defense, features = fitted(kind(noise_std=0.5))
    z = defense.protect(features, generator=stream(0))
    guess = tuple((f + 3).requires_grad_() for f in features)
    defense.negative_log_likelihood(z, guess, observations=3).sum().backward()
    assert all((g.grad.mean() > 0) and g.grad.isfinite().all() for g in guess)


@kinds
def test_a_fresh_defense_takes_the_state_of_a_fitted_one(kind):
    defense, features = fitted(kind(noise_std=0.5, per="channel"))
    again = kind(noise_std=0.5, per="channel")
    again.load_state_dict(defense.state_dict())
    sent, again_sent = (d.protect(features, generator=stream(0)) for d in (defense, again))
    assert all(map(torch.equal, sent, again_sent))


@kinds
def test_fitting_looks_at_nothing_but_the_train_images(kind):
    world = defense_world()
    half = world.train.subset(slice(0, 100))
    defense = kind(noise_std=0.5)
    defense.fit(world.split, half, generator=stream(0))
    features = world.features(half.images())[0]
    assert defense.scale.rms_0.item() == pytest.approx(features.square().mean().sqrt().item())


def test_both_kinds_share_their_machinery_and_nothing_else():
    assert not AdditiveNoise.__abstractmethods__ <= vars(AdditiveNoise.__base__).keys()
    assert {kind.__base__ for kind in KINDS} == {AdditiveNoise}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
def test_the_pool_of_laplace_releases_lies_within_them(seed, k):
    seen = [(torch.randn(2, 3, generator=stream(seed, str(i))),) for i in range(k)]
    pooled = LaplaceNoise(noise_std=0.1).pool(seen)[0]
    stack = torch.stack([s[0] for s in seen])
    below = (stack <= pooled + 1e-6).sum(0)
    assert bool((below >= k / 2).all())
    assert bool(((stack >= pooled - 1e-6).sum(0) >= k / 2).all())


def both(kind, trains="both", **changes):
    setting = {"noise_std": 1.0, "finetune_epochs": 6, "learning_rate": 0.01, "batch_size": 24}
    return trained("hidden").deploy(kind(**{**setting, "trains": trains, **changes}))


@kinds
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_training_both_sides_keeps_the_ratio_of_signal_to_noise(kind, per):
    deployed, world = both(kind, per=per), trained("hidden")
    images = world.train.images().repeat(8, 1, 1, 1)
    clean = deployed.features(images)[0]
    assert not torch.equal(clean, world.features(images)[0])
    noise = deployed.release(images, generator=stream(0, "message")).tensors[0] - clean
    powers = (values.square().mean(0) for values in (clean, noise))
    signal, added = (p if per == "channel" else p.mean(0, keepdim=True) for p in powers)
    assert (signal / added).tolist() == pytest.approx([1.0] * len(signal), rel=0.2)
    assert deployed.defense.snr_db == 0


@kinds
def test_a_client_that_learns_under_noise_serves_the_task_better_than_the_server_alone(kind):
    def loss(deployment):
        train = trained("hidden").train
        images, labels = train.images().repeat(8, 1, 1, 1), train.labels.repeat(8)
        sent = deployment.release(images, generator=stream(0, "message"))
        return float(nn.functional.cross_entropy(deployment.predict(sent), labels))

    assert loss(both(kind)) < 0.95 * loss(both(kind, trains="server"))


def test_larger_features_get_larger_noise_in_training_and_silent_channels_have_a_slope():
    scale = NoiseScale(per="channel")
    features = torch.tensor([[1.0, 3.0, 0.0]]).repeat(4, 1).requires_grad_()
    (rms,) = scale.of_batch((features,))
    assert rms.flatten().tolist() == pytest.approx([1.0, 3.0, QUIETEST * (10 / 3) ** 0.5])
    torch.testing.assert_close(scale.of_batch((10 * features,))[0], 10 * rms)
    (slope,) = torch.autograd.grad(rms.sum(), features)
    assert bool(slope.isfinite().all())
    assert not dict(scale.named_buffers())


@kinds
def test_noise_that_is_off_trains_no_client(kind):
    assert not kind(noise_std=0.0, finetune_epochs=3, trains="both").changes_client
    assert not kind(noise_std=1.0, finetune_epochs=0, trains="both").changes_client
    assert kind(noise_std=1.0, finetune_epochs=3, trains="both").changes_client
