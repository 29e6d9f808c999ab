"""Whether images that the model was trained on leak more than others."""

import math
from collections.abc import Mapping
from dataclasses import replace

from splitbench.leaderboard.rows import Row
from splitbench.record import Interval

Rows = Mapping[str, Row]  # of one board, by system


def with_training_gap(others: Rows, trained: Rows) -> tuple[dict[str, Row], dict[str, Row]]:
    """Add to each row on unseen images what the same attacks find in training images.

    Args:
        others: Rows of the board whose targets the model has never seen.
        trained: Rows of the board whose targets it was trained on.

    Returns:
        Both; the first with `training_gap`, and both flagged ``training_images_leak_more`` where
        the gap is clear.
    """
    first, second = dict(others), dict(trained)
    for key in sorted({*others} & {*trained}):
        seen, unseen = trained[key].raw, others[key].raw
        if seen is None or unseen is None:
            continue
        gap = difference(seen, unseen)
        first[key] = replace(first[key], training_gap=gap)
        if gap.low > 0:
            for rows in (first, second):
                flags = {*rows[key].flags, "training_images_leak_more"}
                rows[key] = replace(rows[key], flags=tuple(sorted(flags)))
    return first, second


def difference(one: Interval, other: Interval) -> Interval:
    """The first minus the second, from samples that have no image in common.

    The interval recovers the variances from both intervals (MOVER).

    References:
        Zou, Donner. "Construction of confidence limits about effect measures: a general
        approach". Statistics in Medicine 2008. doi:10.1002/sim.3095
    """
    mean = one.mean - other.mean
    below = math.hypot(one.mean - one.low, other.high - other.mean)
    above = math.hypot(one.high - one.mean, other.mean - other.low)
    return Interval(mean=mean, low=mean - below, high=mean + above, n=min(one.n, other.n))
