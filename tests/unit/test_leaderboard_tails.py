"""Intervals of the tails, held against the same resamples written out image by image."""

import numpy as np
import pytest

from splitbench.leaderboard.tail_intervals import tail_intervals
from splitbench.leakage import tails
from splitbench.statistics import Resampler, tail_probability

NAMES = ("p95", "p99", "cvar5", "share_above_half")


def written_out(errors, floors, seeds, images):
    """The tails of every resample: each image as often as it is drawn, under each drawn seed."""
    found = []
    for by_seed, by_image in zip(seeds, images, strict=True):
        drawn = np.repeat(np.arange(len(by_image)), by_image)
        parts = [
            np.tile(1 - error[drawn] / floor[drawn].mean(0).min(), int(times))
            for error, floor, times in zip(errors, floors, by_seed, strict=True)
        ]
        one = tails(np.concatenate(parts))
        found.append([getattr(one, name) for name in NAMES])
    return np.array(found)


def world(n, seeds=1, apart=0.0):
    """Errors of guesses, and of two blind ones that are the same under every seed."""
    rng = np.random.default_rng(n)
    floor = rng.lognormal(0, 0.4, (n, 2)) * [1.3, 1.0]
    errors = [rng.lognormal(-1 + apart * seed, 0.6, n) for seed in range(seeds)]
    return errors, [floor] * seeds


@pytest.mark.parametrize("n", [1, 3, 16, 57, 400])
def test_images_are_drawn_and_the_floor_with_them(n):
    errors, floors = world(n)
    resampler = Resampler(resamples=200)
    found = tail_intervals(errors, floors, resampler=resampler)
    images = resampler.counts(n)
    expected = written_out(errors, floors, np.ones((200, 1)), images)
    means = tails(1 - errors[0] / floors[0].mean(0).min())
    for name, column in zip(NAMES, expected.T, strict=True):
        one, mean = getattr(found, name), getattr(means, name)
        tail = tail_probability(0.0, column.var(), 1, n, 0.95)
        low, high = np.quantile(column, [tail, 1 - tail])
        assert (one.mean, one.n) == (mean, n)
        assert one.low == pytest.approx(min(low, mean))
        assert one.high == pytest.approx(max(high, mean))


@pytest.mark.parametrize("apart", [0.0, 3.0], ids=["alike", "all that leaks under one seed"])
def test_seeds_are_drawn_too(apart):
    errors, floors = world(60, seeds=3, apart=apart)
    resampler = Resampler(resamples=200)
    found = tail_intervals(errors, floors, resampler=resampler)
    seeds, images = resampler.seeds(3), resampler.counts(60)
    both = written_out(errors, floors, seeds, images)
    by_seed = written_out(errors, floors, seeds, np.ones_like(images))
    by_image = written_out(errors, floors, np.ones_like(seeds), images)
    for i, name in enumerate(NAMES):
        one = getattr(found, name)
        tail = tail_probability(by_seed[:, i].var(), by_image[:, i].var(), 3, 60, 0.95)
        low, high = np.quantile(both[:, i], [tail, 1 - tail])
        assert one.low == pytest.approx(min(low, one.mean))
        assert one.high == pytest.approx(max(high, one.mean))


def test_images_that_all_leak_alike_leave_no_doubt_but_that_of_the_floor():
    floors = [np.full((50, 2), 0.5)]
    found = tail_intervals([np.full(50, 0.1)], floors, resampler=Resampler(resamples=100))
    for name in NAMES[:3]:
        one = getattr(found, name)
        assert (one.low, one.mean, one.high) == pytest.approx((0.8, 0.8, 0.8))
    assert (found.share_above_half.low, found.share_above_half.high) == (1, 1)
