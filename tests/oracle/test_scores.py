"""Metrics, leakage and intervals against closed forms."""

import numpy as np
import pytest
import torch

from splitbench.leakage import leakage
from splitbench.metrics.mean_squared_error import MeanSquaredError
from splitbench.metrics.peak_signal_to_noise import PeakSignalToNoise
from splitbench.metrics.structural_similarity import StructuralSimilarity
from splitbench.rng import stream
from splitbench.statistics import Resampler, hierarchical_bootstrap

CIFAR10_STD = (0.2470, 0.2435, 0.2616)  # of the pixels of each channel


def pictures(n, shape=(3, 12, 12), name="pictures"):
    return torch.rand((n, *shape), generator=stream(0, "oracle", name), dtype=torch.float64)


def constant(value, side=16):
    return torch.full((1, 1, side, side), value, dtype=torch.float64)


def mse(guess, truth):
    return MeanSquaredError()(guess, truth).numpy()


class TestPeakSignalToNoise:
    def test_an_offset_of_a_tenth_is_20_db(self):
        x = pictures(4) * 0.9
        assert PeakSignalToNoise()(x, x + 0.1).numpy() == pytest.approx(20, abs=1e-9)

    def test_one_grey_level_is_48_db_because_the_peak_is_1(self):
        x = pictures(4) * 0.9
        assert PeakSignalToNoise()(x, x + 1 / 255).numpy() == pytest.approx(48.1308, abs=1e-4)

    def test_is_taken_per_image_and_not_of_the_pooled_error(self):
        truth = torch.cat([constant(0.5), constant(0.5)])
        guess = torch.cat([constant(0.6), constant(0.51)])
        assert PeakSignalToNoise()(guess, truth).numpy() == pytest.approx([20, 40], abs=1e-9)


class TestStructuralSimilarity:
    @pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (0.0, 1.0), (0.5, 0.5)])
    def test_of_constant_images_is_the_luminance_term(self, a, b):
        wanted = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
        got = StructuralSimilarity()(constant(a), constant(b))
        assert float(got) == pytest.approx(wanted, abs=1e-12)

    def test_of_constants_three_and_six_tenths_is_the_known_value(self):
        got = float(StructuralSimilarity()(constant(0.3), constant(0.6)))
        assert got == pytest.approx(0.800044, abs=1e-6)

    def test_of_one_window_is_the_formula_with_gaussian_weights(self):
        x, y = pictures(2, (1, 11, 11)).squeeze(1).numpy()
        tap = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        weight = np.outer(tap, tap) / tap.sum() ** 2
        mean = [(weight * image).sum() for image in (x, y)]
        xx, yy, xy = ((weight * a * b).sum() for a, b in ((x, x), (y, y), (x, y)))
        variances = xx - mean[0] ** 2 + yy - mean[1] ** 2
        wanted = (
            (2 * mean[0] * mean[1] + 0.01**2)
            * (2 * (xy - mean[0] * mean[1]) + 0.03**2)
            / ((mean[0] ** 2 + mean[1] ** 2 + 0.01**2) * (variances + 0.03**2))
        )
        got = StructuralSimilarity()(torch.tensor(x)[None, None], torch.tensor(y)[None, None])
        assert float(got) == pytest.approx(wanted, abs=1e-12)

    def test_of_colours_is_the_mean_over_channels(self):
        x, y = pictures(2, (3, 14, 17))
        ssim = StructuralSimilarity()
        single = [float(ssim(x[None, c : c + 1], y[None, c : c + 1])) for c in range(3)]
        assert float(ssim(x[None], y[None])) == pytest.approx(np.mean(single), abs=1e-12)


