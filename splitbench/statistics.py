"""Intervals: Wilson's for proportions, the hierarchical bootstrap for everything else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]

CHUNK = 2_000_000  # image weights drawn at a time: bounds memory at about 16 MB


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


def hierarchical_bootstrap(
    values_by_seed: Sequence[Array],
    *,
    generator: np.random.Generator,
    statistic: Statistic = only_mean,
    resamples: int = 2000,
    level: float = 0.95,
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
        generator: Of the resamples.
        statistic: Maps column means ``(rows, columns)`` to values ``(rows,)``.
        resamples: How many, >= 100.
        level: Coverage, in (0, 1).
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
    _check_design(values, resamples, same_images)
    _check_level(level)
    estimate = float(statistic(np.mean([v.mean(0) for v in values], axis=0)[None])[0])
    drawn = [
        np.stack([statistic(means) for means in parts])
        for parts in _resampled(values, resamples, generator, same_images)
    ]
    both, by_seed, by_image = np.concatenate(drawn, axis=1)
    tail = _tail(by_seed.var(), by_image.var(), len(values), len(values[0]), level)
    low, high = np.quantile(both, [tail, 1 - tail])
    return Summary(
        mean=estimate,
        low=min(float(low), estimate),
        high=max(float(high), estimate),
        n=len(values[0]) if same_images else sum(map(len, values)),
        std=float(both.std()),
    )


def paired_difference(
    first_by_seed: Sequence[Array],
    second_by_seed: Sequence[Array],
    *,
    generator: np.random.Generator,
    statistic: Statistic = only_mean,
    resamples: int = 2000,
    level: float = 0.95,
) -> Summary:
    """Interval of ``statistic(first) - statistic(second)`` on identical images.

    Seeds are paired by position and images by row, so what two defenses have in common (hard
    images, a lucky initialisation) cancels. The difference is significant where the interval
    excludes 0.

    Args:
        first_by_seed: As in `hierarchical_bootstrap`, e.g. of one defense.
        second_by_seed: The same images, seeds and columns, e.g. of another defense.
        generator: Of the resamples.
        statistic: Of the column means of one side.
        resamples: How many, >= 100.
        level: Coverage, in (0, 1).

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
    return hierarchical_bootstrap(
        both, generator=generator, statistic=difference, resamples=resamples, level=level
    )


def _resampled(
    values: list[Array], resamples: int, generator: np.random.Generator, same_images: bool
) -> Iterator[tuple[Array, Array, Array]]:
    """Column means ``(chunk, columns)`` of resamples, in chunks.

    Three of each: seeds and images drawn; only seeds drawn; only images drawn.
    """
    seeds, largest = len(values), max(map(len, values))
    chunk = max(1, CHUNK // largest)
    own = np.stack([v.mean(0) for v in values])
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size)
        if same_images:
            images = _draw(generator, np.full(size, largest), largest)
            cells = np.stack([images @ v for v in values], axis=1)
            both, by_image = np.einsum("rs,rsk->rk", drawn, cells) / seeds, cells.mean(1)
        else:
            both = _nested(values, drawn, generator)
            by_image = _nested(values, np.ones_like(drawn), generator)
        yield both, drawn @ own / seeds, by_image


def _nested(values: list[Array], drawn: NDArray[np.int64], generator: np.random.Generator) -> Array:
    """Column means where a seed drawn m times gets m resamples of its own images."""
    parts = [
        _draw(generator, times * len(v), len(v)) @ v
        for v, times in zip(values, drawn.T, strict=True)
    ]
    means: Array = np.mean(parts, axis=0)
    return means


def _draw(generator: np.random.Generator, draws: NDArray[np.int64], images: int) -> Array:
    """Weights of the images ``(len(draws), images)`` after so many draws with replacement."""
    weights: Array = generator.multinomial(draws, np.full(images, 1 / images)) / images
    return weights


def _tail(seed_variance: float, image_variance: float, seeds: int, n: int, level: float) -> float:
    """Probability left out at each end so that the percentiles cover at `level`."""
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


def _columns(seed: int, values: Array) -> Array:
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"seed {seed}: want scores (images[, columns]), got {np.shape(values)}")
    if not np.isfinite(table).all():
        raise ValueError(f"seed {seed}: {int((~np.isfinite(table)).sum())} scores are not finite")
    return table


def _check_design(values: list[Array], resamples: int, same_images: bool) -> None:
    shapes = [v.shape for v in values]
    if not values or len({shape[1] for shape in shapes}) > 1:
        raise ValueError(f"want at least one seed, and equal columns for all, got {shapes}")
    if same_images and len(set(shapes)) > 1:
        raise ValueError(f"seeds do not share their images, {shapes}: pass same_images=False")
    if resamples < 100:
        raise ValueError(f"resamples={resamples}: at least 100, better 2000")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level}: a coverage between 0 and 1, e.g. 0.95")
