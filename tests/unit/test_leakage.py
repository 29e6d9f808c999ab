"""Leakage from per-image errors."""

import numpy as np
import pytest

from splitbench.leakage import (
    excess_leakage,
    leakage,
    normalised,
    per_image_leakage,
    tails,
)
from splitbench.statistics import Resampler


def rng(seed=0):
    return np.random.default_rng(seed)


def errors(n=40, seed=1):
    return rng(seed).uniform(0.01, 0.1, size=n)


def as_tuple(summary):
    return summary.low, summary.mean, summary.high


class TestLeakage:
    def test_has_the_blind_guess_with_the_smaller_mean_error_as_its_floor(self):
        constant, mean_image = np.full(10, 0.08), np.full(10, 0.05)
        got = leakage(
            np.full(10, 0.02), np.column_stack([constant, mean_image]), resampler=Resampler()
        )
        assert as_tuple(got) == pytest.approx((0.6, 0.6, 0.6))

    def test_of_several_attacks_is_that_of_the_best_one_not_of_the_best_guess_per_image(self):
        first = np.tile([0.0, 0.1], 20)
        second = np.tile([0.1, 0.02], 20)
        got = leakage(np.column_stack([first, second]), np.full(40, 0.1), resampler=Resampler())
        assert got.mean == pytest.approx(0.5)

    def test_pairs_attack_and_floor_image_by_image(self):
        floor = errors()
        got = leakage(0.25 * floor, floor, resampler=Resampler())
        assert as_tuple(got) == pytest.approx((0.75, 0.75, 0.75), abs=1e-12)

    def test_of_an_attack_worse_than_a_blind_guess_is_negative(self):
        assert leakage(
            np.full(5, 0.2), np.full(5, 0.1), resampler=Resampler()
        ).mean == pytest.approx(-1)

    def test_of_several_seeds_shares_one_floor(self):
        floor = errors()
        got = leakage([0.2 * floor, 0.4 * floor], floor, resampler=Resampler())
        assert got.mean == pytest.approx(0.7)
        assert got.n == 40
        assert got.high > 0.75

    def test_is_the_squared_error_normalised_with_a_ceiling_of_zero(self):
        mse, floor = errors(seed=2), errors(seed=3)
        leak = leakage(mse, floor, resampler=Resampler())
        same = normalised(mse, floor, np.zeros(40), resampler=Resampler())
        assert as_tuple(same) == pytest.approx(as_tuple(leak), abs=1e-12)

    def test_beyond_the_task_is_zero_for_the_mean_image_of_the_predicted_class(self):
        class_mean = errors()
        assert excess_leakage(class_mean, class_mean, resampler=Resampler()).mean == 0
        assert excess_leakage(0.5 * class_mean, class_mean, resampler=Resampler()).mean == 0.5

    @pytest.mark.parametrize(
        ("mse", "floor", "message"),
        [
            (np.full(3, -1.0), np.full(3, 1.0), "must not be negative"),
            (np.full(3, 1.0), np.zeros(3), "no error at all"),
            (np.full(3, 1.0), np.full(4, 1.0), "not of the same images"),
            ([np.full(3, 1.0)] * 2, [np.full(3, 1.0)] * 3, "not of the same images"),
        ],
    )
    def test_refuses_what_are_not_errors_of_the_same_images(self, mse, floor, message):
        with pytest.raises(ValueError, match=message):
            leakage(mse, floor, resampler=Resampler())


class TestNormalised:
    @pytest.mark.parametrize(("floor", "ceiling"), [(0.2, 0.9), (0.7, 0.0), (12.0, 60.0)])
    def test_is_0_at_the_floor_and_1_at_the_ceiling_in_either_direction(self, floor, ceiling):
        low, high = np.full(6, floor), np.full(6, ceiling)
        for score, wanted in ((low, 0), (high, 1), ((low + high) / 2, 0.5)):
            got = normalised(score, low, high, resampler=Resampler())
            assert as_tuple(got) == pytest.approx((wanted,) * 3, abs=1e-9)

    def test_refuses_a_metric_that_cannot_tell_floor_from_ceiling(self):
        with pytest.raises(ValueError, match="same mean"):
            normalised(errors(), np.ones(40), np.ones(40), resampler=Resampler())

    def test_refuses_several_columns(self):
        with pytest.raises(ValueError, match="one value per image"):
            normalised(np.ones((4, 2)), np.ones(4), np.zeros(4), resampler=Resampler())


class TestTails:
    def test_per_image_leakage_averages_to_the_leakage_and_stays_bounded_for_blank_images(self):
        mse, floor = errors(seed=2), errors(seed=3)
        floor[0] = 0  # an image that anybody guesses
        shares = per_image_leakage(mse, floor)
        assert shares.mean() == pytest.approx(leakage(mse, floor, resampler=Resampler()).mean)
        assert np.isfinite(shares).all()

    def test_of_a_hundred_images_are_the_worst_five_and_one(self):
        leaks = np.arange(1, 101) / 100
        got = tails(rng().permutation(leaks))
        assert got.cvar5 == pytest.approx(np.mean([0.96, 0.97, 0.98, 0.99, 1.0]))
        assert (got.p95, got.p99) == pytest.approx((0.9505, 0.9901))
        assert got.share_above_half == 0.5

    def test_of_a_few_images_hold_the_worst_one(self):
        assert tails(np.array([0.1, 0.7, 0.2])).cvar5 == 0.7

    def test_of_no_images_are_refused(self):
        with pytest.raises(ValueError, match="no images"):
            tails(np.array([]))