class TestLeakage:
    def test_is_0_for_the_mean_image_1_for_the_truth_and_three_quarters_half_way(self):
        truth = pictures(50)
        mean = truth.mean(0, keepdim=True).expand_as(truth)
        floor = mse(mean, truth)
        for guess, wanted in ((mean, 0), (truth, 1), ((truth + mean) / 2, 0.75)):
            leak = leakage(mse(guess, truth), floor, resampler=Resampler())
            assert [leak.low, leak.mean, leak.high] == pytest.approx([wanted] * 3, abs=1e-12)

    def test_does_not_change_when_pixels_are_scaled_and_shifted(self):
        truth, guess = pictures(30), pictures(30, name="guess")

        def leak(scale, shift):
            x, y = scale * truth + shift, scale * guess + shift
            floor = mse(x.mean(0, keepdim=True).expand_as(x), x)
            return leakage(mse(y, x), floor, resampler=Resampler())

        plain, moved = leak(1, 0), leak(0.3, 0.6)
        assert (moved.mean, moved.low, moved.high) == pytest.approx(
            (plain.mean, plain.low, plain.high), abs=1e-9
        )

    def test_of_a_noisy_release_is_what_the_wiener_filter_reaches(self):
        generator = stream(0, "oracle", "wiener")
        secret, noise = torch.randn(2, 4000, 1, 8, 8, generator=generator, dtype=torch.float64)
        truth = 0.5 + 0.1 * secret
        posterior_mean = 0.5 + 0.1 * (secret + 0.5 * noise) / 1.25
        truth, posterior_mean = truth.clamp(0, 1), posterior_mean.clamp(0, 1)
        floor = mse(torch.full_like(truth, 0.5), truth)
        leak = leakage(mse(posterior_mean, truth), floor, resampler=Resampler())
        assert leak.low <= 0.8 <= leak.high  # the posterior variance is 0.2 of the prior's
        assert leak.high - leak.low < 0.005

    def test_of_the_constant_colour_floor_follows_from_the_deviation_of_each_channel(self):
        sign = torch.ones(1, 12, 12, dtype=torch.float64)
        sign[:, ::2] = -1
        centre = torch.tensor([0.49, 0.48, 0.45], dtype=torch.float64).view(3, 1, 1)
        truth = (centre + torch.tensor(CIFAR10_STD).view(3, 1, 1) * sign)[None]
        colour = centre.expand_as(truth[0])[None]
        assert mse(colour, truth) == pytest.approx(0.0629, abs=5e-5)
        assert float(PeakSignalToNoise()(colour, truth)) == pytest.approx(12.01, abs=0.005)


class TestCoverage:
    """Simulated seeds x images whose true mean is 0."""

    REPETITIONS = 1500

    def covered(self, intervals):
        return np.mean([s.low <= 0 <= s.high for s in intervals])

    def scores(self, seeds, images, generator):
        seed_effect = 0.1 * generator.normal(size=(seeds, 1))
        image_effect = 0.3 * generator.normal(size=(1, images))
        return seed_effect + image_effect + 0.1 * generator.normal(size=(seeds, images))

    @pytest.mark.parametrize("seeds", [5, 10])
    def test_of_the_hierarchical_bootstrap_is_95_percent_where_images_alone_fall_short(self, seeds):
        generator = np.random.default_rng(seeds)
        hierarchical, images_only = [], []
        for seed in range(self.REPETITIONS):
            table = self.scores(seeds, 100, generator)
            resampler = Resampler(seed=seed, resamples=400)
            hierarchical.append(hierarchical_bootstrap(list(table), resampler=resampler))
            images_only.append(hierarchical_bootstrap([table.mean(0)], resampler=resampler))
        assert 0.93 <= self.covered(hierarchical) <= 0.97
        assert self.covered(images_only) < 0.9

    def test_falls_short_where_shared_images_are_drawn_for_each_seed_alone(self):
        generator = np.random.default_rng(0)
        tables = [list(self.scores(10, 50, generator)) for _ in range(100)]
        nested = [
            hierarchical_bootstrap(
                table, same_images=False, resampler=Resampler(seed=seed, resamples=200)
            )
            for seed, table in enumerate(tables)
        ]
        assert self.covered(nested) < 0.92
