"""How much better than permitted a secret is inferred: hand cases."""

import numpy as np
import pytest

from splitbench.advantage import Trials, judged, rates
from splitbench.statistics import Resampler

RESAMPLER = Resampler(resamples=200)


def trials(groups, right, prediction, pixels):
    flags = [np.array(part, dtype=bool) for part in (right, prediction, pixels)]
    return Trials(np.array(groups), *flags)


def test_a_rare_value_counts_as_much_as_a_common_one():
    one = trials([0] * 8 + [1] * 2, [1] * 8 + [0, 1], [1] * 8 + [0, 0], [1] * 10)
    scores = rates(one.table(2).mean(0))
    assert scores.tolist() == pytest.approx([0.75, 0.5, 1.0])


def test_a_value_that_a_resample_lacks_does_not_count_there():
    one = trials([0, 0, 2], [1, 0, 1], [0, 0, 0], [1, 1, 1])
    assert rates(one.table(3).mean(0)).tolist() == pytest.approx([0.75, 0.0, 1.0])


def many(share_right, share_predicted, share_pixels, count=1000):
    """Two values, of each the first so many right."""
    place = np.arange(count) // 2 / (count / 2)
    return trials(
        np.arange(count) % 2, place < share_right, place < share_predicted, place < share_pixels
    )


def test_the_advantage_is_measured_from_the_better_floor_to_the_ceiling():
    by_prediction = judged([many(0.75, 0.6, 0.9)], prior=0.5, resampler=RESAMPLER)
    assert by_prediction.score.mean == pytest.approx(0.75)
    assert by_prediction.advantage.mean == pytest.approx(0.5)
    assert by_prediction.advantage.low < 0.5 < by_prediction.advantage.high
    by_prior = judged([many(0.75, 0.2, 0.9)], prior=0.5, resampler=RESAMPLER)
    assert by_prior.advantage.mean == pytest.approx(0.625)


def test_what_the_prediction_gives_away_is_no_advantage():
    found = judged([many(0.6, 0.6, 0.9)], prior=0.5, resampler=RESAMPLER)
    assert found.advantage.mean == pytest.approx(0)


def test_there_is_no_advantage_where_floor_and_ceiling_are_not_clearly_apart():
    assert judged([many(0.9, 0.6, 0.61)], prior=0.5, resampler=RESAMPLER).advantage is None
    assert judged([many(0.9, 0.6, 0.4)], prior=0.5, resampler=RESAMPLER).advantage is None
    assert judged([many(1, 1, 1)], prior=0.5, resampler=RESAMPLER).advantage is None


def test_seeds_are_pooled():
    found = judged([many(0.7, 0.6, 0.9), many(0.8, 0.6, 0.9)], prior=0.5, resampler=RESAMPLER)
    assert found.score.mean == pytest.approx(0.75)
    assert found.score.n == 1000
    alone = judged([many(0.75, 0.6, 0.9)], prior=0.5, resampler=RESAMPLER)
    assert found.score.std > alone.score.std
