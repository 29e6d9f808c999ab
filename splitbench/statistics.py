"""Intervals: Wilson's for proportions, the hierarchical bootstrap for everything else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]

CHUNK = 2_000_000  # image weights in use at a time: bounds memory at about 16 MB
SHAPES = 8  # numbers of images whose draws a resampler remembers


@dataclass(frozen=True)
class Summary:
    """An estimate with its interval.

    Attributes:
        mean: The estimate.
        low: Lower end of the interval.
        high: Upper end.
        n: Images behind it (each seed's images are counted once if all seeds share them).
        std: Standard error: deviation of the estimate, not of the images.
    """

    mean: float
    low: float
    high: float
    n: int
    std: float


@dataclass(frozen=True)
class Proportion(Summary):
    """The share of `n` trials that succeeded, with its interval.

    Attributes:
        successes: How many did.
    """

    successes: int


def wilson(successes: int, n: int, *, level: float = 0.95) -> Proportion:
    """Wilson's score interval of a proportion, such as an accuracy.

    Args:
        successes: How many of the trials succeeded, 0 to `n`.
        n: Independent trials, >= 1.
        level: Coverage, in (0, 1).

    Raises:
        ValueError: More successes than trials, or no trials.

    References:
        Wilson. "Probable inference, the law of succession, and statistical inference". Journal
        of the American Statistical Association 1927.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: want 0 <= successes <= n, n >= 1")
    _check_level(level)
    share = successes / n
    interval = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    std = float(np.sqrt(share * (1 - share) / n))
    return Proportion(share, float(interval.low), float(interval.high), n, std, successes)


def only_mean(means: Array) -> Array:
    """The statistic of plain scores: the mean of the only column.

    Raises:
        ValueError: There are several columns, and so no one mean.
    """
    if means.shape[-1] != 1:
        raise ValueError(f"scores have {means.shape[-1]} columns: pass a statistic that joins them")
    return means[..., 0]


class Resampler:
    """Draws seeds and images with replacement, alike for all scores of the same seeds and images.

    Equal scores therefore get equal intervals, and the draws, which cost far more than the
    statistics that are computed from them, are made once.

    Args:
        seed: Of the draws.
        resamples: How many, >= 100.
        level: Coverage of the intervals, in (0, 1).

    Raises:
        ValueError: Too few resamples, or a level that is no coverage.
    """

    def __init__(self, *, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> None:
        if resamples < 100:
            raise ValueError(f"resamples={resamples}: at least 100, better 2000")
        _check_level(level)
        self.seed = seed
        self.resamples = resamples
        self.level = level
        self._seeds: dict[int, Array] = {}
        self._images: dict[tuple[int, int], NDArray[np.unsignedinteger]] = {}

    def seeds(self, count: int) -> Array:
        """How often each of so many seeds is drawn: ``(resamples, count)``."""
        if count not in self._seeds:
            generator = np.random.default_rng([self.seed, 0])
            drawn = generator.multinomial(count, np.full(count, 1 / count), self.resamples)
            self._seeds[count] = drawn.astype(np.float64)
        return self._seeds[count]

    def counts(self, n: int, stream: int = 0) -> NDArray[np.unsignedinteger]:
        """How often each of `n` images is drawn: ``(resamples, n)``, remembered; leave it as it is.

        Args:
            n: Images, >= 1.
            stream: Another number gives other draws.
        """
        key = (n, stream)
        if key not in self._images:
            while len(self._images) >= SHAPES:
                del self._images[next(iter(self._images))]
            self._images[key] = self._drawn(n, stream, np.ones(self.resamples))
        return self._images[key]

    def image_means(self, values: Array, stream: int = 0, times: Array | None = None) -> Array:
        """Means over images drawn anew: ``(images, columns)`` to ``(resamples, columns)``.

        Args:
            values: Scores.
            stream: Another number gives other draws.
            times: For each resample how many rounds of images to draw, and to add up; 1 each.
        """
        n = len(values)
        drawn = self.counts(n, stream) if times is None else self._drawn(n, stream, times)
        rows = max(1, CHUNK // n)
        parts = [drawn[i : i + rows] @ values / n for i in range(0, self.resamples, rows)]
        return np.concatenate(parts)

    def _drawn(self, n: int, stream: int, times: Array) -> NDArray[np.unsignedinteger]:
        """How often each image is drawn, in as few bytes as the largest count needs."""
        generator = np.random.default_rng([self.seed, 1, stream])
        kind = np.min_scalar_type(int(times.max()) * n)
        drawn = np.empty((self.resamples, n), kind)
        rows = max(1, CHUNK // n)
        for i in range(0, self.resamples, rows):
            rounds = n * times[i : i + rows].astype(np.int64)
            drawn[i : i + rows] = generator.multinomial(rounds, np.full(n, 1 / n))
        return drawn


def hierarchical_bootstrap(
    values_by_seed: Sequence[Array],
    *,
    resampler: Resampler,
    statistic: Statistic = only_mean,
    same_images: bool = True,
) -> Summary:
    """Interval of a statistic whose uncertainty comes from seeds and from images.

    Draws seeds with replacement, then images, and computes the statistic anew each time, so that
    whatever it does (a ratio, a maximum over attacks) is repeated inside the bootstrap. The
    columns of an image are drawn together, which pairs them.

    With one seed this is the bootstrap over images, and says nothing about other seeds. With a
    few seeds (or images) plain percentiles are too narrow; they are moved outwards as far as
    Student's t with Satterthwaite's degrees of freedom asks for, given how much of the variance
    comes from the seeds. The interval always contains the estimate.

    Args:
        values_by_seed: For each seed the scores, ``(images,)`` or ``(images, columns)``.
        resampler: Draws seeds and images.
        statistic: Maps column means ``(rows, columns)`` to values ``(rows,)``.
        same_images: Row i is the same image under every seed. One draw of images then serves all
            seeds; independent draws would take the images' share of the error for averaged out,
            and give intervals that are far too short. False draws images for each seed alone.

    Returns:
        The statistic of the data, and its interval.

    Raises:
        ValueError: No scores, scores that are not finite, or shapes that do not fit.

    References:
        Owen. "The pigeonhole bootstrap". Annals of Applied Statistics 2007. arXiv:0712.1111
        Hesterberg. "What teachers should know about the bootstrap". The American Statistician
        2015. arXiv:1411.5279 (percentiles for small samples).
    """
    values = [_columns(seed, v) for seed, v in enumerate(values_by_seed)]
    _check_design(values, same_images)
    estimate = float(statistic(np.mean([v.mean(0) for v in values], axis=0)[None])[0])
    means = _resampled(values, resampler, same_images)
    both, by_seed, by_image = (statistic(each) for each in means)
    tail = tail_probability(
        by_seed.var(), by_image.var(), len(values), len(values[0]), resampler.level
    )
    low, high = np.quantile(both, [tail, 1 - tail])
    return Summary(
        mean=estimate,
        low=min(float(low), estimate),
        high=max(float(high), estimate),
        n=len(values[0]) if same_images else sum(map(len, values)),
        std=float(both.std()),
    )


def tail_probability(
    seed_variance: float, image_variance: float, seeds: int, n: int, level: float
) -> float:
    """Probability to leave out at each end, so that percentiles of a bootstrap cover at `level`.

    Args:
        seed_variance: Of the statistic where only seeds are drawn.
        image_variance: Where only images are.
        seeds: How many there are.
        n: How many images there are.
        level: Coverage, in (0, 1).
    """
    nominal = (1 - level) / 2
    resampled = seed_variance + image_variance
    parts = [
        (v * k / (k - 1), k - 1) for v, k in ((seed_variance, seeds), (image_variance, n)) if k > 1
    ]
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return nominal
    freedom = variance**2 / sum(part**2 / k for part, k in parts)
    widening = np.sqrt(variance / resampled)
    return float(stats.norm.cdf(widening * stats.t.ppf(nominal, freedom)))


def paired_difference(
    first_by_seed: Sequence[Array],
    second_by_seed: Sequence[Array],
    *,
    resampler: Resampler,
    statistic: Statistic = only_mean,
) -> Summary:
    """Interval of ``statistic(first) - statistic(second)`` on identical images.

    Seeds are paired by position and images by row, so what two defenses have in common (hard
    images, a lucky initialisation) cancels. The difference is significant where the interval
    excludes 0.

    Args:
        first_by_seed: As in `hierarchical_bootstrap`, e.g. of one defense.
        second_by_seed: The same images, seeds and columns, e.g. of another defense.
        resampler: Draws seeds and images.
        statistic: Of the column means of one side.

    Raises:
        ValueError: The two sides differ in seeds, images or columns.
    """
    first = [_columns(seed, v) for seed, v in enumerate(first_by_seed)]
    second = [_columns(seed, v) for seed, v in enumerate(second_by_seed)]
    shapes = [v.shape for v in first], [v.shape for v in second]
    if shapes[0] != shapes[1] or not first:
        raise ValueError(f"cannot pair scores of shapes {shapes[0]} and {shapes[1]}")
    columns = first[0].shape[1]

    def difference(means: Array) -> Array:
        return statistic(means[..., :columns]) - statistic(means[..., columns:])

    both = [np.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)]
    return hierarchical_bootstrap(both, resampler=resampler, statistic=difference)


def _resampled(
    values: list[Array], resampler: Resampler, same_images: bool
) -> tuple[Array, Array, Array]:
    """Column means ``(resamples, columns)``: seeds and images drawn; only seeds; only images."""
    count = len(values)
    drawn = resampler.seeds(count)
    by_seed: Array = drawn @ np.stack([v.mean(0) for v in values]) / count
    if same_images:
        cells = np.stack([resampler.image_means(v) for v in values], axis=1)
        return np.einsum("rs,rsk->rk", drawn, cells) / count, by_seed, cells.mean(1)
    both, by_image = (_nested(values, resampler, t) for t in (drawn, np.ones_like(drawn)))
    return both, by_seed, by_image


def _nested(values: list[Array], resampler: Resampler, drawn: Array) -> Array:
    """Column means where a seed drawn m times gets m resamples of its own images."""
    parts = [
        resampler.image_means(v, stream=seed, times=drawn[:, seed]) for seed, v in enumerate(values)
    ]
    means: Array = np.mean(parts, axis=0)
    return means


def _columns(seed: int, values: Array) -> Array:
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"seed {seed}: want scores (images[, columns]), got {np.shape(values)}")
    if not np.isfinite(table).all():
        raise ValueError(f"seed {seed}: {int((~np.isfinite(table)).sum())} scores are not finite")
    return table


def _check_design(values: list[Array], same_images: bool) -> None:
    shapes = [v.shape for v in values]
    if not values or len({shape[1] for shape in shapes}) > 1:
        raise ValueError(f"want at least one seed, and equal columns for all, got {shapes}")
    if same_images and len(set(shapes)) > 1:
        raise ValueError(f"seeds do not share their images, {shapes}: pass same_images=False")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level}: a coverage between 0 and 1, e.g. 0.95")
