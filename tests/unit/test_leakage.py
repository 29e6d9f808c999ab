"""Leakage from per-image errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitbench.closure import closure, deeper_cuts, reachable
from splitbench.leakage import (
    attacker_selected,
    excess_leakage,
    leakage,
    normalised,
    per_image_leakage,
    tails,
)
from splitbench.statistics import Resampler

names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


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


class TestAttackerSelected:
    def test_takes_the_guess_that_is_trusted_most_and_not_the_best_one(self):
        mse = np.array([[0.1, 0.9], [0.2, 0.3]])
        trust = np.array([[0.0, 1.0], [5.0, 4.0]])
        assert attacker_selected(mse, trust).tolist() == [0.9, 0.2]

    def test_refuses_trust_in_other_guesses(self):
        with pytest.raises(ValueError, match="must be equal"):
            attacker_selected(np.zeros((2, 3)), np.zeros((2, 2)))


class TestClosure:
    @given(names, st.data())
    def test_makes_the_curve_of_a_network_fall_and_lowers_nothing(self, cuts, data):
        leaks = {cut: data.draw(st.floats(-1, 1)) for cut in cuts}
        closed = closure(leaks, deeper_cuts(cuts))
        curve = [closed[cut] for cut in cuts]
        assert curve == sorted(curve, reverse=True)
        assert all(closed[cut] >= leaks[cut] for cut in cuts)
        assert set(closed.values()) <= set(leaks.values())

    @given(names, st.data())
    def test_of_what_is_closed_changes_nothing(self, messages, data):
        relation = {m: data.draw(st.lists(st.sampled_from(messages))) for m in messages}
        leaks = {m: data.draw(st.floats(-1, 1)) for m in messages}
        once = closure(leaks, relation)
        assert closure(once, relation) == once

    def test_of_closed_form_errors_changes_nothing(self):
        variances = np.array([5.0, 3.0, 1.0, 0.5, 0.1])
        kept = {f"rank{m}": variances[:m].sum() / variances.sum() for m in (5, 4, 3, 2, 1)}
        assert closure(kept, deeper_cuts(list(kept))) == kept

    def test_raises_an_undefended_cut_to_its_own_defended_release_and_not_the_reverse(self):
        leaks = {"plain": 0.3, "noisy": 0.5, "other noise deeper": 0.6}
        relation = {"plain": ["noisy", "other noise deeper"], "noisy": [], "other noise deeper": []}
        assert closure(leaks, relation) == {"plain": 0.6, "noisy": 0.5, "other noise deeper": 0.6}

    def test_follows_the_relation_step_by_step(self):
        assert reachable({"a": ["b"], "b": ["c"], "c": []}) == {
            "a": ("a", "b", "c"),
            "b": ("b", "c"),
            "c": ("c",),
        }

    def test_of_two_messages_that_give_each_other_is_equal(self):
        assert closure({"a": 0.1, "b": 0.2}, {"a": ["b"], "b": ["a"]}) == {"a": 0.2, "b": 0.2}

    def test_refuses_messages_that_nobody_measured(self):
        with pytest.raises(ValueError, match="mentions"):
            reachable({"a": ["b"]})
        with pytest.raises(ValueError, match="relations of"):
            closure({"a": 0.0}, {"a": [], "b": []})
