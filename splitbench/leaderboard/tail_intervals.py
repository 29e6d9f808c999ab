"""How sure one may be of the images that leak most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitbench.leakage import per_image_leakage, tails
from splitbench.record import Interval
from splitbench.statistics import Array, Resampler, tail_probability

Counts = NDArray[np.integer]


@dataclass(frozen=True)
class TailIntervals:
    """As `splitbench.leakage.Tails`, each with its interval."""

    p95: Interval
    p99: Interval
    cvar5: Interval
    share_above_half: Interval


def tail_intervals(
    errors: Sequence[Array], floors: Sequence[Array], *, resampler: Resampler
) -> TailIntervals:
    """Tails of the leakage of single images.

    Seeds and images are drawn with replacement, and the floor with the images. It is taken to
    change alike under every seed, as the blind guesses are next to the same. No resample holds a
    worse image than the worst that was seen: of few images the last percent is known badly.

    Args:
        errors: Squared errors ``(images,)``, per seed, on the same images.
        floors: Of the blind guesses, ``(images, guesses)``, per seed.
        resampler: Draws seeds and images.
    """
    leaks = np.concatenate([per_image_leakage(*pair) for pair in zip(errors, floors, strict=True)])
    count, n = len(errors), len(errors[0])
    seeds, images = resampler.seeds(count).astype(np.uint16), resampler.counts(n)
    grown = [resampler.image_means(f).min(1) / f.mean(0).min() for f in floors]
    floor: Array = np.mean(grown, axis=0)
    both = _drawn(leaks, seeds, images, floor)
    by_seed, by_image = np.zeros_like(both), both
    if count > 1:
        by_seed = _drawn(leaks, seeds, np.ones_like(images), np.ones_like(floor))
        by_image = _drawn(leaks, np.ones_like(seeds), images, floor)
    found = tails(leaks)
    means = (found.p95, found.p99, found.cvar5, found.share_above_half)
    intervals = []
    for each, mean in enumerate(means):
        variances = float(by_seed[:, each].var()), float(by_image[:, each].var())
        tail = tail_probability(*variances, count, n, resampler.level)
        low, high = np.quantile(both[:, each], [tail, 1 - tail])
        ends = {"low": min(float(low), mean), "high": max(float(high), mean)}
        intervals.append(Interval(mean=mean, **ends, n=n))
    return TailIntervals(*intervals)


def _drawn(leaks: Array, seeds: Counts, images: Counts, floor: Array) -> Array:
    """The tails of every resample, ``(resamples, 4)``.

    Args:
        leaks: Of single images, seed after seed.
        seeds: How often each seed is drawn, ``(resamples, seeds)``.
        images: How often each image is, ``(resamples, images)``.
        floor: By what factor the floor grows, ``(resamples,)``.
    """

    def times(places: NDArray[np.intp]) -> Counts:
        seed, image = np.divmod(places, images.shape[1])
        each: Counts = seeds[:, seed] * images[:, image]
        return each

    total = len(leaks)
    worst = int(np.ceil(total / 20))
    falling, enough = np.argsort(-leaks), min(total, 3 * worst)
    while True:  # all but the top is of no account, and would take most of the time
        top = times(falling[:enough])
        until = top.cumsum(1, dtype=np.int64)
        if enough == total or until[:, -1].min() > worst:
            break
        enough = min(total, 2 * enough)
    highest = leaks[falling[:enough]]
    taken = np.clip(worst - (until - top), 0, top)
    parts = [_exceeded(highest, until, rank * (total - 1)) for rank in (0.05, 0.01)]
    parts.append((taken * highest).sum(1) / worst)
    share = _above(leaks, 1 - 0.5 * floor, seeds, images, times)
    return np.stack([*(1 - (1 - part) / floor for part in parts), share], axis=1)


def _exceeded(falling: Array, until: Counts, rank: float) -> Array:
    """What so many leaks exceed, between two of them in proportion, as `numpy.quantile` has it.

    Args:
        falling: Leaks, the largest first.
        until: How many there are of the first, of the first two, and so on.
        rank: From 0, the largest.
    """
    ranks = int(np.floor(rank)), int(np.ceil(rank))
    upper, lower = (falling[(until <= each).sum(1)] for each in ranks)
    found: Array = upper + (lower - upper) * (rank - ranks[0])
    return found


def _above(
    leaks: Array,
    limits: Array,
    seeds: Counts,
    images: Counts,
    times: Callable[[NDArray[np.intp]], Counts],
) -> Array:
    """Share of the leaks above a limit of each resample; most are above all limits or none."""
    always = (leaks > limits.max()).reshape(seeds.shape[1], -1).astype(np.float64)
    sure = np.einsum("rs,rs->r", seeds, images @ always.T)
    open_ones = np.flatnonzero((leaks > limits.min()) & (leaks <= limits.max()))
    rest = ((leaks[open_ones] > limits[:, None]) * times(open_ones)).sum(1)
    share: Array = (sure + rest) / len(leaks)
    return share
