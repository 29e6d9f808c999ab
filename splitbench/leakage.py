"""How much a release leaks: scores of guesses, set against what is known without the release.

The headline is ``L = 1 - MSE / floor``: the fraction of explained variance above the best blind
guess. 0 is what anybody knows, 1 is exact recovery. It does not change when pixels are scaled or
shifted. Everything here is a pure function of per-image scores; scores of several seeds come as
a sequence of arrays, one per seed, over the same images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitbench.statistics import Array, Resampler, Summary, hierarchical_bootstrap

BySeed = Array | Sequence[Array]


def leakage(
    mse: BySeed,
    floor_mse: BySeed,
    *,
    resampler: Resampler,
) -> Summary:
    """Leakage L of the best of some attacks above the best of some blind guesses.

    Best is who has the lowest mean error over all images: the choice is made once per resample,
    inside the bootstrap, never per image.

    Args:
        mse: Squared errors ``(images,)``, or ``(images, attacks)``; per seed where there are
            several.
        floor_mse: Squared errors of the blind guesses (constant colour, mean image) on the same
            images, ``(images,)`` or ``(images, guesses)``; one array serves all seeds.
        resampler: Draws seeds and images; attacks and floor together.

    Raises:
        ValueError: Negative errors, other images, or a floor without any error to explain.
    """
    attacks, floors = _errors(mse, floor_mse)
    columns = attacks[0].shape[1]

    def statistic(means: Array) -> Array:
        ratio: Array = means[..., :columns].min(-1) / means[..., columns:].min(-1)
        return 1 - ratio

    return hierarchical_bootstrap(
        _joined(attacks, floors), resampler=resampler, statistic=statistic
    )


def excess_leakage(
    mse: BySeed,
    class_floor_mse: BySeed,
    *,
    resampler: Resampler,
) -> Summary:
    """Leakage beyond the task's own: the floor is the mean image of the class that is predicted.

    Whoever runs the server learns its prediction; showing the average image of that class is no
    leak of the release. An attack that does no better has an excess of 0, a defense whose release
    is worse than the prediction alone has less.

    Args:
        mse: As in `leakage`.
        class_floor_mse: Squared errors of the class-conditional mean image, given the server's
            own prediction (never the true label).
        resampler: Draws seeds and images.
    """
    return leakage(mse, class_floor_mse, resampler=resampler)


def normalised(
    scores: BySeed,
    floor: BySeed,
    ceiling: BySeed,
    *,
    resampler: Resampler,
) -> Summary:
    """Any metric, scaled to 0 at the floor and 1 at the ceiling: ``(m - f) / (c - f)`` of means.

    For the squared error with ceiling 0 this is L. Works in both directions of `Metric.leaks`.

    Args:
        scores: Of the guesses, ``(images,)``, per seed where there are several.
        floor: Of a blind guess on the same images.
        ceiling: Of the true images themselves.
        resampler: Draws seeds and images; the three together.

    Raises:
        ValueError: Floor and ceiling have the same mean: the metric cannot tell them apart.
    """
    table = _joined(_by_seed(scores), _by_seed(floor), _by_seed(ceiling))
    if table[0].shape[1] != 3:
        raise ValueError("scores, floor and ceiling must have one value per image each")
    span = float(np.mean([t[:, 2] - t[:, 1] for t in table]))
    if abs(span) < 1e-12:
        raise ValueError("floor and ceiling have the same mean: the metric cannot tell them apart")

    def statistic(means: Array) -> Array:
        score, low, high = np.moveaxis(means, -1, 0)
        ratio: Array = (score - low) / (high - low)
        return ratio

    return hierarchical_bootstrap(table, resampler=resampler, statistic=statistic)


def per_image_leakage(mse: Array, floor_mse: Array) -> Array:
    """``1 - mse_i / mean(floor)`` of each image; its mean is L.

    The denominator is the mean floor over all images. An image's own floor may be next to zero
    (a blank image is guessed by anybody), and a ratio to it would be unbounded.

    Args:
        mse: Squared errors ``(images,)``.
        floor_mse: Of the blind guesses, ``(images,)`` or ``(images, guesses)``.
    """
    attacks, floors = _errors(mse, floor_mse)
    _joined(attacks, floors)
    shares: Array = 1 - mse / floors[0].mean(0).min()
    return shares


@dataclass(frozen=True)
class Tails:
    """The images that leak most, which a mean hides.

    Attributes:
        p95: Leakage that one image in twenty exceeds.
        p99: Leakage that one image in a hundred exceeds.
        cvar5: Mean leakage of the worst twentieth (at least one image).
        share_above_half: Fraction of images with a leakage above 0.5.
    """

    p95: float
    p99: float
    cvar5: float
    share_above_half: float


def tails(leaks: Array) -> Tails:
    """Tails of per-image leakage ``(images,)`` (`per_image_leakage`).

    Raises:
        ValueError: There are no images.
    """
    if len(leaks) == 0:
        raise ValueError("no images: the tails of nothing are not defined")
    worst = np.sort(leaks)[-int(np.ceil(len(leaks) / 20)) :]
    p95, p99 = np.quantile(leaks, [0.95, 0.99])
    return Tails(float(p95), float(p99), float(worst.mean()), float((leaks > 0.5).mean()))


def _by_seed(scores: BySeed) -> list[Array]:
    parts = [scores] if isinstance(scores, np.ndarray) else list(scores)
    tables: list[NDArray[np.float64]] = [np.asarray(p, dtype=np.float64) for p in parts]
    return [t[:, None] if t.ndim == 1 else t for t in tables]


def _joined(*parts: list[Array]) -> list[Array]:
    """Columns of the same images side by side, for each seed; a single part serves all seeds."""
    seeds = max(map(len, parts))
    repeated = [part * seeds if len(part) == 1 else part for part in parts]
    if len({tuple(map(len, part)) for part in repeated}) > 1:
        shapes = [[t.shape for t in part] for part in parts]
        raise ValueError(f"scores of shapes {shapes} are not of the same images and seeds")
    return [np.concatenate(tables, axis=1) for tables in zip(*repeated, strict=True)]


def _errors(errors: BySeed, floor: BySeed) -> tuple[list[Array], list[Array]]:
    """Both as tables, after a look at their signs."""
    attacks, floors = _by_seed(errors), _by_seed(floor)
    if any((table < 0).any() for table in (*attacks, *floors)):
        raise ValueError("squared errors must not be negative: pass mse, not another metric")
    if any(not table.mean(0).all() for table in floors):
        raise ValueError("a blind guess makes no error at all: there is nothing that could leak")
    return attacks, floors
