"""How much better than permitted a secret is inferred."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitbench.statistics import Array, Resampler, Summary, hierarchical_bootstrap

PARTS = 3  # of a table: the inference, the prediction alone, the same inference on pixels
# Standard errors between floor and ceiling below which a ratio to their distance means nothing.
CLEARLY = 5.0


@dataclass(frozen=True)
class Trials:
    """Who was right about which example; arrays of one row per example.

    Attributes:
        groups: Which rate an example counts towards, >= 0. The score is the mean of the groups'
            rates: with the true values as groups it is the balanced accuracy, with one group the
            plain rate.
        right: Of the inference.
        prediction: Of the best guess from the server's prediction alone.
        pixels: Of the same inference on raw pixels.
    """

    groups: NDArray[np.int64]
    right: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    pixels: NDArray[np.bool_]

    def table(self, groups: int) -> Array:
        """Columns of which `rates` takes the means: ``(examples, 4 groups)``."""
        member = np.eye(groups)[self.groups]
        parts = [self.right, self.prediction, self.pixels]
        return np.concatenate([member, *(member * p[:, None] for p in parts)], axis=1)


def rates(means: Array) -> Array:
    """Column means ``(..., 4 groups)`` to scores ``(..., 3)``; groups not drawn do not count."""
    parts = means.reshape(*means.shape[:-1], PARTS + 1, -1)
    share = parts[..., :1, :]
    drawn = share > 0
    each = np.where(drawn, parts[..., 1:, :] / np.where(drawn, share, 1), 0)
    scores: Array = each.sum(-1) / np.maximum(drawn.sum(-1), 1)
    return scores


@dataclass(frozen=True)
class Verdict:
    """What an inference is worth.

    Attributes:
        score: Balanced accuracy or rate, with its interval.
        prediction: The same from the server's prediction alone.
        pixels: The same on raw pixels.
        advantage: ``(score - floor) / (pixels - floor)``, the floor being the better of prior and
            prediction. None where floor and ceiling are not clearly apart.
    """

    score: Summary
    prediction: float
    pixels: float
    advantage: Summary | None


def judged(trials_by_seed: Sequence[Trials], *, prior: float, resampler: Resampler) -> Verdict:
    """Judge an inference on the same examples under one or more seeds.

    The choice of the floor is repeated in every resample.

    Args:
        trials_by_seed: One for each seed, of the same examples in the same order.
        prior: Score of a guess without any release, in [0, 1].
        resampler: Draws seeds and examples.
    """
    groups = 1 + max(int(t.groups.max()) for t in trials_by_seed)
    tables = [t.table(groups) for t in trials_by_seed]

    def floor(scores: Array) -> Array:
        return np.maximum(scores[..., 1], prior)

    def room(means: Array) -> Array:
        scores = rates(means)
        distance: Array = scores[..., 2] - floor(scores)
        return distance

    def advantage(means: Array) -> Array:
        scores = rates(means)
        above, whole = scores[..., 0] - floor(scores), scores[..., 2] - floor(scores)
        # Far from zero in all but freak resamples, or there is no advantage to speak of.
        share: Array = above / np.maximum(whole, 1e-9)
        return share

    score = hierarchical_bootstrap(
        tables, resampler=resampler, statistic=lambda means: rates(means)[..., 0]
    )
    found = rates(np.mean([t.mean(0) for t in tables], axis=0))
    distance = hierarchical_bootstrap(tables, resampler=resampler, statistic=room)
    clear = distance.mean > CLEARLY * distance.std
    return Verdict(
        score=score,
        prediction=float(found[1]),
        pixels=float(found[2]),
        advantage=hierarchical_bootstrap(tables, resampler=resampler, statistic=advantage)
        if clear
        else None,
    )
