"""Intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitbench import statistics
from splitbench.statistics import Resampler, hierarchical_bootstrap, paired_difference, wilson

Z = 1.959963984540054


def rng(seed=0):
    return np.random.default_rng(seed)


def as_tuple(summary):
    return summary.low, summary.mean, summary.high


class TestWilson:
    @given(st.integers(1, 500))
    def test_of_no_success_ends_where_the_closed_form_says(self, n):
        got = wilson(0, n)
        assert (got.mean, got.low) == (0, pytest.approx(0, abs=1e-12))
        assert got.high == pytest.approx(Z**2 / (n + Z**2))

    def test_of_half_of_a_hundred_is_the_textbook_interval(self):
        got = wilson(50, 100)
        assert as_tuple(got) == pytest.approx((0.40383, 0.5, 0.59617), abs=1e-5)
        assert (got.successes, got.n, got.std) == (50, 100, pytest.approx(0.05))

    @given(st.integers(1, 300), st.data())
    def test_of_failures_mirrors_that_of_successes(self, n, data):
        k = data.draw(st.integers(0, n))
        some, rest = wilson(k, n), wilson(n - k, n)
        assert (some.low, some.high) == pytest.approx((1 - rest.high, 1 - rest.low), abs=1e-12)

    @pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
    def test_refuses_counts_that_cannot_be(self, k, n):
        with pytest.raises(ValueError, match="successes in"):
            wilson(k, n)

    def test_refuses_a_level_that_is_no_probability(self):
        with pytest.raises(ValueError, match="level=95"):
            wilson(1, 2, level=95)


class TestHierarchicalBootstrap:
    def test_of_one_seed_is_as_wide_as_students_interval_over_images(self):
        values = rng(1).normal(3, 2, size=400)
        got = hierarchical_bootstrap([values], resampler=Resampler())
        half = 1.966 * values.std(ddof=1) / np.sqrt(400)
        assert as_tuple(got) == pytest.approx(
            (values.mean() - half, values.mean(), values.mean() + half), abs=0.1 * half
        )
        assert got.std == pytest.approx(values.std() / np.sqrt(400), rel=0.05)
        assert got.n == 400

    def test_of_a_few_images_is_as_wide_as_students_interval_not_as_plain_percentiles(self):
        values = np.arange(12.0)
        draws = rng(2).choice(values, size=(20_000, 12)).mean(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        got = hierarchical_bootstrap([values], resampler=Resampler(resamples=20_000))
        student = 2 * 2.201 * values.std(ddof=1) / np.sqrt(12)
        assert got.high - got.low == pytest.approx(student, rel=0.025)
        assert high - low < 0.9 * student

    def test_counts_seeds_that_differ_where_images_do_not(self):
        seeds = [np.full(100, level) for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
        got = hierarchical_bootstrap(seeds, resampler=Resampler())
        half = 2.571 * np.std([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], ddof=1) / np.sqrt(6)
        assert got.mean == pytest.approx(0.35)
        assert got.high - got.mean == pytest.approx(half, rel=0.25)

    def test_of_seeds_that_agree_is_that_of_one_seed(self):
        values = rng(1).normal(size=300)
        one = hierarchical_bootstrap([values], resampler=Resampler(resamples=4000))
        many = hierarchical_bootstrap([values] * 7, resampler=Resampler(resamples=4000))
        assert as_tuple(many) == pytest.approx(as_tuple(one), abs=0.02)
        assert many.n == 300

    def test_repeats_the_maximum_over_attacks_in_every_resample(self):
        table = rng(1).normal(size=(200, 2))

        def column(i):
            return hierarchical_bootstrap(
                [table], statistic=lambda m: m[:, i], resampler=Resampler()
            )

        best = hierarchical_bootstrap([table], statistic=lambda m: m.max(1), resampler=Resampler())
        assert best.mean == max(column(0).mean, column(1).mean)
        assert best.low >= max(column(0).low, column(1).low)
        assert best.high >= max(column(0).high, column(1).high)
        assert best.high - best.low < column(0).high - column(0).low

    def test_resamples_the_columns_of_an_image_together(self):
        floor = rng(1).uniform(0.1, 2, size=50)
        table = np.column_stack([0.3 * floor, floor])
        got = hierarchical_bootstrap(
            [table], statistic=lambda m: m[:, 0] / m[:, 1], resampler=Resampler()
        )
        assert as_tuple(got) == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)
        assert got.std == pytest.approx(0, abs=1e-12)

    def test_contains_the_estimate_even_where_the_statistic_is_biased(self):
        table = rng(1).normal(size=(10, 400))  # resampled means spread more than the means do
        up = hierarchical_bootstrap([table], statistic=lambda m: m.std(1), resampler=Resampler())
        down = hierarchical_bootstrap([table], statistic=lambda m: -m.std(1), resampler=Resampler())
        assert up.low == up.mean < up.high
        assert down.low < down.mean == down.high

    def test_gives_the_same_interval_from_the_same_seed_and_leaves_the_global_one(self):
        values = [rng(1).normal(size=30), rng(2).normal(size=30)]
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        assert hierarchical_bootstrap(
            values, resampler=Resampler(seed=5)
        ) == hierarchical_bootstrap(values, resampler=Resampler(seed=5))
        assert (np.random.get_state()[1] == before).all()  # noqa: NPY002

    def test_draws_in_chunks_what_does_not_fit_at_once(self, monkeypatch):
        values = [rng(1).normal(size=50)]
        whole = hierarchical_bootstrap(values, resampler=Resampler(resamples=1000))
        monkeypatch.setattr(statistics, "CHUNK", 170)
        chunked = hierarchical_bootstrap(values, resampler=Resampler(resamples=1000))
        assert as_tuple(chunked) == pytest.approx(as_tuple(whole), abs=1e-12)

    def test_takes_seeds_with_images_of_their_own_when_told(self):
        values = [rng(1).normal(size=30), rng(2).normal(size=40), rng(3).normal(size=50)]
        got = hierarchical_bootstrap(values, resampler=Resampler(), same_images=False)
        assert got.n == 120
        assert got.low < got.mean < got.high
        with pytest.raises(ValueError, match="same_images=False"):
            hierarchical_bootstrap(values, resampler=Resampler())

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 4), st.integers(1, 20), st.floats(-5, 5), st.floats(0.1, 5))
    def test_moves_with_the_scale_of_the_scores(self, seeds, images, shift, scale):
        values = [rng(s).normal(size=images) for s in range(seeds)]
        plain = hierarchical_bootstrap(values, resampler=Resampler(resamples=100))
        moved = hierarchical_bootstrap(
            [scale * v + shift for v in values], resampler=Resampler(resamples=100)
        )
        assert as_tuple(moved) == pytest.approx(
            [scale * x + shift for x in as_tuple(plain)], abs=1e-6
        )

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([], "at least one seed"),
            ([np.array([])], "seed 0: want scores"),
            ([np.zeros((2, 2, 2))], "seed 0: want scores"),
            ([np.zeros(2), np.array([0, np.nan])], "seed 1: 1 scores are not finite"),
            ([np.zeros((2, 1)), np.zeros((2, 3))], "equal columns"),
            ([np.zeros((4, 2))], "2 columns: pass a statistic"),
        ],
    )
    def test_refuses_scores_that_make_no_sense(self, values, message):
        with pytest.raises(ValueError, match=message):
            hierarchical_bootstrap(values, resampler=Resampler())


class TestResampler:
    def test_resamples_equal_shapes_alike_whatever_it_was_asked_before(self):
        scores = [rng(s).normal(size=(n, 2)) for s, n in enumerate((20, 30, 40, 50, 60, 20))]
        one = Resampler(resamples=100)
        means = [one.image_means(v) for v in scores]
        assert np.allclose(one.image_means(scores[0]), means[0], rtol=1e-12)
        assert np.allclose(
            one.image_means(scores[0] + scores[-1]), means[0] + means[-1], rtol=1e-12, atol=1e-12
        )

    def test_remembers_the_draws_of_few_shapes_only(self):
        resampler = Resampler(resamples=100)
        for n in range(10, 30):
            resampler.image_means(np.zeros((n, 1)))
        assert len(resampler._images) == statistics.SHAPES

    def test_draws_as_many_images_as_there_are(self):
        means = Resampler(resamples=100).image_means(np.ones((300, 1)))
        assert np.allclose(means, 1, rtol=1e-12)

    def test_refuses_too_few_resamples(self):
        with pytest.raises(ValueError, match="resamples=10"):
            Resampler(resamples=10)

    def test_refuses_a_level_that_is_no_coverage(self):
        with pytest.raises(ValueError, match="level=95"):
            Resampler(level=95)


class TestPairedDifference:
    def test_of_a_constant_gain_is_certain_though_the_two_intervals_overlap(self):
        first = [rng(s).uniform(size=40) for s in range(3)]
        second = [v - 0.01 for v in first]
        got = paired_difference(first, second, resampler=Resampler())
        assert as_tuple(got) == pytest.approx((0.01, 0.01, 0.01), abs=1e-12)
        one, other = (hierarchical_bootstrap(v, resampler=Resampler()) for v in (first, second))
        assert one.low < other.high

    def test_of_a_ratio_takes_the_difference_of_ratios(self):
        first, second = (
            np.column_stack([k * np.arange(1.0, 9), np.arange(1.0, 9)]) for k in (3, 1)
        )
        got = paired_difference(
            [first], [second], resampler=Resampler(), statistic=lambda m: m[:, 0] / m[:, 1]
        )
        assert as_tuple(got) == pytest.approx((2, 2, 2), abs=1e-12)

    def test_refuses_other_images(self):
        with pytest.raises(ValueError, match="cannot pair"):
            paired_difference([np.zeros(3)], [np.zeros(4)], resampler=Resampler())
